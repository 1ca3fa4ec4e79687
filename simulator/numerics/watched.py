"""A bar on standard error, on a terminal, for work that takes more than two seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told how much of `total` has been done since it was last told.

    The first part, which may compile, says nothing of the time that the others take; by these the bar is shown.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=total)
    first: tuple[int, float] | None = None
    done = 0

    def tell(more: int) -> None:
        nonlocal first, done
        done += more
        now = time.monotonic()
        if first is None:
            first = (done, now)
        elif not bar.live.is_started and (now - first[1]) * total > 2 * (done - first[0]):
            bar.start()
        bar.update(task, completed=done)

    try:
        yield tell
    finally:
        bar.stop()
