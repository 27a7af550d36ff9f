"""How fast this software is, beside scripts that do the same, and beside forward passes alone.

    python -m scripts.benchmark
    python -m scripts.benchmark --full --images /data/imagenet/val

Four arms alternate, each run a process of its own: (a) a naive script, (b) a competent one, (c) this
software, (d) forward passes alone. Writes benchmark.csv and benchmark.md.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# The project is imported late, since the scripts of arms a and b do without it.
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

if TYPE_CHECKING:
    import pandas as pd

    from pixelrobust.engine import Engine
    from pixelrobust.outcomes.manifest import Manifest
    from pixelrobust.settings import RunSettings

REPOSITORY = Path(__file__).resolve().parent.parent
NUMS = (4, 8, 16, 32, 64)
SHORT_SIDE, SIDE = 256, 224
ARMS = {
    "a": "afternoon script",
    "b": "competent script",
    "c": "pixelrobust",
    "d": "forward passes alone",
}
_MODELS = "squeezenet1_1,efficientnet_lite0,resnet101"
_BATCH_SIZE = 50  # of arm a
_PACKAGES = ("python", "torch", "torchvision", "openvino", "timm", "numpy", "pillow")
_TRIAL_SECONDS = 1.5


Job = SimpleNamespace
"""A network and images, the same for all arms: what `prepare` returns."""


@dataclass(frozen=True)
class Steady:
    """The steady state of one run of an arm: forward passes, in images, and their seconds."""

    passes: int
    seconds: float
    engine: str
    precision: str
    batch_size: int
    workers: int | None = None


@dataclass(frozen=True)
class Measured:
    """One run of an arm; runs of a round are neighbours in time."""

    model: str
    arm: str
    round: int
    steady: Steady
    whole_seconds: float
    peak_bytes: int | None

    @property
    def rate(self) -> float:
        """Images a second in the steady state."""
        return self.steady.passes / self.steady.seconds


# --- arms a and b, as scripts are written -----------------------------------------------------


def build_network(job: Job) -> nn.Module:
    """Build a job's network, which takes normalised images, in eval mode on the device."""
    import timm
    import torchvision
    from safetensors.torch import load_file

    make = torchvision.models.get_model if job.source == "torchvision" else timm.create_model
    network: nn.Module = make(job.name, num_classes=job.classes)
    network.load_state_dict(load_file(job.weights))
    return network.to(job.device).eval()


def image_folder(job: Job, *steps: Any) -> ImageFolder:
    """Return the images, cropped; folders are called by the outputs that are right for them."""
    crop = [transforms.Resize(SHORT_SIDE), transforms.CenterCrop(SIDE)]
    folder = ImageFolder(job.images, transforms.Compose([*crop, *steps]))
    folder.target_transform = [int(name) for name in folder.classes].__getitem__
    return folder


class ChangePixels:
    """Gives `num` random pixels of an image random colours, as a transform."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __call__(self, image: Image.Image) -> Image.Image:
        pixels = np.array(image)
        height, width, channels = pixels.shape
        positions = np.array(random.sample(range(height * width), self.num))
        colours = np.random.randint(0, 256, (self.num, channels))  # noqa: NPY002 (workers seed it)
        pixels[positions // width, positions % width] = colours
        return Image.fromarray(pixels)


def naive(job: Job, seconds: float) -> Steady:
    """Run arm a: decode, change and normalise one image after the other, again for each num."""
    network, workers = build_network(job), os.cpu_count() or 1

    def count_wrong(num: int) -> int:
        normalize = transforms.Normalize(job.mean, job.std)
        folder = image_folder(job, ChangePixels(num), transforms.ToTensor(), normalize)
        wrong = 0
        with torch.no_grad():
            for images, labels in DataLoader(folder, _BATCH_SIZE, num_workers=workers):
                predicted = network(images.to(job.device)).argmax(dim=1).cpu()
                wrong += int((predicted != labels).sum())
        return wrong

    with torch.no_grad():  # the first batch is slow
        network(torch.zeros(min(_BATCH_SIZE, job.count), 3, SIDE, SIDE, device=job.device))
    return Steady(*_over_nums(job, seconds, count_wrong), "eager", "fp32", _BATCH_SIZE, workers)


def _over_nums(job: Job, seconds: float, count_wrong: Any) -> tuple[int, float]:
    """Go through the images for one num after the other, until so many seconds have passed."""
    passes, start = 0, time.perf_counter()
    for num in NUMS:
        count_wrong(num)
        passes += job.count
        if time.perf_counter() - start >= seconds:
            break
    return passes, time.perf_counter() - start


def change_pixels(images: Tensor, num: int, rng: np.random.Generator) -> None:
    """Give `num` random pixels of each of (B, C, H, W) uint8 images random colours, in place."""
    count, channels, height, width = images.shape
    chosen = [rng.choice(height * width, num, replace=False, shuffle=False) for _ in range(count)]
    positions = torch.from_numpy(np.stack(chosen))[:, None].expand(-1, channels, -1)
    colours = torch.from_numpy(rng.integers(0, 256, positions.shape, dtype=np.uint8))
    images.view(count, channels, -1).scatter_(2, positions, colours)


def competent(job: Job, seconds: float, workers: int, trial: int = 0) -> Steady:
    """Run arm b: bytes from workers that stay, changed in whole batches; channels last.

    With a trial of so many images, only say which number of workers is fastest.
    """
    rng, device = np.random.default_rng(0), torch.device(job.device)
    batch_size = {"cpu": 32, "cuda": 256}[device.type]
    network = build_network(job).to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(x, device=device).view(1, -1, 1, 1) * 255 for x in (job.mean, job.std)
    )

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        floats = images.to(device, non_blocking=True)
        floats = floats.to(torch.float32, memory_format=torch.channels_last)
        return network(floats.sub_(mean).div_(std)).argmax(dim=1).cpu()

    def loader(workers: int, limit: int) -> DataLoader[Any]:
        images = Subset(image_folder(job, transforms.PILToTensor()), range(min(limit, job.count)))
        return DataLoader(
            images, batch_size, num_workers=workers, persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )  # fmt: skip

    def count_wrong(batches: DataLoader[Any], num: int) -> int:
        wrong = 0
        for images, labels in batches:
            change_pixels(images, num, rng)
            wrong += int((predict(images) != labels).sum())
        return wrong

    def trial_seconds(workers: int) -> float:
        """Return the least of some passes: the first one has the start of the workers in it."""
        batches, passes = loader(workers, trial), list[float]()
        while sum(passes) < _TRIAL_SECONDS:
            start = time.perf_counter()
            count_wrong(batches, NUMS[-1])
            passes.append(time.perf_counter() - start)
        return min(passes)

    # The first batch is slow.
    predict(torch.zeros(min(batch_size, job.count), 3, SIDE, SIDE, dtype=torch.uint8))
    if trial:
        cores = os.cpu_count() or 1
        tried = sorted({0, *(2**power for power in range(cores.bit_length())), cores})
        return Steady(0, 0, "eager", "fp32", batch_size, min(tried, key=trial_seconds))
    batches = loader(workers, job.count)
    ended = _over_nums(job, seconds, lambda num: count_wrong(batches, num))
    return Steady(*ended, "eager", "fp32", batch_size, workers)


# --- arm d, and what all arms start from ------------------------------------------------------


def bare(job: Job, seconds: float, engine_keys: Sequence[str]) -> Steady:
    """Run arm d: forward passes by arm c's engine, of images that wait in memory."""
    from experiments.config import compose, read_settings
    from pixelrobust.engine import make_engine
    from pixelrobust.models.build import load_classifier

    settings = read_settings(compose(*job.keys, *engine_keys))
    images = decode_all(sorted(Path(job.images).glob("*/*"))[:256], settings)
    module = load_classifier(job.model, settings.models[job.model]).module
    engine = make_engine(module, settings.engine, images, passes=0)
    passes, passed = predict_for(seconds, engine, images)
    return Steady(passes, passed, engine.name, engine.precision, engine.batch_size)


def predict_for(seconds: float, engine: "Engine", images: Tensor) -> tuple[int, float]:
    """Count forward passes over (N, C, H, W) uint8 images, again and again, and their seconds."""
    rows = np.arange(max(len(images) // engine.batch_size, 1) * engine.batch_size) % len(images)
    batches = torch.split(images[torch.as_tensor(rows)].to(engine.device), engine.batch_size)

    def repeated(limit: float) -> Iterator[Tensor]:
        end = time.perf_counter() + limit
        for batch in itertools.cycle(batches):
            yield batch
            if time.perf_counter() >= end:
                return

    # On a GPU, predictions are under way until they are fetched.
    torch.cat(list(engine.predictions(repeated(0.5)))).cpu()
    start = time.perf_counter()
    predicted = torch.cat(list(engine.predictions(repeated(seconds)))).cpu()
    return len(predicted), time.perf_counter() - start


def decode_all(paths: Sequence[Path], settings: "RunSettings") -> Tensor:
    """Decode N image files to (N, 3, H, W) uint8."""
    from pixelrobust.datasets.decoding import decode

    decoded = [decode(path, settings.dataset.preprocessing) for path in paths]
    return torch.from_numpy(np.stack(decoded))


def find_images(folder: Path | None) -> list[Path]:
    """List all images below a folder, at any depth; for None, those of the foolbox package."""
    from pixelrobust.datasets.foolbox_samples import read_foolbox_samples

    from pixelrobust.datasets.lists import check_folder, is_image_file
    from pixelrobust.errors import InputError

    if folder is None:
        return list(read_foolbox_samples().paths)
    root = check_folder(folder, "--images", "/data/imagenet/val")
    files = sorted(path for path in root.rglob("*") if is_image_file(path, root))
    if not files:
        raise InputError(f"--images={root} holds no images; give a folder of class folders.")
    return files


def link_images(
    paths: Sequence[Path], classes: Sequence[int], count: int, outputs: int, folder: Path
) -> tuple[Path, Path]:
    """Lay out `count` links to images in folders called by class; return these and a file of names."""
    digits = len(str(outputs - 1))
    root, names = folder / "images", folder / "classes.txt"
    for position in range(count):
        path, index = paths[position % len(paths)], classes[position % len(paths)]
        link = root / f"{index:0{digits}}" / f"{position:06}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
    names.write_text("".join(f"{index:0{digits}}\n" for index in range(outputs)))
    return root, names


def _quoted(value: object) -> str:
    """Quote a value as Hydra reads it."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def prepare(given: argparse.Namespace, model: str, folder: Path) -> Job:
    """Write a network's weights and links to images into a folder; none of it is timed.

    Raises:
        InputError: an option is wrong.
    """
    from safetensors.torch import save_file

    from experiments.config import compose, read_settings
    from pixelrobust.engine import make_engine
    from pixelrobust.errors import InputError
    from pixelrobust.models.architectures import find_architecture
    from pixelrobust.models.build import load_classifier

    keys = ["experiment=table6", f"model={model}", "selection.models=null", "dataset=imagefolder"]
    keys += ["dataset.limit=null", *given.keys]
    settings = read_settings(compose(*keys))
    if not isinstance(settings.engine.devices, str):
        raise InputError("engine.devices names several devices; the benchmark runs on one.")
    paths, is_random = find_images(given.images), False
    some = decode_all(paths[:16], settings)
    try:
        classifier = load_classifier(model, settings.models[model])
    except InputError as error:
        # Without weights that can be had, those that the library starts training from will do.
        print(f"{error} Random weights take their place.", file=sys.stderr)
        torch.manual_seed(0)
        is_random, start = True, folder / "random.safetensors"
        save_file(find_architecture(settings.models[model]).build(None).state_dict(), start)
        keys += [f"models.{model}.match=names", f"models.{model}.weights={_quoted(start)}"]
        settings = read_settings(compose(*keys))
        classifier = load_classifier(model, settings.models[model])
    known = settings.models[model]
    plain = settings.engine.model_copy(update={"name": "eager", "precision": "fp32"})
    eager = make_engine(classifier.module, plain, some, 0)
    # A pass over the images takes plain PyTorch two seconds, so that starting workers weighs little.
    batches = math.ceil(2 * _images_a_second(eager, some) / _BATCH_SIZE)
    suitable = min(max(batches, 2) * _BATCH_SIZE, 2000)
    count = given.count or max(suitable, len(paths) if given.full else 0)
    paths = sorted(random.Random(0).sample(paths, min(count, len(paths))))
    classes: list[int] = []
    for start in range(0, len(paths), 64):
        images = decode_all(paths[start : start + 64], settings).to(eager.device)
        found = eager.predictions(torch.split(images, eager.batch_size))
        classes += torch.cat(list(found)).tolist()
    root, names = link_images(paths, classes, count, known.classes, folder)
    passes = count * len(NUMS)
    engine = make_engine(classifier.module, settings.engine, some, passes)
    draws = math.ceil(given.seconds * _images_a_second(engine, some) / passes)
    normalize, network = classifier.module.children()
    # An engine may have put them into channels-last layout.
    tensors = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "network.safetensors")
    mean, std = (tuple(normalize.state_dict()[key].flatten().tolist()) for key in ("mean", "std"))
    return Job(
        model=model, label=classifier.name, source=known.source, name=known.name,
        classes=known.classes, weights=str(folder / "network.safetensors"), random=is_random,
        mean=mean, std=std, images=str(root), count=count, files=len(paths),
        draws=max(draws, 1), device=str(eager.device),
        keys=(*keys, f"dataset.root={_quoted(root)}", f"dataset.classes={_quoted(names)}"),
    )  # fmt: skip


def _images_a_second(engine: "Engine", some: Tensor) -> float:
    passes, seconds = predict_for(1.0, engine, some)
    return passes / seconds


# --- processes --------------------------------------------------------------------------------

_PROC = Path("/proc")


def anonymous_bytes(pid: int) -> int:
    """Sum anonymous resident memory over a process and its descendants; 0 where nothing tells."""
    taken, todo = 0, [pid]
    while todo:
        folder = _PROC / str(todo.pop())
        # Any of them may have ended meanwhile.
        with contextlib.suppress(OSError):
            lines = (folder / "status").read_text().splitlines()
            taken += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
            for thread in (folder / "task").iterdir():
                todo += [int(child) for child in (thread / "children").read_text().split()]
    return taken * 1024


def run_module(*arguments: str) -> tuple[str, float, int | None]:
    """Run a module by this Python; return what it prints, its seconds and its peak memory in bytes.

    Raises:
        InputError: it failed. What it printed stands on standard error then, unless it was one
            sentence that says what is wrong.
    """
    from pixelrobust.errors import InputError

    peak, ended = 0, threading.Event()

    def watch(pid: int) -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, anonymous_bytes(pid))

    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", cwd=REPOSITORY,
    )  # fmt: skip
    watcher = threading.Thread(target=watch, args=(process.pid,), daemon=True)
    watcher.start()
    printed, errors = process.communicate()
    ended.set()
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode == 2 and errors.startswith("error: "):
        raise InputError(errors.removeprefix("error: ").strip())
    if process.returncode:
        print(errors, file=sys.stderr)
        raise InputError(f"{arguments[0]} failed with exit code {process.returncode}; see above.")
    return printed, seconds, peak or None


@dataclass
class Bench:
    """A job with what its arms leave for each other: workers of b, manifests of c for d."""

    job: Job
    folder: Path
    seconds: float
    workers: int = 0
    manifests: "list[Manifest]" = field(default_factory=list)

    def find_workers(self, images: int) -> None:
        self.workers = json.loads(self._run("b", "0", "0", str(images))[0])["workers"]

    def measure(self, arm: str, number: int) -> Measured:
        """Run an arm, as part of the round of this number."""
        if arm == "c":
            steady, seconds, peak = self._run_c()
        else:
            own = {"a": [], "b": [str(self.workers)], "d": self._engine_keys()}[arm]
            printed, seconds, peak = self._run(arm, str(self.seconds), *own)
            steady = Steady(**json.loads(printed.splitlines()[-1]))
        return Measured(self.job.label, arm, number, steady, seconds, peak)

    def _run(self, arm: str, *arguments: str) -> tuple[str, float, int | None]:
        return run_module(
            "scripts.benchmark", "arm", arm, str(self.folder / "job.json"), *arguments
        )

    def _engine_keys(self) -> list[str]:
        if not self.manifests:
            return []
        engine = self.manifests[-1].engines[self.job.label]
        return [f"engine.{key}={engine[key]}" for key in ("name", "precision", "batch_size")]

    def _run_c(self) -> tuple[Steady, float, int | None]:
        """Run this software as a user does who never did before: nothing is in its cache."""
        from pixelrobust.outcomes.manifest import read_manifest

        fresh = self.folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        paths = [f"paths.{key}={_quoted(fresh / key)}" for key in ("results", "cache")]
        keys = (*self.job.keys, f"draws={self.job.draws}", *paths)
        _, seconds, peak = run_module("experiments.run", *keys)
        (path,) = fresh.glob("results/*/outcomes/*.json")
        self.manifests.append(read_manifest(path))
        return steady_of(self.manifests[-1], self.job.label), seconds, peak


def steady_of(manifest: "Manifest", label: str) -> Steady:
    """Return the evaluation of a network in a run of this software.

    The unchanged images cost nothing in it: their predictions are known from the selection.
    """
    grid, engine = manifest.config["perturbation"], manifest.engines[label]
    cells = len(grid["num"]) * len(grid["amplitude"]) * len(grid["area"])
    return Steady(
        cells * manifest.images * manifest.draws, manifest.seconds[f"evaluation of {label}"],
        engine["name"], engine["precision"], engine["batch_size"],
    )  # fmt: skip


def run_arm(arm: str, job_file: str, *arguments: str) -> int:
    """Run an arm in this process, and print its steady state."""
    job = Job(**json.loads(Path(job_file).read_text()))
    seconds, own = float(arguments[0]), arguments[1:]
    if arm == "a":
        steady = naive(job, seconds)
    else:
        steady = competent(job, seconds, *map(int, own)) if arm == "b" else bare(job, seconds, own)
    print(json.dumps(asdict(steady)))
    return 0


# --- results ----------------------------------------------------------------------------------

COLUMNS = [
    "model", "arm", "images_per_second", "ratio_to_a", "ratio_to_d", "peak_mb", "runs",
    "images_per_second_low", "images_per_second_high", "ratio_to_a_low", "ratio_to_a_high",
    "ratio_to_d_low", "ratio_to_d_high", "passes", "seconds", "whole_process_seconds", "engine",
    "precision", "batch_size", "workers",
]  # fmt: skip
"""Of benchmark.csv. Rates, ratios, MB (1e6 bytes) and seconds are medians over runs, low and high
their range."""
_DECIMALS = {"images_per_second": 2, "ratio": 4, "peak_mb": 1, "seconds": 2, "whole": 2}


def summarise(runs: Sequence[Measured]) -> "pd.DataFrame":
    """Return one row a network and arm, in the order of their first runs; columns as in COLUMNS."""
    import pandas as pd

    models = dict.fromkeys(run.model for run in runs)
    groups = [[run for run in runs if (run.model, run.arm) == (m, a)] for m in models for a in ARMS]
    rows = [_row(group, runs) for group in groups if group]
    digits = {
        column: number
        for column in COLUMNS
        for start, number in _DECIMALS.items()
        if column.startswith(start)
    }
    return pd.DataFrame(rows, columns=COLUMNS).astype({"workers": "Int64"}).round(digits)


def _row(own: Sequence[Measured], runs: Sequence[Measured]) -> dict[str, object]:
    first = own[0]
    rates = {(run.round, run.arm): run.rate for run in runs if run.model == first.model}
    peaks = [run.peak_bytes / 1e6 for run in own if run.peak_bytes is not None]
    row: dict[str, object] = {
        "model": first.model,
        "arm": first.arm,
        "runs": len(own),
        "passes": median(run.steady.passes for run in own),
        "seconds": median(run.steady.seconds for run in own),
        "whole_process_seconds": median(run.whole_seconds for run in own),
        "peak_mb": median(peaks) if peaks else None,
        **{
            key: getattr(first.steady, key)
            for key in ("engine", "precision", "batch_size", "workers")
        },
    }
    found = {"images_per_second": [run.rate for run in own]}
    for other in "ad":
        pairs = [run.rate / rates[run.round, other] for run in own if (run.round, other) in rates]
        found[f"ratio_to_{other}"] = pairs
    for column, values in found.items():
        if values:
            ends = {f"{column}_low": min(values), f"{column}_high": max(values)}
            row |= {column: median(values), **ends}
    return row


def for_reading(summary: "pd.DataFrame") -> "pd.DataFrame":
    """Return the summary as text."""
    import pandas as pd

    from pixelrobust.tables.rates import significant

    def numbers(column: str) -> list[str]:
        return ["" if pd.isna(value) else significant(value) for value in summary[column]]

    def with_range(column: str) -> list[str]:
        columns = (numbers(f"{column}{end}") for end in ("", "_low", "_high"))
        return [
            value if low == high else f"{value} ({low}–{high})"
            for value, low, high in zip(*columns, strict=True)
        ]

    return pd.DataFrame(
        {
            "Model": summary["model"],
            "Arm": [f"({arm}) {ARMS[arm]}" for arm in summary["arm"]],
            "Images/s": with_range("images_per_second"),
            "Times (a)": with_range("ratio_to_a"),
            "Times (d)": with_range("ratio_to_d"),
            "Peak memory, MB": numbers("peak_mb"),
            "Forward passes": [f"{passes:,.0f}" for passes in summary["passes"]],
            "Their seconds": numbers("seconds"),
            "Seconds of the whole process": numbers("whole_process_seconds"),
            "Runs": summary["runs"].astype(str),
        }
    )


_READING = (
    "The grid of Table 6: real images with 4, 8, 16, 32 and 64 random pixels changed. Every run of an "
    "arm is a process of its own; arms and networks alternate, so that whatever slows the machine "
    "slows all of them. Figures are medians over runs, with their range. A ratio is between neighbours "
    "in time: runs of the same round.",
    "Images/s are of the steady state: forward passes over the seconds that they took, with all that "
    "an arm does for each image, but without imports, loading and converting networks, and a warm-up; "
    "for (c) also without decoding and the predictions for unchanged images, which it makes once. The "
    "whole process has all of it; arms differ in their numbers of forward passes, so compare what "
    "comes on top of these.",
    "Peak memory is anonymous resident memory (memory maps aside), seen every 50 ms, of a process "
    "with its workers; what forked workers share with their parent counts for each. MB are 1e6 bytes.",
)
_ABOUT = {
    "a": "the script that a researcher writes in an afternoon: torchvision's ImageFolder and a "
    "DataLoader; PIL decodes, NumPy changes each image in the transform, the network runs as "
    "plain PyTorch in fp32; all of it again for each num.",
    "b": "the same by someone who knows PyTorch: channels-last, inference mode, bytes from workers "
    "that stay, as many as were fastest when tried, changes made in whole batches.",
    "c": "this software, from an empty cache: `python -m experiments.run experiment=table6`.",
    "d": "forward passes by (c)'s engine, of images that wait in memory; nothing else.",
}


def page(summary: "pd.DataFrame", benches: Sequence[Bench], runs: Sequence[Measured]) -> str:
    """Return the results as Markdown: what was compared, how, and on what."""
    from pixelrobust.errors import escape_markdown
    from pixelrobust.tables.rates import markdown_table

    arms = [f"- ({arm}) {ARMS[arm]}: {_ABOUT[arm]}" for arm in ARMS if arm in set(summary["arm"])]
    networks = [f"- {escape_markdown(_network(bench, runs))}" for bench in benches]
    manifests = [manifest for bench in benches for manifest in bench.manifests]
    machine = _machine(manifests[0].hardware["gpu"] if manifests else None)
    table = markdown_table(for_reading(summary))
    parts = ["# Benchmark", table, *_READING, "\n".join(arms), "\n".join(networks), machine]
    return "\n\n".join(parts) + "\n"


def _network(bench: Bench, runs: Sequence[Measured]) -> str:
    """Say what is particular to a network."""
    job = bench.job
    shared = f" (from {job.files} files, each used several times)" if job.files < job.count else ""
    parts = [f"{job.label}: {job.count} images{shared}"]
    if job.random:
        parts.append("random weights, made on the spot")
    for arm, own in {run.arm: run.steady for run in runs if run.model == job.label}.items():
        workers = "" if own.workers is None else f", {own.workers} workers"
        parts.append(f"({arm}) {own.engine} in {own.precision}, batch {own.batch_size}{workers}")
    if bench.manifests:
        images, engines, selection = (
            median(manifest.seconds.get(part, 0.0) for manifest in bench.manifests)
            for part in ("images", "engines", "selection")
        )
        parts.append(f"draws of each image in (c): {job.draws}")
        parts.append(
            f"of (c)'s whole process, {images:.1f} s go to decoding, which a second run finds done, "
            f"{engines:.1f} s to starting the engine, {selection - engines:.1f} s to loading the "
            "network and to the unchanged images"
        )
    return "; ".join(parts) + "."


def _machine(gpu: str | None) -> str:
    """Say what a benchmark ran on; nothing that identifies the machine."""
    from pixelrobust.errors import escape_markdown
    from pixelrobust.outcomes.manifest import describe_software

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else processor
    parts = [processor, f"{os.cpu_count()} cores", *([gpu] if gpu else []), platform.system()]
    software = describe_software(REPOSITORY)
    parts += [f"{name} {software[name]}" for name in _PACKAGES if software[name]]
    if software["commit"]:
        changed = " with uncommitted changes" if software["uncommitted_changes"] else ""
        parts.append(f"commit {software['commit'][:10]}{changed}")
    return escape_markdown(f"{', '.join(parts)}.")


# --- the command line -------------------------------------------------------------------------


def run(given: argparse.Namespace) -> int:
    """Measure, and write benchmark.csv and benchmark.md after every round.

    Raises:
        InputError: anything the user gave is wrong.
    """
    from pixelrobust.files import check_writable, write_text
    from pixelrobust.tables.rates import write_csv

    check(given)
    check_writable(given.output, "--output")
    runs, text = list[Measured](), ""
    with tempfile.TemporaryDirectory() as temporary:
        benches = []
        for model in given.models:
            print(f"{model}: preparing", flush=True)
            folder = Path(temporary) / model
            folder.mkdir()
            job = prepare(given, model, folder)
            (folder / "job.json").write_text(json.dumps(vars(job)))
            benches.append(Bench(job, folder, given.seconds))
            if "b" in given.arms:
                benches[-1].find_workers(256 if given.full else 64)
        for number in range(given.rounds):
            for bench, arm in itertools.product(benches, given.arms):
                runs.append(bench.measure(arm, number))
                rate = f"{runs[-1].rate:,.1f} images/s, {runs[-1].whole_seconds:.1f} s in all"
                print(f"round {number + 1}, {bench.job.label}, ({arm}): {rate}", flush=True)
            summary = summarise(runs)
            text = page(summary, benches, runs)
            write_csv(summary, given.output / "benchmark.csv")
            write_text(given.output / "benchmark.md", text)
    print(text)
    return 0


def check(given: argparse.Namespace) -> None:
    """Complete what the command line gave, and refuse what is wrong with a sentence."""
    from experiments.config import options
    from pixelrobust.errors import InputError
    from pixelrobust.settings import EngineSettings

    given.models = list(dict.fromkeys(given.models.split(",")))
    known = [name for name in options("model") if name != "base"]
    for model in given.models:
        if model not in known:
            raise InputError(f"--models={model} is unknown; choose from {', '.join(known)}.")
    letters, arms = set(given.arms.split(",")), given.arms
    if not letters <= set(ARMS):
        raise InputError(f"--arms={arms} is wrong; give some of {','.join(ARMS)}.")
    if "d" in letters and "c" not in letters:
        raise InputError(f"--arms={arms} lacks c, whose engine d runs; add it.")
    given.arms = "".join(sorted(letters))
    given.rounds = given.rounds or (5 if given.full else 2)
    given.seconds = given.seconds or (30 if given.full else 5)
    fields = EngineSettings.model_fields
    for key in given.keys:
        name, _, value = key.partition("=")
        known = name in [f"engine.{field}" for field in fields]
        known |= name == "engine" and value in options("engine")
        known |= name in [f"models.{model}.weights" for model in given.models]
        if not known:
            raise InputError(
                f"{key} is not a key of the engine; give engine=eager, compile, openvino or auto, "
                f"engine.KEY=VALUE with one of {', '.join(fields)}, or models.NAME.weights=FILE."
            )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is wrong; give a whole number of at least 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    from experiments.exits import exit_code

    if words[:1] == ["arm"]:
        return exit_code(lambda: run_arm(*words[1:]))
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--models", default=_MODELS, help=f"of configs/model, with commas; {_MODELS}")
    add("--images", type=Path, metavar="FOLDER", help="of images; else those of foolbox")
    add("--count", type=_count, help="of images; else what suits the machine, or all (--full)")
    add("--arms", default=",".join(ARMS), help="letters with commas; a,b,c,d")
    add("--full", action="store_true", help="five rounds, all images, half a minute for each run")
    add("--rounds", type=_count, help="runs of each arm; 2, or 5 (--full)")
    add("--seconds", type=_count, help="of forward passes in each run; 5, or 30 (--full)")
    add("--output", type=Path, default=REPOSITORY / "results", metavar="FOLDER", help="results")
    add(
        "keys", nargs="*", metavar="KEY=VALUE", help="of engine and models, for (c) and with it (d)"
    )
    given = parser.parse_args(words)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
