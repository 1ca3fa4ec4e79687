"""Image sets as a table on disk: a million images are checked, ordered and counted in memory that does not grow."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from experiments.imagesets.checks import looked, watched
from experiments.imagesets.images import Folder, Item, Parquet, Troubles
from simulator.types import RunFailed

COLUMNS = "set_, label, folder, name, where_, size, checksum, said, mode, width, height, rank"


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Tells of an index that could not be kept."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RunFailed(
            f"The table of images could not be kept ({error}); free some space, or name a folder by SQLITE_TMPDIR."
        ) from None


class Index:
    """A row for each usable image of some sets, numbered from 0; `db` is there to be asked.

    item: id, in the order of reading; set_; label, folder, name, where_ and said as `Item` has them; size in bytes and
    checksum of the encoded image; mode, width, height; rank, a random number made of a seed, the label and the name
    alone.
    """

    def __init__(self) -> None:
        # A file that has no name and goes with the process; SQLITE_TMPDIR says in which folder.
        self.db = sqlite3.connect("")
        self.db.execute("PRAGMA cache_size = -8192")  # KiB
        self.db.execute("PRAGMA journal_mode = OFF")
        self.db.execute(f"CREATE TABLE item (id INTEGER PRIMARY KEY, {COLUMNS})")
        self.db.execute("CREATE TABLE bytes (id INTEGER PRIMARY KEY, data)")
        self.sets: list[Folder | Parquet] = []

    def add(self, images: Folder | Parquet, seed: str, what: str, troubles: Troubles, whole: bool) -> None:
        """Reads a set; of the `whole` of it each image is decoded once, and further columns are read."""
        number = len(self.sets)
        self.sets.append(images)
        found = looked(watched(images.items(troubles, whole), f"reading {what}"), troubles, whole)
        self.db.executemany(
            f"INSERT INTO item ({COLUMNS}) VALUES ({', '.join('?' * 12)})",
            (
                (number, *_placed(item), len(data), _number(data), item.said, *looks, rank(seed, item))
                for item, data, looks in found
            ),
        )
        if isinstance(images, Parquet):  # a name that several rows share is told apart by the number of the later ones
            row = "SELECT id, ROW_NUMBER() OVER (PARTITION BY label, name ORDER BY id) AS n FROM item WHERE set_ = ?"
            again = f"SELECT id FROM ({row}) WHERE n > 1"
            self.db.execute(f"UPDATE item SET name = printf('%08d-', id) || name WHERE id IN ({again})", (number,))

    def counts(self, number: int) -> dict[str, int]:
        """Images of each label of a set, labels sorted."""
        return dict(
            self.db.execute("SELECT label, COUNT(*) FROM item WHERE set_ = ? GROUP BY label ORDER BY label", (number,))
        )

    def digest(self, number: int) -> str:
        """Checksum of what is in a set, whatever the order and place of its images."""
        total = hashlib.blake2b(digest_size=10)
        columns = "label, folder, name, size, checksum, said"
        for row in self.db.execute(f"SELECT {columns} FROM item WHERE set_ = ? ORDER BY 1, 2, 3", (number,)):
            total.update(repr(row).encode())
        return total.hexdigest()

    def spool(self, number: int, chosen: str) -> None:
        """Keeps the bytes of the chosen images (SQL that selects ids) of a parquet set, whose rows have no path."""
        if isinstance(self.sets[number], Folder):
            return
        ids = f"SELECT id, where_ FROM item WHERE set_ = {number} AND id IN ({chosen}) ORDER BY id"
        stream = self.streamed(number, self.db.execute(ids))
        self.db.executemany("INSERT INTO bytes VALUES (?, ?)", watched(stream, "gathering"))

    def data(self, number: int, row: int, where: str) -> bytes | str:
        """The path of an image of a folder, or the bytes of one that was spooled."""
        images = self.sets[number]
        if isinstance(images, Folder):
            return f"{images.root}/{where}"
        return self.db.execute("SELECT data FROM bytes WHERE id = ?", (row,)).fetchone()[0]

    def streamed(self, number: int, rows: Iterator[tuple[Any, str]]) -> Iterator[tuple[Any, bytes | str]]:
        """For rows (anything, where) of a set in the order of reading: (anything, bytes or path)."""
        images = self.sets[number]
        if isinstance(images, Folder):
            for row, where in rows:
                yield row, f"{images.root}/{where}"
            return
        stream = images.items(lambda where, why: None)  # they were told when the set was read
        for row, where in rows:
            yield row, next(item.data for item in stream if item.where == where)


def _placed(item: Item) -> tuple[str, str, str, str]:
    return item.label, item.label if item.folder is None else item.folder, item.name, item.where


def rank(seed: str, item: Item) -> int:
    """A random number of 63 bits and a sign, made of the seed and the name alone."""
    return _number(f"{seed}/{item.file}".encode())


def _number(data: bytes) -> int:
    """63 bits and a sign of a checksum.  Not a CRC-32, of which PNG files have some 16 bits: chunks carry their own."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)
