"""What is wrong with the images of a set: told one by one, and none of it passed over."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from experiments.imagesets.images import Item
from simulator import disk
from simulator.sources.images import Unreadable, look

SHOWN = 20  # troubles that are printed; beyond them all are in a file


class Troubles:
    """Collects what cannot be used: the first are printed in the end, and all are in a file where there are many."""

    def __init__(self, file: Path) -> None:
        self.file, self.count = file, 0
        self._first: list[str] = []
        self._stream: TextIO | None = None
        self._open = contextlib.ExitStack()

    def __call__(self, where: str, why: str) -> None:
        line = f"{where}: {why}".encode(errors="backslashreplace").decode()  # a name may hold what is no text
        self.count += 1
        if self.count <= SHOWN:
            self._first.append(line)
            return
        if (stream := self._stream) is None:
            self._stream = stream = self._open.enter_context(disk.opened(self.file.parent, self.file.name, "utf-8"))
            stream.writelines(f"{earlier}\n" for earlier in self._first)
        stream.write(f"{line}\n")

    def of(self, folder: Path) -> Any:
        """The same, told of paths below a folder."""
        return lambda where, why: self(str(folder if where == "." else folder / where), why)

    def print(self) -> None:
        """Prints the first ones, and where all of them are."""
        for line in self._first:
            print(line, file=sys.stderr)
        if self._stream is not None:
            self._open.close()
            print(f"... and {self.count - SHOWN:,} more; all are in {self.file}", file=sys.stderr)


def looked(items: Iterable[Item], troubles: Any, checked: bool) -> Iterator[tuple[Item, bytes, tuple[str, int, int]]]:
    """Each item with its bytes and looks (see `images.look`); those that cannot be used are told to `troubles`."""
    for item in items:
        try:
            data = item.read()
            looks = look(data, item.where, checked)
        except Unreadable as error:
            troubles(error.where, error.why)
        else:
            yield item, data, looks


def watched(items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
    """The same items, with a bar on the terminal once they take over two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TextColumn("left"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(what, total=total, rate="")
    started = said = time.monotonic()
    try:
        for i, item in enumerate(items):
            yield item
            if i % 64 == 0 and (now := time.monotonic()) - said > (0.2 if console.is_terminal else 30):
                said, rate = now, f"{i / (now - started):,.0f}"
                if not console.is_terminal:
                    print(f"{what}: {i:,}{f' of {total:,}' if total else ''}, {rate}/s", file=sys.stderr)
                elif now - started > 2:
                    bar.start()
                    bar.update(task, completed=i, rate=rate)
    finally:
        if bar.live.is_started:
            bar.stop()
