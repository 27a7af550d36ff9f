"""What the paper's experiments cost, put into docs/scaling.md between its markers.

    python -m scripts.costs
    python -m scripts.costs --gpu "NVIDIA H100" --peak 67 --share 0.3

Forward passes are counted from the experiments' own settings. Seconds on a CPU follow from what
results/benchmark.csv measured; those on a GPU from an assumption, which the page states.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

from experiments.config import preset_settings
from pixelrobust.evaluation import count_passes
from pixelrobust.grid import Cell
from pixelrobust.settings import RETRAINED, RunSettings
from scripts.blocks import with_blocks

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "scaling.md"
BENCHMARK = REPOSITORY / "results" / "benchmark.csv"
PROFILE = "paper"
EXPERIMENTS = ("table6", "table7", "table8", "table9", "amplification", "table10", "table11")

BACKWARD = 2
"""Forward passes that going backwards takes as long as."""
SEARCH = 4
"""Steps, on average, until the smallest epsilon is found; most images fall at the first."""
START = 60.0
"""Seconds until a job's first forward pass: imports, decoded images, networks, engines."""
GPUS = (1, 4, 64)


@dataclass(frozen=True)
class ImageSet:
    """Images that experiments are run on: all are shown to every network, the chosen take part."""

    name: str
    every: int
    chosen: int


IMAGE_SETS = (
    ImageSet("ILSVRC validation, 10,000 (the preset)", 50_000, 10_000),
    ImageSet("ILSVRC validation, all", 50_000, 50_000),
    ImageSet("ILSVRC training, all", 1_281_167, 1_281_167),
)


@dataclass(frozen=True)
class Gpu:
    """A GPU that nobody has measured here.

    Attributes:
        name: for the page.
        peak: of its arithmetic in float32, in 1e12 operations a second.
        share: of the peak that networks are assumed to reach, 0 to 1.
    """

    name: str = "NVIDIA A100"
    peak: float = 19.5
    share: float = 0.3


@dataclass(frozen=True)
class Work:
    """Forward passes of each network, in images.

    Attributes:
        passes: by name of the network.
        is_shared: whether several devices can share those of one network.
        is_eager: whether they take gradients, so that plain PyTorch runs the network.
    """

    passes: dict[str, float] = field(default_factory=dict)
    is_shared: bool = True
    is_eager: bool = False


@dataclass(frozen=True)
class Rates:
    """Images a second, by name of the network.

    Attributes:
        fastest: of the fastest engine.
        eager: of plain PyTorch.
    """

    fastest: dict[str, float]
    eager: dict[str, float]

    def seconds(self, work: Work) -> dict[str, float]:
        """What the work takes, by name of the network."""
        rates = self.eager if work.is_eager else self.fastest
        return {name: count / rates[name] for name, count in work.passes.items()}


def work_of(settings: RunSettings, images: ImageSet) -> Work:
    """What an experiment takes, at most: of images that are attacked, all are taken to fall."""
    chosen = images.chosen
    if settings.measure in RETRAINED:
        model = settings.retrain.model or next(iter(settings.models))
        is_shared = settings.measure == "retraining"
        return Work({model: _retraining(settings)}, is_shared, settings.takes_gradients)
    if settings.measure == "activations":
        # Unchanged, with changed pixels, and with noise.
        count = min(chosen, settings.dataset.limit or chosen)
        each = count * (1 + 2 * len(_changed(settings)))
    elif settings.attack:
        each = _attacks(settings, chosen)
    else:
        each = count_passes(_changed(settings), chosen, settings.draws)
    is_shared = settings.measure == "outcomes" and not settings.attack
    passes = dict.fromkeys(settings.models, float(each))
    return Work(passes, is_shared, settings.takes_gradients)


def selection(settings: RunSettings, images: ImageSet) -> Work:
    """Every network is shown every unchanged image, once for all experiments."""
    return Work(dict.fromkeys(settings.selection_models, float(images.every)))


def operations(network: str, side: int) -> float:
    """Of a forward pass of a torchvision network on one image, counting products and sums."""
    with torch.device("meta"):
        module = get_model(network, weights=None).eval()
        images = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(images)
    return float(counter.get_total_flops())


def tables(gpu: Gpu) -> str:
    """Both tables and what they assume, as Markdown."""
    settings = {name: _settings(name) for name in EXPERIMENTS}
    preset = IMAGE_SETS[0]
    side = settings["table6"].dataset.preprocessing.crop
    networks = settings["table6"].selection_models
    cost = {name: operations(model.name, side) for name, model in networks.items()}
    cpu = Rates(_cpu_rates("c", cost), _cpu_rates("b", cost))
    rates = {name: gpu.peak * 1e12 * gpu.share / cost[name] for name in cost}
    assumed = Rates(rates, rates)
    return "\n".join(
        [
            "",
            "| Experiment | Forward passes | on several devices |",
            "|:--|--:|:--|",
            f"| selection of images | {_count(selection(settings['table6'], preset))} | shared |",
            *(_experiment_row(name, one, preset) for name, one in settings.items()),
            "",
            "| Images | Forward passes | CPU of 2 cores |"
            + "".join(f" {count} × {gpu.name}, assumed |" for count in GPUS),
            "|:--|--:|--:|" + "--:|" * len(GPUS),
            *(_time_row(settings, images, cpu, assumed) for images in IMAGE_SETS),
            "",
            *_assumptions(gpu, cpu, rates),
            "",
            "",
        ]
    )


def with_costs(page: str, gpu: Gpu) -> str:
    """The page with its tables between their markers."""
    return with_blocks(page, {"costs": tables(gpu)}.__getitem__)


def _settings(name: str) -> RunSettings:
    settings = preset_settings(name, PROFILE)
    assert settings
    return settings


def _changed(settings: RunSettings) -> list[Cell]:
    """Cells but for the unchanged image, which the selection has shown to every network."""
    return [cell for cell in settings.perturbation.cells() if cell.num]


def _attacks(settings: RunSettings, images: int) -> int:
    """Attacking images, and evaluating them in every cell: as they are, and rounded."""
    assert settings.attack
    count = min(images, settings.attack.wanted)
    evaluated = count_passes(settings.perturbation.cells(), count, settings.draws)
    kinds = 2 if settings.attack.round else 1
    return sum(
        _crafting(epsilon) * count + kinds * evaluated for epsilon in settings.attack.epsilon
    )


def _crafting(epsilon: float | str) -> int:
    """Passes that an attack of one step takes: with its gradient, and to see what came of it."""
    return 1 + BACKWARD + (SEARCH if epsilon == "minimal" else 1)


def _retraining(settings: RunSettings) -> float:
    """Passes of retraining networks and measuring them, on the images that they are trained on."""
    retrain = settings.retrain
    images, seeds = retrain.images, len(retrain.seeds)
    trained = (len(retrain.num) + len(retrain.controls)) * seeds
    # Where the last layer only is trained on changes that stay, the others run once.
    is_frozen = retrain.trainable == "last" and not retrain.redraw
    epochs = 1 if is_frozen else retrain.epochs * (1 + BACKWARD)
    training = float(trained * images * epochs)
    if settings.measure == "retraining":
        cells = count_passes(settings.perturbation.cells(), images, settings.draws)
        return training + (trained + 1) * cells
    assert settings.attack
    # Networks are those of Table 10: attacked each, and shown what fools the original.
    each = sum(_crafting(epsilon) + 2 for epsilon in settings.attack.epsilon)
    shown = 2 * trained * len(settings.attack.epsilon)
    return float(images * ((trained + 1) * each + shown))


def _measured_rates(arm: str) -> dict[str, float]:
    """Images a second by network, as `make benchmark` measured them on a CPU of two cores."""
    rows = pd.read_csv(BENCHMARK)
    rows = rows[rows["arm"] == arm]
    return dict(zip(rows["model"], rows["images_per_second"].astype(float), strict=True))


def _cpu_rates(arm: str, cost: dict[str, float]) -> dict[str, float]:
    """Those of all networks: as measured, or as if they did as many operations as resnet101."""
    measured = _measured_rates(arm)
    return {
        name: measured.get(name, measured["resnet101"] * cost["resnet101"] / cost[name])
        for name in cost
    }


def _hours(settings: dict[str, RunSettings], images: ImageSet, rates: Rates, devices: int) -> float:
    """Until all is done: work that can be shared is, the rest waits for its longest part."""
    works = [selection(settings["table6"], images)]
    works += [work_of(one, images) for one in settings.values()]
    seconds = [(part, work.is_shared) for work in works for part in rates.seconds(work).values()]
    longest = max((part for part, is_shared in seconds if not is_shared), default=0.0)
    total = sum(part for part, _ in seconds)
    # Devices take jobs one after the other.
    starts = -(-len(seconds) // devices) * START
    return (max(total / devices, longest) + starts) / 3600


def _time_row(
    settings: dict[str, RunSettings],
    images: ImageSet,
    cpu: Rates,
    gpu: Rates,
) -> str:
    works = [selection(settings["table6"], images)]
    works += [work_of(one, images) for one in settings.values()]
    total = sum(count for work in works for count in work.passes.values())
    times = [_duration(_hours(settings, images, cpu, 1))]
    times += [_duration(_hours(settings, images, gpu, count)) for count in GPUS]
    return f"| {images.name} | {_millions(total)} | {' | '.join(times)} |"


def _experiment_row(name: str, settings: RunSettings, images: ImageSet) -> str:
    work = work_of(settings, images)
    how = "shared" if work.is_shared else "a job for each network"
    return f"| `{name}` | {_count(work)} | {how} |"


def _count(work: Work) -> str:
    return _millions(sum(work.passes.values()))


def _millions(count: float) -> str:
    if count < 1e5:
        return f"{count:,.0f}"
    return f"{count / 1e6:,.2f} million" if count < 1e8 else f"{count / 1e6:,.0f} million"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def _assumptions(gpu: Gpu, cpu: Rates, rates: dict[str, float]) -> list[str]:
    fast, plain = _measured_rates("c"), _measured_rates("b")
    known = [
        f"{name} {cpu.fastest[name]:,.0f} ({cpu.eager[name]:,.0f})"
        for name in rates
        if name in fast and name in plain
    ]
    others = [
        f"{name} {cpu.fastest[name]:,.0f} ({cpu.eager[name]:,.0f})"
        for name in rates
        if name not in fast
    ]
    assumed = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    return [
        f"- **Measured** on the CPU, images a second by OpenVINO, and (where gradients are taken) by plain PyTorch: "
        f"{', '.join(known)}; see arms (c) and (b) of the [benchmark](../results/benchmark.md).",
        f"- **Estimated** for the CPU, as if it did as many operations a second as with resnet101: {', '.join(others)}.",
        f"- **Assumed, not measured**, for a GPU: {gpu.share:.0%} of {gpu.peak:g} TFLOP/s, the peak of an "
        f"{gpu.name} in float32, over the operations of a forward pass (counted by PyTorch); that is {assumed} "
        "images a second. Small networks reach less.",
        f"- A pass backwards is taken to cost {BACKWARD} forwards, the search for the smallest epsilon {SEARCH} "
        f"steps, the start of a job {START:.0f} s; every image to pass the selection and to fall to attacks; "
        "devices to be alike, and files to be read as fast as they are wanted.",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m scripts.costs", description=__doc__)
    parser.add_argument("--gpu", default=Gpu.name, help="name of the GPU")
    parser.add_argument("--peak", type=float, default=Gpu.peak, help="TFLOP/s in float32")
    parser.add_argument("--share", type=float, default=Gpu.share, help="of the peak, 0 to 1")
    given = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_costs(page, Gpu(given.gpu, given.peak, given.share)), encoding="utf-8")


if __name__ == "__main__":
    main()
