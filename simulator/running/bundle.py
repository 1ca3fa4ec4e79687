"""A run as one file that another machine can check: a zip of its folder, with a checksum of 256 bits over every file.

Nothing in it is compressed (its largest parts are already), so what is unpacked is no larger than the file, and the
same folder gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from simulator import disk
from simulator.checks import code
from simulator.running.store import Store
from simulator.types import GenlossError

MANIFEST = "bundle.json"
MOST = 200_000  # files
LARGEST = 2**26  # bytes of the manifest
_FILES = ("chain.json", "records.parquet", "ceiling.json", "prepared.npz", "theory.json")
_FOLDERS = ("checkpoints", "samples", "report")
_NAME = re.compile(rf"(?:{'|'.join(map(re.escape, _FILES))}|(?:{'|'.join(_FOLDERS)})(?:/(?!\.)[\w.+-]+)+)", re.ASCII)
_DATE = (1980, 1, 1, 0, 0, 0)
_PIECE = 2**20


class Unpacked(NamedTuple):
    folder: Path
    about: dict[str, Any]  # bundle.json
    altered: list[str]  # files whose checksum is not that in bundle.json


def write(store: Store, file: Path, steps: Collection[int] | None = None) -> dict[str, Any]:
    """Packs a run: its configuration, records, figures and page, and its checkpoints; returns what bundle.json says.

    Of `steps` alone, where they are given.  A file that is named and is none of a run's is left where it is, and so is
    the code of the user's own that the run may be made of.
    """
    about = store.about()
    chosen = store.steps() if steps is None else sorted(steps)
    run = about["run"]
    manifest: dict[str, Any] = {
        "format": 1,
        "run": about["signature"],
        "checkpoints": chosen,
        "all": chosen == store.steps(),
        "needs": {
            "versions": about["versions"],
            "device": about["device"],
            "processor": sorted({s["processor"] for s in about.get("stretches", ()) if "processor" in s}),
            "data": run.get("data"),
            "code": code.foreign(run),
        },
        "files": {},
    }
    with contextlib.ExitStack() as held:
        if os.access(store.path, os.W_OK):
            held.enter_context(disk.locked(store.path, f"A process is running in {store.path}; wait for it."))
        sink = held.enter_context(disk.opened(file.absolute().parent, file.name))
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
            for name, path in sorted(_files(store.path, {str(step) for step in chosen})):
                with path.open("rb") as source, packed.open(_entry(name, path.stat().st_size), "w") as target:
                    manifest["files"][name] = _copied(source, target)
            data = json.dumps(manifest, indent=1).encode()
            with packed.open(_entry(MANIFEST, len(data)), "w") as target:
                target.write(data)
    return manifest


def _files(root: Path, steps: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Name and place of every file of a run's folder that is packed."""
    places = [root / name for name in _FILES]
    for place in [root / "samples", root / "report", *(root / "checkpoints" / step for step in steps)]:
        places += sorted(place.rglob("*"))
        places.append(place)
    for path in places:
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or (root / name.split("/")[0]).is_symlink():
            raise GenlossError(f"{path} is a link, and links are not followed; put what it means in its place.")
        if path.is_file() and _NAME.fullmatch(name):
            yield name, path


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system, entry.file_size = 3, size  # Unix, wherever it is written
    return entry


def _copied(source: IO[bytes], target: IO[bytes]) -> str:
    """The checksum of what was copied."""
    total = hashlib.sha256()
    while piece := source.read(_PIECE):
        total.update(piece)
        target.write(piece)
    return total.hexdigest()


@contextlib.contextmanager
def unpacked(file: Path) -> Iterator[Unpacked]:
    """The run of a bundle, in a folder that is there for as long as the block lasts.

    Raises where it is no bundle, or one that would write elsewhere, more than it holds, or anything but plain files.
    """
    with contextlib.ExitStack() as held:
        try:
            packed = held.enter_context(zipfile.ZipFile(file))
            entries = _entries(packed, file)
            root = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="genloss-")))
            size = sum(entry.file_size for entry in entries.values())
            if size > shutil.disk_usage(root).free:
                raise GenlossError(f"{file} takes {size / 1e6:,.0f} MB in {root.parent}, which has less; set TMPDIR.")
            about, altered = _manifest(packed, entries, file), []
            for name, told in about["files"].items():
                with packed.open(entries[name]) as source, disk.opened(root, name) as target:
                    if _copied(source, target) != told:
                        altered.append(name)
        except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
            raise GenlossError(f"{file} is no whole bundle ({error}); make it again with genloss bundle.") from None
        yield Unpacked(root, about, altered)


def _entries(packed: zipfile.ZipFile, file: Path) -> dict[str, zipfile.ZipInfo]:
    """What lies in a zip, by name; raises where a bundle would not hold it."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in packed.infolist():
        name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and not entry.flag_bits & 1 and entry.compress_type == zipfile.ZIP_STORED
        if not (plain and name not in found and (name == MANIFEST or _NAME.fullmatch(name))):
            raise GenlossError(f"{file} holds {name[:80]!r}, which no bundle does; make it again with genloss bundle.")
        found[name] = entry
    size = sum(entry.file_size for entry in found.values())
    if len(found) > MOST or size > file.stat().st_size:
        raise GenlossError(f"{file} would be {len(found):,} files of {size:,} bytes in all, which is no bundle's size.")
    return found


def _manifest(packed: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], file: Path) -> dict[str, Any]:
    import msgspec

    from simulator.running.contents import Bundle

    try:
        if entries[MANIFEST].file_size > LARGEST:
            raise ValueError("it is too large")
        about = json.loads(packed.read(entries[MANIFEST]))
        msgspec.convert(about, Bundle)
        if set(about["files"]) != set(entries) - {MANIFEST}:
            raise ValueError("it does not name the files that there are")
    except (KeyError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise GenlossError(f"{file} is no bundle: its {MANIFEST} is missing or not whole ({error}).") from None
    return about
