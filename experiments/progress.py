"""Progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text


class Progress:
    """Shows the parts of a run, each with its own bar.

    Args:
        console: where to; anything but a terminal gets one line a part, when it is done.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        """Print a line between the bars."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator["Bar"]:
        """Yield a function that is told how many more of the total are done."""
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bar:
            task = bar.add_task(description, total=total)
            yield Bar(bar, task, description)
            bar.update(task, completed=total)


class Bar:
    """Called with how many more of the total are done."""

    def __init__(self, bar: RichProgress, task: TaskID, description: str) -> None:
        self._bar, self._task, self._description = bar, task, description

    def __call__(self, done: int) -> None:
        self._bar.advance(self._task, done)

    def note(self, text: str) -> None:
        """Show how it stands, behind the description."""
        self._bar.update(self._task, description=f"{self._description}: {text}")


class _RateColumn(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")
