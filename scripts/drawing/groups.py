"""Groups of modules, and where each stands in the picture: imports point downwards only."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.drawing.imports import Import, module_of


@dataclass(frozen=True)
class Group:
    """Modules that the picture shows as one box.

    Attributes:
        name: what the box is called.
        about: what it does, in a few words.
        row: from the top; a group may import groups of rows below its own only.
        column: of the box, from the left; None: the box is as wide as the picture.
        members: modules, and packages with all that is in them.
    """

    name: str
    about: str
    row: int
    column: float | None
    members: tuple[str, ...]


def _of(*names: str) -> tuple[str, ...]:
    return tuple(f"pixelrobust.{name}" for name in names)


GROUPS = (
    Group("scripts", "benchmarks, checks, this picture", 0, None, ("scripts",)),
    Group("experiments", "the paper's tables; Hydra becomes plain settings", 1, None, ("experiments",)),
    Group("interface", "what `import pixelrobust` gives", 3, 0, ("pixelrobust", *_of("loading"))),
    Group("attacks", "adversarial images, boundaries", 3, 1, _of("attacks", "adversarial", "boundary", "activations")),
    Group("retraining", "training on changed images", 3, 2, _of("retraining")),
    Group("report", "a folder of results as one page", 3, 3, _of("report")),
    Group("figures", "pure functions of tables", 4, 3, _of("figures", "figures_*", "examples")),
    Group("evaluation", "from images to outcomes", 4, 1.5, _of("evaluation", "passes", "task", "answers", "arguments", "store", "adaptive", "distributed", "selection")),
    Group("networks", "weights and normalisation inside", 5, 1, _of("models", "heads")),
    Group("tables", "pure functions of outcomes", 5, 3, _of("tables", "*_tables", "ranking", "returns", "transfer", "amplification")),
    Group("engines", "forward passes on a device", 6, 1, _of("engine")),
    Group("statistics", "intervals, paired tests, survival", 7, 3, _of("statistics", "comparisons", "paired_intervals", "shares", "survival")),
    Group("images", "listed, decoded once, cached", 7, 1, _of("datasets")),
    Group("changes", "which pixels change, to what", 7, 2, _of("perturbation", "philox", "transforms", "augmentations")),
    Group("outcomes", "one row an image, cell and draw", 6, 2, _of("outcomes", "outcome_values", "manifest", "provenance")),
    Group("tracking", "runs in Weights & Biases", 8, 2, _of("tracking")),
    Group("settings", "typed values, checked", 9, 1, _of("settings")),
    Group("foundation", "grid, Pixel-index, errors, files", 10, None, _of("grid", "pixel_index", "errors", "files", "packages", "escaping")),
)  # fmt: skip

ONLY_IN = {
    "hydra": ("experiments.config",),
    "omegaconf": ("experiments.config",),
    "wandb": ("pixelrobust.tracking.opening",),
    "plotly": ("pixelrobust.report",),
    "openvino": ("pixelrobust.engine", "scripts"),
    "foolbox": ("pixelrobust.attacks", "scripts"),
}  # fmt: skip
"""Where alone a package may be imported: modules, and packages with all that is in them."""


def group_of(module: str) -> Group:
    """The group with the longest fitting member; LookupError where none fits."""
    fitting = [
        (len(member), group)
        for group in GROUPS
        for member in group.members
        if _fits(module, member)
    ]
    if not fitting:
        raise LookupError(f"{module} is in no group; add it to one in scripts/drawing/groups.py")
    return max(fitting, key=lambda pair: pair[0])[1]


def arrows(found: Iterable[Import], known: dict[str, Path]) -> dict[tuple[str, str], list[str]]:
    """Pairs of groups of which one imports the other, with the imports that say so.

    Late imports are left out: they are made when a function runs.
    """
    pairs: dict[tuple[str, str], list[str]] = {}
    for one in found:
        target = module_of(one.target, known)
        # The interface exists for its late imports.
        if target is None or (one.late and one.module != "pixelrobust"):
            continue
        above, below = group_of(one.module), group_of(target)
        if above != below:
            pairs.setdefault((above.name, below.name), []).append(f"{one.module} -> {target}")
    return pairs


def essential(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that no way over other pairs stands for (the transitive reduction)."""
    every = set(pairs)
    return sorted(
        (above, below)
        for above, below in every
        if not any(_leads(start, below, every) for begin, start in every if begin == above and start != below)
    )  # fmt: skip


def _leads(start: str, end: str, pairs: set[tuple[str, str]]) -> bool:
    seen, waiting = set[str](), [start]
    while waiting:
        place = waiting.pop()
        if place == end:
            return True
        if place not in seen:
            seen.add(place)
            waiting += [below for above, below in pairs if above == place]
    return False


def is_within(module: str, places: Iterable[str]) -> bool:
    """Whether a module is one of these places, or inside one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def _fits(module: str, member: str) -> bool:
    if "*" in member:
        before, after = member.split("*")
        rest = module.removeprefix(before)
        return rest != module and "." not in rest and rest.endswith(after)
    # The package itself, not all that is in it.
    return module == member or (member != "pixelrobust" and module.startswith(f"{member}."))
