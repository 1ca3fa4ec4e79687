"""What is wrong with the images of a set: told one by one, and none of it passed over."""

from __future__ import annotations

import io
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from experiments.data.images import Item

SHOWN = 20  # troubles that are printed; beyond them all are in a file


class Looks(NamedTuple):
    """What an encoded image says of itself."""

    mode: str  # that of PIL: "L" grey, "RGB", ...
    width: int
    height: int


class Damaged(ValueError):
    """Why an image cannot be used."""


def look(data: bytes, decode: bool = False) -> Looks:
    """The looks of an encoded image; raises `Damaged` where it is none, or not whole.

    PNG files are held against their checksums and JPEG files must have an end, which costs a hundredth of decoding
    them; others, or all with `decode`, are decoded.
    """
    from PIL import Image

    if not data:
        raise Damaged("is empty")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            looks = Looks(picture.mode, *picture.size)
            if picture.format == "PNG" and not decode:
                picture.verify()
            elif picture.format != "JPEG" or decode:
                picture.load()
            elif b"\xff\xd9" not in data[-4096:]:
                raise Damaged("is cut off")
    except Damaged:
        raise
    except Exception as error:  # whatever a damaged file makes of a decoder
        said = str(error).splitlines()[0] if str(error) and "BytesIO" not in str(error) else "nothing can decode it"
        raise Damaged(f"is no whole image ({said})") from None
    return looks


class Troubles:
    """Collects what cannot be used: the first are printed in the end, and all are in a file where there are many."""

    def __init__(self, file: Path) -> None:
        self.file, self.count = file, 0
        self._first: list[str] = []
        self._stream: TextIO | None = None

    def __call__(self, where: str, why: str) -> None:
        line = f"{where}: {why}"
        self.count += 1
        if self.count <= SHOWN:
            self._first.append(line)
            return
        if self._stream is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # A name may hold what is no text.
            self._stream = self.file.open("w", encoding="utf-8", errors="backslashreplace")
            self._stream.writelines(f"{earlier}\n" for earlier in self._first)
        self._stream.write(f"{line}\n")

    def of(self, folder: Path) -> Any:
        """The same, told of paths below a folder."""
        return lambda where, why: self(str(folder if where == "." else folder / where), why)

    def print(self) -> None:
        """Prints the first ones, and where all of them are."""
        for line in self._first:
            print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)
        if self._stream is not None:
            self._stream.close()
            print(f"... and {self.count - SHOWN:,} more; all are in {self.file}", file=sys.stderr)


def looked(items: Iterable[Item], troubles: Any, decode: bool = False) -> Iterator[tuple[Item, bytes, Looks]]:
    """Each item with its bytes and looks; those that cannot be read are told to `troubles` and left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, on oddities that do not keep it from decoding
        for item in items:
            try:
                data = item.read()
                looks = look(data, decode)
            except OSError as error:
                troubles(item.where, f"cannot be read ({error.strerror})")
            except Damaged as error:
                troubles(item.where, str(error))
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
