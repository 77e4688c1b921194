"""Progress of long work: a bar, a callback, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[float], object] | None


@contextmanager
def progress_callback(
    progress: Progress, description: str
) -> Iterator[Callable[[float], object] | None]:
    """Provide the function to call with the finished fraction, 0 to 1, for a `progress` argument.

    `True` gives a function that draws a bar on standard error; a callable is returned unchanged;
    `None` and `False` give None.
    """
    if callable(progress):
        yield progress
    elif progress:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=1.0)
            yield lambda fraction: bar.update(task, completed=fraction)
    else:
        yield None
