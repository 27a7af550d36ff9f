"""The record of a run: everything that its tables and captions need besides the outcomes."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.outcomes.kinds import kind_of
from pixelrobust.perturbation.grid import PROTOCOL_VERSION, AmplitudeShare
from pixelrobust.settings import fingerprint

if TYPE_CHECKING:
    import torch

_COUNTS = ("draws", "candidates", "survivors", "images", "files", "repeated")
_MAPPINGS = ("config", "rejected", "weights_sha256", "engines", "software", "hardware", "seconds")
_PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "pandas", "pillow", "hydra-core", "foolbox", "openvino",
)  # fmt: skip
# Groups and keys of a config that rows show; images are compared by their digest.
_TOLD_APART = (
    "name", "models", "selection_models", "perturbation", "dataset", "merged", "attack.epsilon",
    "retrain.model", "retrain.num", "retrain.controls", "retrain.seeds",
)  # fmt: skip
# What runs write is no change of the code.
_NOT_RESULTS = ("--", ".", ":(exclude)results")


class Screened(NamedTuple):
    """Count what was screened of a network's predictions (see `pixelrobust.evaluation.screening`).

    Attributes:
        screened: changed images.
        calibrated: of these, those that were computed in both arithmetics to see how large errors are.
        error: the largest error of a gap among them.
        bound: below which gaps were not trusted in the end.
        doubled: how often it was doubled.
        recomputed: images below the bound, computed again in fp32.
        flipped: of these, how many fp32 takes for another class.
        checked: others, not calibrated, that were drawn to be computed in both; in the end not one is
            taken for another class.
        widest: the largest gap of an image that fp32 is known to take for another class.
    """

    screened: int = 0
    calibrated: int = 0
    error: float = 0.0
    bound: float = 0.0
    doubled: int = 0
    recomputed: int = 0
    flipped: int = 0
    checked: int = 0
    widest: float = 0.0

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Screened":
        """Return what is noted of an engine; zeros where nothing is, or no numbers are."""
        return cls(
            **{key: about[key] for key in cls._fields if isinstance(about.get(key), int | float)}
        )

    def added_to(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is noted of an engine, with these counts and those that it has already."""
        return dict(about) | self.plus(Screened.of(about))._asdict()

    def plus(self, other: "Screened") -> "Screened":
        """Return both together: sums of counts, the largest of all else."""
        sums = ("screened", "calibrated", "recomputed", "flipped", "checked")
        both = zip(self._fields, self, other, strict=True)
        return Screened._make(own + one if key in sums else max(own, one) for key, own, one in both)


@dataclass(frozen=True)
class Manifest:
    """The record of one run, as plain data.

    Attributes:
        name: of the experiment.
        config: what determines the numbers (`RunSettings.identity`).
        draws: independent changes of each image in each cell.
        image_size: (height, width) in pixels.
        amplitude_share: how amplitudes enter the Pixel-index.
        description, caveat: the data set's words for captions.
        candidates: images looked at.
        survivors: images that all selection models classified correctly.
        images: images evaluated.
        rejected: for each selection model, how many candidates it misclassified.
        image_list_sha256: digest of keys, labels and pixels of the images evaluated.
        weights_sha256: for each model, the digest of its weights.
        engines: for each model, what ran it: name, precision, batch_size; if it was screened, in which
            arithmetic (fast), and what came of it (see `Screened`); and
            of how many unchanged images its predictions were compared with eager's in fp32, and how many
            differ (compared, differing); and, where memory made it halve its batches, to what size, and how many of
            these predictions that flips (halved_to, flipped_by_halving).
        software, hardware, seconds: versions, machine, and how long each part took.
        unreadable: keys of files that were left out, since they cannot be read.
        files: how many files there are, those among them; 0 where that was not kept.
        repeated: how many of the images show the very pixels of another of them.
    """

    name: str
    config: dict[str, Any]
    draws: int
    image_size: tuple[int, int]
    amplitude_share: AmplitudeShare
    description: str
    caveat: str
    candidates: int
    survivors: int
    images: int
    rejected: dict[str, int]
    image_list_sha256: str
    weights_sha256: dict[str, str]
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    software: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    files: int = 0
    repeated: int = 0

    def address(self) -> str:
        """Return a short digest of everything that determines the numbers."""
        engines = {
            model: (engine["name"], engine["precision"]) for model, engine in self.engines.items()
        }
        protocol = self.software.get("protocol")
        return fingerprint(
            self.config, self.image_list_sha256, self.weights_sha256, engines, protocol
        )[:10]

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: the file is missing or is not a manifest.
    """
    try:
        data = dict(json.loads(path.read_text(encoding="utf-8")))
        tuples = {key: tuple(data.get(key, ())) for key in ("image_size", "unreadable")}
        manifest = Manifest(**data | tuples)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"manifest {path} cannot be read ({error}); run the experiment again."
        ) from error
    wrong = _faulty_fields(manifest)
    if wrong:
        raise InputError(
            f"manifest {path} is of another form ({', '.join(wrong)}); run the experiment again."
        )
    if manifest.config.get("evaluation") == "adaptive":
        raise InputError(
            f"manifest {path} is of evaluation=adaptive, which this version does not read; remove it "
            "with its outcomes, or run the experiment again with more draws or images."
        )
    return manifest


def _faulty_fields(manifest: Manifest) -> list[str]:
    """Name the fields of a manifest, which anyone may have written, that hold something else."""
    wrong = [key for key in _COUNTS if not isinstance(getattr(manifest, key), int)]
    wrong += [key for key in _MAPPINGS if not isinstance(getattr(manifest, key), dict)]
    numbers = [*manifest.rejected.values(), *manifest.seconds.values()] if not wrong else []
    if not all(isinstance(value, int | float) for value in numbers):
        wrong = ["rejected or seconds"]
    if not wrong and not all(isinstance(one, dict) for one in manifest.engines.values()):
        wrong = ["engines"]
    if len(manifest.image_size) != 2 or not all(isinstance(n, int) for n in manifest.image_size):
        wrong.append("image_size")
    return wrong


def why_apart(first: Manifest, other: Manifest) -> str:
    """Return a sentence on why the rows of two runs do not belong into one table; "" where they do."""
    for key in ("image_list_sha256", "draws", "image_size", "amplitude_share"):
        if getattr(first, key) != getattr(other, key):
            return _refusal(key, first, other)
    kinds = [kind_of(one.config).name for one in (first, other)]
    if kinds[0] != kinds[1]:
        return f"runs of {kinds[0]} and of {kinds[1]} rows are not merged."
    if first.config["seed"] != other.config["seed"]:
        return "runs with different seeds have different changes and are not merged."
    common = set(first.weights_sha256) & set(other.weights_sha256)
    changed = sorted(n for n in common if first.weights_sha256[n] != other.weights_sha256[n])
    if changed:
        return (
            f"runs with different weights of {changed[0]} are not merged; give them models.<name>.label "
            "apart."
        )
    ways = [_way(one.config) for one in (first, other)]
    different = sorted(key for key in ways[0] | ways[1] if ways[0].get(key) != ways[1].get(key))
    return f"runs with different {', '.join(different)} are not merged." if different else ""


def _way(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config rows are not told apart by, by dotted keys."""
    way: dict[str, Any] = {}
    for group, value in config.items():
        if group in _TOLD_APART:
            continue
        if isinstance(value, dict):
            way |= {f"{group}.{key}": own for key, own in value.items()}
        else:
            way[group] = value
    return {key: value for key, value in way.items() if key not in _TOLD_APART}


def merge_manifests(manifests: list[Manifest]) -> Manifest:
    """Merge the records of several runs whose outcomes belong into one table.

    The config of the merged one holds what is the same in all.

    Raises:
        InputError: the runs saw different images, or treated them differently (`why_apart`).
    """
    first, engines = manifests[0], dict[str, dict[str, Any]]()
    for other in manifests[1:]:
        refusal = why_apart(first, other)
        if refusal:
            raise InputError(refusal)
    for manifest in manifests:
        for name, own in manifest.engines.items():
            before = Screened.of(engines.get(name, {}))
            engines[name] = before.added_to(own) if "fast" in own else own
    return replace(
        first,
        config=_common([manifest.config for manifest in manifests])
        | {"merged": sorted(manifest.address() for manifest in manifests)},
        weights_sha256={k: v for manifest in manifests for k, v in manifest.weights_sha256.items()},
        engines=engines,
        seconds={},
    )


def _common(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the keys that all have with one value, within groups too."""
    first, *others = configs
    found: dict[str, Any] = {}
    for key, value in first.items():
        values = [value, *(other.get(key) for other in others)]
        if all(isinstance(one, dict) for one in values):
            found[key] = _common(values)
        elif all(one == value for one in values):
            found[key] = value
    return found


def _refusal(key: str, first: Manifest, other: Manifest) -> str:
    if key == "image_list_sha256":
        return (
            f"runs over different image lists ({first.images} and {other.images} images) are not merged, "
            "since their rates cannot be compared; set selection.models to all models of the sweep."
        )
    return f"runs with different {key} ({getattr(first, key)} and {getattr(other, key)}) are not merged."


def describe_software(root: Path | None) -> dict[str, Any]:
    """Return versions, and the git commit of the repository at root (None outside one).

    Args:
        root: of this software itself: git runs what a repository's own settings say; None where it
            was installed, perhaps within a repository of something else.
    """
    return {
        "pixelrobust": _version("pixelrobust"),
        "protocol": PROTOCOL_VERSION,
        "commit": _git(root, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(root, "status", "--porcelain", "-uno", *_NOT_RESULTS)),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def describe_hardware(device: "torch.device") -> dict[str, Any]:
    """Return the machine's kind; nothing that identifies it."""
    # Torch is there where there is a device; reading a manifest needs none.
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path | None, *arguments: str) -> str | None:
    if root is None:
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
