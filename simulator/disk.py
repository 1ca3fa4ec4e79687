"""What is written to disk: folders that are made, files that are there whole or not at all, one sentence on failure.

Everything the project writes below a folder goes through `opened` (or `write`), so that no link in that folder leads
out of it, and a kill or a full disk leaves what was there before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from simulator.errors import GenlossError, RunFailed

PART = ".genloss.part"  # the folder in which a new folder is written

_REASONS = {
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ELOOP: "a link is in its place, and links are not followed",
    errno.ENOSPC: "the disk is full",
}
_PLACE = {  # the place is wrong, and will be so the next time; anything else is the disk's fault
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP),
}


@contextlib.contextmanager
def writing(what: str, kinds: type[Exception] = OSError) -> Iterator[None]:
    """Turns a failed write into the sentence "`what`: reason; mend".

    A place that cannot be written is bad input, `GenlossError`; a disk that is full or fails is not, `RunFailed`: the
    same command goes on once that is mended.
    """
    try:
        yield
    except (GenlossError, RunFailed):
        raise
    except kinds as error:
        number = getattr(error, "errno", None)
        lines = str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__]
        if number is None and "No space left" in str(error):  # said by a library in a way of its own
            number = errno.ENOSPC
        reason = lines[0] if lines[0].startswith("the disk is full") else _REASONS.get(number or 0, lines[0])
        if number in _PLACE:
            raise GenlossError(f"{what}: {reason}; choose a place that can be written.") from error
        raise RunFailed(f"{what}: {reason}; mend that and give the same command again to go on.") from error


def folder(path: str | os.PathLike[str], room: int = 0) -> Path:
    """Makes a folder where there is none and sees that a file of `room` bytes can be written in it; ask before any work
    is done."""
    place = Path(path)
    _nameable(str(place))
    new = [p for p in (place, *place.parents) if not os.path.lexists(p)]
    try:
        with writing(f"The folder {place} cannot be written to"):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(bytes(room))
    except (GenlossError, RunFailed):
        for made in new:  # of a path that cannot be, nothing stays
            with contextlib.suppress(OSError):
                made.rmdir()
        raise
    return place


@contextlib.contextmanager
def opened(root: str | os.PathLike[str], name: str, encoding: str | None = None) -> Iterator[Any]:
    """Opens the file `name` below the folder `root` to be written: bytes, or text in an encoding.

    It is there, under its name, once the block has ended, or not at all; folders on the way are made.  The root may be
    a link; nothing below it is followed that is one.
    """
    file = Path(root, name)
    with writing(f"{file} could not be written"):
        _below(Path(root), name)
        part = file.with_name(f".{file.name}.part")
        try:
            part.unlink(missing_ok=True)  # left by a kill, or a link, which a file opened anew is not
            with part.open("x" if encoding else "xb", encoding=encoding) as stream:
                yield stream
            part.replace(file)
        finally:
            with contextlib.suppress(OSError):  # of two failures the first is told
                part.unlink(missing_ok=True)


def write(root: str | os.PathLike[str], name: str, data: bytes) -> Path:
    """A file below a folder, whole or not at all."""
    with opened(root, name) as stream:
        stream.write(data)
    return Path(root, name)


def _below(root: Path, name: str) -> None:
    """Makes the folders in which a file `name` below `root` lies; raises where that would leave `root`."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise GenlossError(f"'{name}' is no name of a file below {root}; rename it.")
    _nameable(name)
    root.mkdir(parents=True, exist_ok=True)
    for part in parts[:-1]:
        root /= part
        if root.is_symlink():
            raise OSError(errno.ELOOP, "")
        root.mkdir(exist_ok=True)


def _nameable(name: str) -> None:
    try:
        possible = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise GenlossError(f"{name!r} holds what no name of a file can hold; choose another.")


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a folder in which a new folder is written; what it holds is found at `path` once the block has ended.

    Where the block fails nothing stays, and what a kill left is cleared by the next call.  Raises where `path` holds
    anything else.
    """
    place = Path(path)
    there = os.path.lexists(place)
    folder(place)
    if foreign := sorted(entry.name for entry in place.iterdir() if entry.name != PART):
        raise GenlossError(f"{place} is not empty (it has {foreign[0]}); choose a new folder.")
    part = place / PART
    with writing(f"{place} could not be written"):
        _clear(part)
        try:
            part.mkdir()
            yield part
            for entry in part.iterdir():
                entry.replace(place / entry.name)
            part.rmdir()
        except BaseException:
            with contextlib.suppress(OSError):
                _clear(part)
                if not there:
                    place.rmdir()
            raise


def _clear(part: Path) -> None:
    if part.is_symlink() or part.is_file():
        part.unlink()
    elif part.exists():
        shutil.rmtree(part)


@contextlib.contextmanager
def locked(root: str | os.PathLike[str], busy: str | None = None) -> Iterator[None]:
    """Holds the folder `root`, which is made, by its file .lock, which a process loses with its life.

    Waits for whoever holds it, or raises the sentence `busy`.
    """
    root = folder(root)
    with writing(f"{root} cannot be used"):
        lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with writing(f"{root} cannot be locked"):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                raise GenlossError(str(busy)) from None
        yield
    finally:
        os.close(lock)
