"""Where boxes stand, and how arrows go around them; in pixels."""

from collections.abc import Iterable
from dataclasses import dataclass

WIDTH, MARGIN = 960, 20
_COLUMNS, _BOX_WIDTH, _BOX_HEIGHT, _ROW = 4, 208, 44, 78
_STEP = (WIDTH - 2 * MARGIN - _BOX_WIDTH) / (_COLUMNS - 1)
_CLEARANCE = 8


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float = _BOX_HEIGHT

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def meets(self, left: float, right: float) -> bool:
        """Whether it stands in the way of what goes down between these."""
        return left - _CLEARANCE < self.left + self.width and self.left < right + _CLEARANCE


def place(column: float | None, row: int) -> Box:
    """The box of a column, counted from the left, in a row; None: as wide as the picture."""
    top = MARGIN + row * _ROW
    if column is None:
        return Box(MARGIN, top, WIDTH - 2 * MARGIN)
    return Box(MARGIN + _STEP * column, top, _BOX_WIDTH)


def way(above: Box, below: Box, boxes: Iterable[Box]) -> str:
    """An SVG path from the bottom of a box to the top of another, behind no third.

    It leaves and reaches boxes as wide as the picture where the other box stands.
    """
    start = below.middle if above.width > _BOX_WIDTH else above.middle
    end = start if below.width > _BOX_WIDTH else below.middle
    between = [box for box in boxes if above.bottom < box.top < below.top]
    if not any(box.meets(*sorted((start, end))) for box in between):
        bend = (below.top - above.bottom) / 2
        return (
            f"M{start:g} {above.bottom:g} C{start:g} {above.bottom + bend:g} "
            f"{end:g} {below.top - bend:g} {end:g} {below.top:g}"
        )
    lanes = [MARGIN + _STEP * column - (_STEP - _BOX_WIDTH) / 2 for column in range(_COLUMNS + 1)]
    free = [lane for lane in lanes if not any(box.meets(lane, lane) for box in between)]
    lane = min(free, key=lambda x: abs(x - start) + abs(x - end))
    gap = _ROW - _BOX_HEIGHT
    return (
        f"M{start:g} {above.bottom:g} V{above.bottom + 0.4 * gap:g} H{lane:g} "
        f"V{below.top - 0.6 * gap:g} H{end:g} V{below.top:g}"
    )
