"""How fast this software is, beside scripts that do the same, and beside forward passes alone.

    python -m scripts.benchmark
    python -m scripts.benchmark --full --images /data/imagenet/val
    python -m scripts.benchmark engine.devices=cuda

Five arms alternate, each run a process of its own: (a) a naive script, (b) a competent one, (c) this
software, (d) forward passes alone, (e) this software with engine.precision=screened. Writes benchmark.csv and
benchmark.md. On a GPU (c), (d) and (e) are compared, for the paper's networks, in fp32 and TF32, and it writes
benchmark-gpu.csv and benchmark-gpu.md. docs/scaling.md says how it measures.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import truediv
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# The project, and pandas, are imported late, since the scripts of arms a and b do without them.
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
    from pixelrobust.settings import PreprocessingSettings

REPOSITORY = Path(__file__).resolve().parent.parent
NUMS = (4, 8, 16, 32, 64)
SHORT_SIDE, SIDE = 256, 224
ARMS = {
    "a": "naive script", "b": "competent script", "c": "pixelrobust",
    "d": "forward passes alone", "e": "pixelrobust, screened",
}  # fmt: skip
_SCREENED = "screened"
# Of arms that run it, keys of their own.
_SOFTWARE = {"c": (), "e": (f"engine.precision={_SCREENED}",)}
_MODELS = "squeezenet1_1,efficientnet_lite0,resnet101"
_GPU_MODELS = "resnet101,densenet121,vgg16,alexnet,squeezenet1_1"
_NAIVE_BATCH = 50
# On a GPU: so many images in memory, and what runs them.
_GPU_IMAGES = 4096
_GPU_PRECISIONS = ("fp32", "tf32", _SCREENED)
_PACKAGES = ("python", "torch", "torchvision", "openvino", "timm", "numpy", "pillow")
_TRIAL_SECONDS = 1.5
_PROC = Path("/proc")

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


def change_image(image: Image.Image, num: int) -> Image.Image:
    """Give `num` random pixels of an image random colours, as a transform does it."""
    pixels = np.array(image)
    height, width, channels = pixels.shape
    positions = np.array(random.sample(range(height * width), num))
    colours = np.random.randint(0, 256, (num, channels))  # noqa: NPY002 (workers seed it)
    pixels[positions // width, positions % width] = colours
    return Image.fromarray(pixels)


def naive(job: Job) -> Steady:
    """Run arm a: decode, change and normalise one image after the other, again for each num."""
    network, workers = build_network(job), os.cpu_count() or 1

    def count_wrong(num: int) -> int:
        normalize = transforms.Normalize(job.mean, job.std)
        folder = image_folder(job, partial(change_image, num=num), transforms.ToTensor(), normalize)
        wrong = 0
        with torch.no_grad():
            for images, labels in DataLoader(folder, _NAIVE_BATCH, num_workers=workers):
                predicted = network(images.to(job.device)).argmax(dim=1).cpu()
                wrong += int((predicted != labels).sum())
        return wrong

    # The first batch is slow.
    with torch.no_grad():
        network(torch.zeros(min(_NAIVE_BATCH, job.count), 3, SIDE, SIDE, device=job.device))
    return Steady(*_over_nums(job, count_wrong), "eager", "fp32", _NAIVE_BATCH, workers)


def _over_nums(job: Job, count_wrong: Callable[[int], object]) -> tuple[int, float]:
    """Go through the images for one num after the other, until the job's seconds have passed."""
    passes, start = 0, time.perf_counter()
    for num in NUMS:
        count_wrong(num)
        passes += job.count
        if time.perf_counter() - start >= job.seconds:
            break
    return passes, time.perf_counter() - start


def change_pixels(images: Tensor, num: int, rng: np.random.Generator) -> None:
    """Give `num` random pixels of each of (B, C, H, W) uint8 images random colours, in place."""
    count, channels, height, width = images.shape
    chosen = [rng.choice(height * width, num, replace=False, shuffle=False) for _ in range(count)]
    positions = torch.from_numpy(np.stack(chosen))[:, None].expand(-1, channels, -1)
    colours = torch.from_numpy(rng.integers(0, 256, positions.shape, dtype=np.uint8))
    images.view(count, channels, -1).scatter_(2, positions, colours)


def competent(job: Job) -> Steady:
    """Run arm b: bytes from workers that stay, changed in whole batches; channels last."""
    rng, device = np.random.default_rng(0), torch.device(job.device)
    batch_size = {"cpu": 32, "cuda": 256}[device.type]
    network = build_network(job).to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(x, device=device).view(1, -1, 1, 1) * 255 for x in (job.mean, job.std)
    )
    images = Subset(image_folder(job, transforms.PILToTensor()), range(job.count))
    batches: DataLoader[Any] = DataLoader(
        images, batch_size, num_workers=job.workers, persistent_workers=job.workers > 0,
        pin_memory=device.type == "cuda",
    )  # fmt: skip

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        floats = images.to(device, non_blocking=True)
        floats = floats.to(torch.float32, memory_format=torch.channels_last)
        logits: Tensor = network(floats.sub_(mean).div_(std))
        return logits.argmax(dim=1).cpu()

    def count_wrong(num: int) -> int:
        wrong = 0
        for images, labels in batches:
            change_pixels(images, num, rng)
            wrong += int((predict(images) != labels).sum())
        return wrong

    # The first batch is slow.
    predict(torch.zeros(min(batch_size, job.count), 3, SIDE, SIDE, dtype=torch.uint8))
    if job.trial:
        # So is the first pass, which has the start of the workers in it.
        count_wrong(NUMS[-1])
    ended = _over_nums(job, count_wrong)
    return Steady(*ended, "eager", "fp32", batch_size, job.workers)


def fastest_workers(job: Job, images: int) -> int:
    """Return the number of workers with which arm b is fastest on so many images."""
    cores = os.cpu_count() or 1
    tried = sorted({0, *(1 << power for power in range(cores.bit_length())), cores})

    def seconds(workers: int) -> float:
        own = {"count": min(job.count, images), "seconds": _TRIAL_SECONDS, "workers": workers}
        steady = competent(Job(**vars(job) | own | {"trial": True}))
        return steady.seconds / steady.passes

    return min(tried, key=seconds)


def bare(job: Job, engine_keys: Sequence[str]) -> Steady:
    """Run arm d: forward passes by arm c's engine, of images that wait in memory."""
    from experiments.config import settings_of
    from pixelrobust.engine import make_engine
    from pixelrobust.models.build import load_classifier

    settings = settings_of(*job.keys, *engine_keys)
    some = sorted(Path(job.images).glob("*/*"))[:256]
    images = decode_all(some, settings.dataset.preprocessing)
    module = load_classifier(job.model, settings.models[job.model]).module
    engine = make_engine(module, settings.engine, images, passes=0)
    passes, seconds = predict_for(job.seconds, engine, images)
    return Steady(passes, seconds, engine.name, engine.precision, engine.batch_size)


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


def on_a_gpu(number: int, job: Job, precision: str) -> Iterator[Measured]:
    """Run arms on a GPU as part of the round of this number, of images that wait in the machine's memory.

    Arm c, or e where the precision is screened, evaluates the grid of Table 6 and returns its outcomes;
    arm d shows the network batches of floats that lie on the GPU, and nothing is done with its logits.
    """
    from experiments.config import settings_of
    from pixelrobust.engine import make_engine
    from pixelrobust.evaluation.cells import evaluate_cells
    from pixelrobust.evaluation.forward import Design, Task
    from pixelrobust.models.build import load_classifier
    from pixelrobust.perturbation.grid import build_grid
    from pixelrobust.perturbation.pixels import as_floats

    begun = time.perf_counter()
    settings = settings_of(*job.keys, f"engine.precision={precision}", "engine.name=eager")
    links = sorted(Path(job.images).glob("*/*"), key=lambda path: path.name)[: job.files]
    images = decode_all(links, settings.dataset.preprocessing)[torch.arange(job.count) % job.files]
    module = load_classifier(job.model, settings.models[job.model]).module
    engine = make_engine(module, settings.engine, images, passes=0)
    torch.cuda.reset_peak_memory_stats(engine.device)
    batch = as_floats(images[: engine.batch_size].to(engine.device))

    def passes_alone(seconds: float) -> tuple[int, float]:
        passes, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(4):
                engine.logits(batch)
            torch.cuda.synchronize(engine.device)
            passes += 4 * len(batch)
        return passes, time.perf_counter() - start

    passes_alone(1)
    alone = passes_alone(job.seconds)
    rate = truediv(*alone)
    # Whole batches of images; of a slow network only some of them.
    cells = build_grid(NUMS)
    batches = math.ceil(job.seconds * rate / len(NUMS) / engine.batch_size)
    count = min(job.count, max(2, batches) * engine.batch_size)
    keys, labels = [str(row) for row in range(count)], np.zeros(count, dtype=np.int64)
    task = Task(engine, images[:count], keys, labels, job.label)
    draws = math.ceil(job.seconds * rate / (count * len(NUMS)))
    # Predictions for unchanged images are known from the selection.
    shown = torch.split(images[:count].to(engine.device), engine.batch_size)
    unchanged = torch.cat(list(engine.predictions(shown))).cpu().numpy()
    evaluate_cells(task, Design(cells[:2], 1, 0), unchanged=unchanged)
    start = time.perf_counter()
    rows = len(evaluate_cells(task, Design(cells, draws, 0), unchanged=unchanged)) - count
    own = (rows, time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(engine.device)
    whole = time.perf_counter() - begun
    arms = [("e", own)] if precision == _SCREENED else [("c", own), ("d", alone)]
    for arm, found in arms:
        steady = Steady(*found, engine.name, precision, engine.batch_size)
        yield Measured(job.label, arm, number, steady, whole, peak)


def random_weights(model: str, keys: Sequence[str], folder: Path) -> list[str]:
    """Write weights that training would start from into a folder; return the keys that name them."""
    from safetensors.torch import save_file

    from experiments.config import quoted, settings_of
    from pixelrobust.models.architectures import find_architecture

    path, settings = folder / "random.safetensors", settings_of(*keys)
    torch.manual_seed(0)
    save_file(find_architecture(settings.models[model]).build(None).state_dict(), path)
    return [f"models.{model}.match=names", f"models.{model}.weights={quoted(path)}"]


def _keys_for(model: str, keys: Sequence[str]) -> list[str]:
    """Return keys of the engine, and those of this network; others are not in its configuration."""
    return [
        key for key in keys if not key.startswith("models.") or key.startswith(f"models.{model}.")
    ]


def decode_all(paths: Sequence[Path], settings: "PreprocessingSettings") -> Tensor:
    """Decode N image files to (N, 3, H, W) uint8."""
    from pixelrobust.datasets.decoded import decode

    return torch.from_numpy(np.stack([decode(path, settings) for path in paths]))


def find_images(folder: Path | None) -> list[Path]:
    """List all images below a folder, at any depth; for None, those of the foolbox package."""
    from pixelrobust.datasets.folders import read_foolbox_samples
    from pixelrobust.datasets.lists import check_folder, files_below, is_image_file
    from pixelrobust.errors import InputError

    if folder is None:
        return list(read_foolbox_samples().paths)
    root = check_folder(folder, "--images", "/data/imagenet/val")
    files = sorted(path for path in files_below(root) if is_image_file(path))
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


def prepare(given: argparse.Namespace, model: str, folder: Path) -> Job:
    """Write a network's weights and links to images into a folder; none of it is timed.

    Of images whose folders tell their ImageNet classes, those count that a network is right about, as in
    Table 6, unless its weights are random.
    """
    from safetensors.torch import save_file

    from experiments.config import quoted, settings_of
    from pixelrobust.datasets.classes import imagenet_wnids
    from pixelrobust.engine import make_engine
    from pixelrobust.errors import InputError
    from pixelrobust.models.build import load_classifier

    keys = ["experiment=table6", f"model={model}", "selection.models=null", "dataset=imagefolder"]
    keys += ["dataset.limit=null", *_keys_for(model, given.keys)]
    settings = settings_of(*keys)
    if not isinstance(settings.engine.devices, str):
        raise InputError("engine.devices names several devices; the benchmark runs on one.")
    paths, is_random = find_images(given.images), False
    preprocessing = settings.dataset.preprocessing
    some = decode_all(paths[:16], preprocessing)
    try:
        classifier = load_classifier(model, settings.models[model])
    except InputError as error:
        # Without weights that can be had, those that the library starts training from will do.
        print(f"{error} Random weights take their place.", file=sys.stderr)
        is_random = True
        keys += random_weights(model, keys, folder)
        # Nobody could tell what such weights were trained with.
        keys += [f"dataset.preprocessing.{key}={value}" for key, value in preprocessing]
        settings = settings_of(*keys)
        classifier = load_classifier(model, settings.models[model])
    known = settings.models[model]
    plain = settings.engine.model_copy(update={"name": "eager", "precision": "fp32"})
    eager = make_engine(classifier.module, plain, some, 0)
    # A pass over the images takes plain PyTorch two seconds, so that starting workers weighs little.
    batches = math.ceil(2 * truediv(*predict_for(1, eager, some)) / _NAIVE_BATCH)
    suitable = min(max(batches, 2) * _NAIVE_BATCH, 2000)
    count = given.count or max(suitable, len(paths) if given.full else 0)
    paths = sorted(random.Random(0).sample(paths, min(count, len(paths))))
    classes: list[int] = []
    for first in range(0, len(paths), 64):
        images = decode_all(paths[first : first + 64], preprocessing)
        classes += eager.predict(images.to(eager.device)).tolist()
    if not is_random:
        # Where a folder is called otherwise, what is predicted is taken to be right.
        true = map(imagenet_wnids().get, (path.parent.name for path in paths), classes)
        right = [row for row, label in enumerate(true) if label == classes[row]]
        if not right:
            raise InputError(f"{classifier.name} is wrong about all images; give --images others.")
        paths, classes = [paths[row] for row in right], [classes[row] for row in right]
    root, names = link_images(paths, classes, count, known.classes, folder)
    passes = count * len(NUMS)
    engine = make_engine(classifier.module, settings.engine, some, passes)
    draws = math.ceil(given.seconds * truediv(*predict_for(1, engine, some)) / passes)
    normalize, network = classifier.module.children()
    # An engine may have put them into channels-last layout.
    tensors = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "network.safetensors")
    mean, std = (tuple(normalize.state_dict()[key].flatten().tolist()) for key in ("mean", "std"))
    job = Job(
        model=model, label=classifier.name, source=known.source, name=known.name,
        classes=known.classes, weights=str(folder / "network.safetensors"), random=is_random,
        mean=mean, std=std, images=str(root), count=count, files=len(paths), draws=max(draws, 1),
        device=str(eager.device), workers=0, trial=False, folder=str(folder), seconds=given.seconds,
        keys=(*keys, f"dataset.root={quoted(root)}", f"dataset.classes={quoted(names)}"),
    )  # fmt: skip
    if "b" in given.arms:
        job.workers = fastest_workers(job, 256 if given.full else 64)
    return job


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

    Raises InputError where it failed; what it printed stands on standard error then, unless it was one
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


def measure(arm: str, number: int, job: Job, runs: Sequence[Measured]) -> Measured:
    """Run an arm as part of the round of this number; arm d by the engine of arm c's last run."""
    if arm in _SOFTWARE:
        steady, seconds, peak = _run_software(job, _SOFTWARE[arm])
    else:
        keys = []
        if arm == "d":
            engine = next(r.steady for r in reversed(runs) if (r.model, r.arm) == (job.label, "c"))
            keys = [f"engine.name={engine.engine}", f"engine.precision={engine.precision}"]
            keys += [f"engine.batch_size={engine.batch_size}"]
        job_file = f"{job.folder}/job.json"
        printed, seconds, peak = run_module("scripts.benchmark", "arm", arm, job_file, *keys)
        steady = Steady(**json.loads(printed.splitlines()[-1]))
    return Measured(job.label, arm, number, steady, seconds, peak)


def measure_arms(
    given: argparse.Namespace, number: int, job: Job, runs: Sequence[Measured]
) -> Iterator[Measured]:
    """Run all arms of a network as part of the round of this number.

    None is screened whose weights are random: margins of a network that knows nothing say nothing.
    """
    if given.gpu:
        for precision in _GPU_PRECISIONS:
            if not (job.random and precision == _SCREENED):
                yield from on_a_gpu(number, job, precision)
                torch.cuda.empty_cache()
    else:
        for arm in given.arms:
            if not (job.random and arm == "e"):
                yield measure(arm, number, job, runs)


def _run_software(job: Job, keys: Sequence[str]) -> tuple[Steady, float, int | None]:
    """Run this software as a user does who never did before: nothing is in its cache."""
    from experiments.config import quoted
    from pixelrobust.outcomes.manifest import read_manifest

    fresh = Path(job.folder) / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    paths = [f"paths.{key}={quoted(fresh / key)}" for key in ("results", "cache")]
    own = [*job.keys, *keys, f"draws={job.draws}", *paths]
    _, seconds, peak = run_module("experiments.run", *own)
    (path,) = fresh.glob("results/*/outcomes/*.json")
    return steady_of(read_manifest(path), job.label), seconds, peak


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


COLUMNS = [
    "model", "arm", "images_per_second", "ratio_to_a", "ratio_to_c", "ratio_to_d", "peak_mb", "runs",
    "images_per_second_low", "images_per_second_high", "ratio_to_a_low", "ratio_to_a_high",
    "ratio_to_c_low", "ratio_to_c_high", "ratio_to_d_low", "ratio_to_d_high", "passes", "seconds",
    "whole_process_seconds", "engine", "precision", "batch_size", "workers",
]  # fmt: skip
"""The columns of benchmark.csv. Rates, ratios, MB (1e6 bytes) and seconds are medians over runs, low and
high their range."""
_RANGED = ("images_per_second", "ratio_to_a", "ratio_to_c", "ratio_to_d")


def summarise(runs: Sequence[Measured]) -> "pd.DataFrame":
    """Return one row a network and arm, in the order of their first runs; columns as in COLUMNS."""
    import pandas as pd

    rates = {
        (run.model, run.round, run.arm, run.steady.precision): run.steady.passes
        / run.steady.seconds
        for run in runs
    }
    rows = []
    for run in runs:
        precision = run.steady.precision
        rate = rates[run.model, run.round, run.arm, precision]
        # A ratio is between runs of the same round; the naive script knows one precision, what is
        # screened is to be fp32's, and so are all that are compared with arm c.
        own = "fp32" if precision == _SCREENED else precision
        in_fp32 = (run.model, run.round, "c", "fp32") in rates
        beside = (("a", "fp32"), ("c", "fp32" if in_fp32 else precision), ("d", own))
        others = {
            arm: rates.get((run.model, run.round, arm, kind), math.nan) for arm, kind in beside
        }
        rows.append(
            asdict(run.steady) | {
                "model": run.model, "arm": run.arm, "runs": run.round, "images_per_second": rate,
                **{f"ratio_to_{arm}": rate / other for arm, other in others.items()},
                "peak_mb": math.nan if run.peak_bytes is None else run.peak_bytes / 1e6,
                "whole_process_seconds": run.whole_seconds,
            }
        )  # fmt: skip
    groups = pd.DataFrame(rows).groupby(["model", "arm", "precision"], sort=False)
    same = dict.fromkeys(("engine", "batch_size", "workers"), "first")
    medians = dict.fromkeys(
        (*_RANGED, "peak_mb", "passes", "seconds", "whole_process_seconds"), "median"
    )
    summary = groups.agg(same | medians | {"runs": "count"})
    for end, name in (("low", "min"), ("high", "max")):
        summary[[f"{column}_{end}" for column in _RANGED]] = groups[[*_RANGED]].agg(name)
    return summary.reset_index()[COLUMNS].astype({"workers": "Int64"}).round(4)


def for_reading(summary: "pd.DataFrame") -> "pd.DataFrame":
    """Return the summary as text, without columns that would be empty."""
    import pandas as pd

    from pixelrobust.tables.rates import significant

    def numbers(column: str) -> list[str]:
        return ["" if pd.isna(value) else significant(value) for value in summary[column]]

    def with_range(column: str) -> list[str]:
        ends = zip(*(numbers(f"{column}{end}") for end in ("", "_low", "_high")), strict=True)
        return [value if low == high else f"{value} ({low}–{high})" for value, low, high in ends]

    columns = {
        "Model": summary["model"], "Arm": [f"({arm}) {ARMS[arm]}" for arm in summary["arm"]],
        "Precision": summary["precision"],
        "Images/s": with_range("images_per_second"), "Times (a)": with_range("ratio_to_a"),
        "Times (c)": with_range("ratio_to_c"), "Times (d)": with_range("ratio_to_d"),
        "Peak memory, MB": numbers("peak_mb"),
        "Forward passes": ["" if pd.isna(n) else f"{n:,.0f}" for n in summary["passes"]],
        "Their seconds": numbers("seconds"),
        "Seconds of the whole process": numbers("whole_process_seconds"),
        "Runs": summary["runs"].astype(str),
    }  # fmt: skip
    table = pd.DataFrame(columns)
    # What no arm has measured.
    return table.loc[:, (table != "").any()]


def page(summary: "pd.DataFrame", jobs: Sequence[Job], runs: Sequence[Measured]) -> str:
    """Return the results as Markdown: what was compared, and on what."""
    from pixelrobust.errors import escape_markdown
    from pixelrobust.tables.rates import markdown_table

    how = "docs/scaling.md says what the arms do and how they are measured."
    networks = [f"- {escape_markdown(_network(job, runs))}" for job in jobs]
    machine = escape_markdown(_machine(jobs[0].device))
    parts = ["# Benchmark", markdown_table(for_reading(summary)), how, "\n".join(networks), machine]
    return "\n\n".join(parts) + "\n"


def _network(job: Job, runs: Sequence[Measured]) -> str:
    """Say what is particular to a network."""
    shared = f" (from {job.files} files, each used several times)" if job.files < job.count else ""
    parts = [f"{job.label}: {job.count} images{shared}"]
    if job.random:
        parts.append("random weights, made on the spot")
    steady = [(run.arm, run.steady) for run in runs if run.model == job.label]
    for arm, own in {(arm, own.precision): (arm, own) for arm, own in steady}.values():
        workers = "" if own.workers is None else f", {own.workers} workers"
        draws = f", {job.draws} draws of each image" if arm in _SOFTWARE and job.draws > 1 else ""
        how = _SCREENED if own.precision == _SCREENED else f"in {own.precision}"
        parts.append(f"({arm}) {own.engine} {how}, batch {own.batch_size}{workers}{draws}")
    return "; ".join(parts) + "."


def _machine(device: str) -> str:
    """Say what a benchmark ran on; nothing that identifies the machine."""
    from pixelrobust.outcomes.manifest import describe_software

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else processor
    gpu = [torch.cuda.get_device_name(device)] if device.startswith("cuda") else []
    parts = [processor, f"{os.cpu_count()} cores", *gpu, platform.system()]
    software = describe_software(REPOSITORY)
    parts += [f"{name} {software[name]}" for name in _PACKAGES if software[name]]
    if software["commit"]:
        changed = " with uncommitted changes" if software["uncommitted_changes"] else ""
        parts.append(f"commit {software['commit'][:10]}{changed}")
    return f"{', '.join(parts)}."


def run(given: argparse.Namespace) -> int:
    """Measure, and write benchmark.csv and benchmark.md after every round."""
    from pixelrobust.files import check_writable, write_text
    from pixelrobust.tables.rates import write_csv

    check(given)
    check_writable(given.output, "--output")
    runs, jobs, text = list[Measured](), list[Job](), ""
    with tempfile.TemporaryDirectory() as temporary:
        for model in given.models:
            print(f"{model}: preparing", flush=True)
            folder = Path(temporary) / model
            folder.mkdir()
            jobs.append(prepare(given, model, folder))
            (folder / "job.json").write_text(json.dumps(vars(jobs[-1])))
        for number in range(given.rounds):
            for job in jobs:
                for found in measure_arms(given, number, job, runs):
                    runs.append(found)
                    steady = found.steady
                    told = f"{steady.passes / steady.seconds:,.1f} images/s in {steady.precision}"
                    told += f", {found.whole_seconds:.1f} s in all"
                    print(f"round {number + 1}, {job.label}, ({found.arm}): {told}", flush=True)
            summary = summarise(runs)
            text = page(summary, jobs, runs)
            stem = given.output / ("benchmark-gpu" if given.gpu else "benchmark")
            write_csv(summary, stem.with_suffix(".csv"))
            write_text(stem.with_suffix(".md"), text)
    print(text)
    return 0


def check(given: argparse.Namespace) -> None:
    """Complete what the command line gave, and refuse what is wrong with a sentence."""
    from experiments.config import options, settings_of
    from pixelrobust.errors import InputError

    for key in given.keys:
        if not re.match(r"engine[.=]|models\.\w+\.weights=|dataset\.preprocessing\.", key):
            raise InputError(
                f"{key} is not a key of the engine; give engine=NAME, engine.KEY=VALUE, "
                "models.NAME.weights=FILE, or dataset.preprocessing.KEY=VALUE."
            )
    own = [key for key in given.keys if key.startswith("engine")]
    given.gpu = str(settings_of(*own).engine.devices).startswith("cuda")
    given.models = given.models or (_GPU_MODELS if given.gpu else _MODELS)
    given.arms = given.arms or ("c,d,e" if given.gpu else ",".join(ARMS))
    given.models = list(dict.fromkeys(given.models.split(",")))
    known = [name for name in options("model") if name != "base"]
    if unknown := [model for model in given.models if model not in known]:
        raise InputError(f"--models={unknown[0]} is unknown; choose from {', '.join(known)}.")
    letters = set(given.arms.split(","))
    if not letters <= set(ARMS):
        raise InputError(f"--arms={given.arms} is wrong; give some of {','.join(ARMS)}.")
    if "d" in letters and "c" not in letters:
        raise InputError(f"--arms={given.arms} lacks c, whose engine d runs; add it.")
    given.arms = "".join(sorted(letters))
    if given.gpu and given.arms != "cde":
        raise InputError("--arms is for CPUs; on a GPU arms c, d and e are compared: leave it out.")
    if given.gpu:
        given.count = given.count or _GPU_IMAGES
    given.rounds = given.rounds or (5 if given.full else 1 if given.gpu else 2)
    given.seconds = given.seconds or (30 if given.full else 5)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is wrong; give a whole number of at least 1")
    return int(text)


def run_arm(arm: str, job_file: str, *engine_keys: str) -> int:
    """Run an arm in this process, and print its steady state."""
    job = Job(**json.loads(Path(job_file).read_text()))
    steady = bare(job, engine_keys) if arm == "d" else (naive if arm == "a" else competent)(job)
    print(json.dumps(asdict(steady)))
    return 0


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
    add("--models", help=f"of configs/model, with commas; {_MODELS}; on a GPU the paper's five")
    add("--images", type=Path, metavar="FOLDER", help="of images; else those of foolbox")
    add("--count", type=_count, help="of images; else what suits the machine, or all (--full)")
    add("--arms", help="letters with commas; a,b,c,d,e; on a GPU c,d,e")
    add("--full", action="store_true", help="five rounds, all images, half a minute for each run")
    add("--rounds", type=_count, help="runs of each arm; 2, or 5 (--full)")
    add("--seconds", type=_count, help="of forward passes in each run; 5, or 30 (--full)")
    add("--output", type=Path, default=REPOSITORY / "results", metavar="FOLDER", help="results")
    add("keys", nargs="*", metavar="KEY=VALUE", help="of engine, models and preprocessing")
    given = parser.parse_intermixed_args(words)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
