"""A progress line on a console: what is being done, how far, since when."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .. import progress
from ..errors import printable

__all__ = ["progress_line"]


@contextmanager
def progress_line(console: Console, *, keep: bool = False) -> Iterator[progress.Progress]:
    """Show the steps that the body reports; where ``console`` is no terminal, a line a step.

    ``keep``: the line of a finished step stays on a terminal too. A step that is reported when it
    begins and when it ends is one line.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as line:
        task, printed = line.add_task("", total=None), ""

        def step(what: str, fraction: float | None = None, /) -> None:
            nonlocal printed
            what = printable(what)
            if fraction is None:
                line.reset(task, total=None, description=what)
            else:
                line.update(task, description=what, total=1.0, completed=fraction)
            finished = fraction is not None and fraction >= 1
            wanted = (finished and keep) or not console.is_terminal
            if wanted and (finished or fraction is None) and what != printed:
                console.print(what, highlight=False, markup=False)
                printed = what

        yield step
