"""What docs/scaling.md says that the paper's experiments cost, counted again by hand."""

import pytest

from experiments.config import preset_settings
from pixelrobust.settings import RunSettings
from scripts import costs
from scripts.costs import IMAGE_SETS, PAGE, Gpu, ImageSet, Rates, operations, with_costs, work_of

FEW = ImageSet("a few", 100, 10)


def settings(name: str) -> RunSettings:
    found = preset_settings(name, "paper")
    assert found
    return found


def test_the_page_is_what_the_script_writes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "| `table6` |" in page
    assert "Assumed, not measured" in page
    assert with_costs(page, Gpu()) == page
    assert with_costs(page, Gpu("NVIDIA H100", 67, 0.3)) != page


@pytest.mark.parametrize(
    ("name", "each", "is_shared"),
    [
        ("table6", 10 * 5, True),
        ("table7", 10 * 5 * 5, True),
        ("table8", 10 * 5 * 5, True),
        # At the smallest epsilon 3 + 4 passes make an image, else 3 + 1; each is shown in six cells,
        # rounded too.
        ("table9", 10 * (7 + 6 * 4 + 7 * 6 * 2), False),
        ("amplification", 10 * 3, False),
    ],
)
def test_passes_are_those_of_the_experiment(name: str, each: int, is_shared: bool) -> None:
    work = work_of(settings(name), FEW)
    assert set(work.passes) == {"resnet101", "densenet121", "vgg16", "alexnet", "squeezenet1_1"}
    assert set(work.passes.values()) == {each}
    assert work.is_shared == is_shared


def test_retraining_counts_every_network() -> None:
    # 11 retrained networks see 1,000 images once, and with the original are shown them in 6 cells.
    assert work_of(settings("table10"), FEW).passes == {"resnet101": 11_000 + 12 * 6_000}
    everywhere = settings("table10-all")
    # One network on 16 pixels, and one on unchanged images; 20 epochs forwards and backwards.
    assert work_of(everywhere, FEW).passes == {"resnet101": 2 * 60_000 + 3 * 6_000}


def test_operations_are_those_that_are_published() -> None:
    """torchvision's table of weights gives 7.80 GFLOPS for ResNet-101, products alone."""
    assert operations("resnet101", 224) == pytest.approx(2 * 7.80e9, rel=0.01)
    assert operations("squeezenet1_1", 224) == pytest.approx(2 * 0.349e9, rel=0.02)


def test_more_devices_take_less_time_until_one_job_is_the_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "START", 0.0)
    every = {name: settings(name) for name in ("table6", "table9")}
    # Attacks take gradients, so they are run by plain PyTorch.
    fastest, plain = (dict.fromkeys(every["table6"].models, rate) for rate in (1.0, 0.5))
    rates = Rates(fastest, plain)
    one, four, many = (costs._hours(every, FEW, rates, count) * 3600 for count in (1, 4, 1000))
    # Five networks: 100 images for the selection, 50 for Table 6, 1,150 for Table 9.
    assert one == pytest.approx(5 * (100 + 50 + 2 * 1150))
    assert four == pytest.approx(one / 4)
    assert many == pytest.approx(2 * 1150)
    assert len(IMAGE_SETS) == 3
