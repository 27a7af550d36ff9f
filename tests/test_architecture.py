"""The committed picture is the code's, and imports keep their direction."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.architecture import PAGE, PICTURE, page, picture, undocumented
from scripts.drawing.groups import GROUPS, ONLY_IN, arrows, essential, group_of, is_within
from scripts.drawing.imports import Import, importing, imports, module_of, modules
from scripts.drawing.layout import place, way

HOW = "run `python -m scripts.architecture` and look at what changed"


def test_the_picture_and_the_table_are_up_to_date() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), HOW
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), HOW


def test_the_picture_is_drawn_with_every_group() -> None:
    root = ElementTree.fromstring(picture())
    names = {text.text for text in root.findall(".//{*}text")}
    assert {group_of(module).name for module in modules()} <= names


def test_pixelrobust_knows_nothing_of_what_stands_above_it() -> None:
    below = {
        "pixelrobust": ("experiments", "scripts", "tests"),
        "experiments": ("scripts", "tests"),
    }
    found = [
        (one.module, one.target)
        for one in imports()
        for package, above in below.items()
        if is_within(one.module, [package]) and is_within(one.target, above)
    ]
    assert found == []


def test_imports_point_downwards() -> None:
    rows = {group.name: group.row for group in GROUPS}
    upwards = {
        pair: names
        for pair, names in arrows(imports(), modules()).items()
        if rows[pair[0]] >= rows[pair[1]]
    }
    assert upwards == {}


@pytest.mark.parametrize("package", ONLY_IN)
def test_some_packages_are_imported_in_listed_places_only(package: str) -> None:
    elsewhere = {
        name for name in importing(package, imports()) if not is_within(name, ONLY_IN[package])
    }
    assert elsewhere == set()


def test_every_module_says_what_it_is() -> None:
    assert undocumented() == []


# The reading of imports itself


@pytest.fixture
def small(tmp_path: Path) -> list[Import]:
    (tmp_path / "pixelrobust").mkdir()
    (tmp_path / "pixelrobust" / "__init__.py").write_text("import hydra.core as core\n")
    (tmp_path / "pixelrobust" / "grid.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pixelrobust import files\n"
        "try:\n    import wandb\nexcept ImportError:\n    pass\n"
        "def f():\n    from experiments.run import main\n"
    )
    return imports(tmp_path)


def test_imports_are_found_wherever_they_are(small: list[Import]) -> None:
    assert set(small) == {
        Import("pixelrobust", "hydra.core", late=False),
        Import("pixelrobust.grid", "typing.TYPE_CHECKING", late=False),
        Import("pixelrobust.grid", "pixelrobust.files", late=True),
        Import("pixelrobust.grid", "wandb", late=False),
        Import("pixelrobust.grid", "experiments.run.main", late=True),
    }
    assert importing("hydra", small) == {"pixelrobust"}
    assert importing("hyd", small) == set()


def test_a_target_is_a_module_or_lies_in_one() -> None:
    known = {"pixelrobust": Path(), "pixelrobust.grid": Path()}
    assert module_of("pixelrobust.grid.Cell", known) == "pixelrobust.grid"
    assert module_of("numpy.array", known) is None


def test_groups_take_the_longest_member() -> None:
    assert group_of("pixelrobust").name == "interface"
    assert group_of("pixelrobust.figures_strip").name == "figures"
    assert group_of("pixelrobust.datasets.decoded").name == "images"
    with pytest.raises(LookupError, match="is in no group"):
        group_of("pixelrobust.something_new")


def test_only_pairs_that_others_do_not_imply_are_drawn() -> None:
    assert essential([("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")]) == [
        ("a", "b"), ("b", "c"), ("d", "c"),
    ]  # fmt: skip


def test_arrows_go_around_boxes() -> None:
    above, below, between = place(0, 0), place(0, 2), place(0, 1)
    assert "C" in way(above, below, [above, below])
    lane = float(way(above, below, [above, between, below]).split("H")[1].split()[0])
    assert not between.meets(lane, lane)
