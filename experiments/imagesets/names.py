"""Names in somebody's data that become parts of paths, and those that look like another."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable

SPLITS = {"train", "test", "validation", "val", "valid", "dev", "eval"}
SPLIT_WORDS = SPLITS | {"training", "testing", "evaluation"}
OWN = {"config.json", "manifest.jsonl", "README.md", "metadata.jsonl", "metadata.csv"}  # beside the images of a set
LONGEST = 240  # bytes of a name: file systems take 255, and a number or a suffix may come to it


def unfit(name: str) -> str | None:
    """Why a name cannot be a part of a path below the folder of a set, as "is empty"; None where it can."""
    if not name:
        return "is empty"
    if name.encode(errors="replace").decode() != name:
        return "is not UTF-8"
    if name.startswith("."):
        return "begins with a dot"
    if "/" in name or "\\" in name:
        return "holds a slash or a backslash"
    if any(unicodedata.category(c) == "Cc" for c in name):
        return "holds a control character"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    return None


def unfit_path(path: str) -> str | None:
    """The same of a path below the folder of a set: each part can be one, and the first is no file of the set's own."""
    first, *_ = parts = path.split("/")
    if first in OWN:
        return "is that of a file which the set has for itself"
    return next((why for part in parts if (why := unfit(part))), None)


def escaped(name: str) -> str:
    """The name of a class as one folder: Fashion-MNIST has a class "T - shirt / top"."""
    return name.replace("/", "%2F")


def unescaped(folder: str) -> str:
    """The name of a class by its folder."""
    return folder.replace("%2F", "/")


def unfit_class(name: str) -> str | None:
    """Why the name of a class cannot be that of its folder, escaped; None where it can."""
    return "holds %2F" if "%2F" in name else unfit_path(escaped(name))


def alike(name: str, others: Iterable[str]) -> str | None:
    """A sentence on another name that is the same for the eye, and what tells them apart; None where there is none."""
    for other in others:
        for what, form in _FORMS.items():
            if form(other) == form(name):
                return f"{name!a} and {other!a} differ in {what} alone; rename one like the other"
    return None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(unicodedata.normalize("NFKC", name).casefold())


_FORMS = {
    "their Unicode form (NFC, NFD)": _composed,
    "case": lambda name: _composed(name).casefold(),
    "blanks": lambda name: " ".join(_composed(name).split()),
    "case, blanks and Unicode form": lambda name: " ".join(_folded(name).split()),
}


def warn_of_splits(classes: Iterable[str]) -> None:
    """Says on stderr where `datasets` would take an image folder's class for a split, by a word of its name."""
    for name in classes:
        words = SPLIT_WORDS.intersection(re.split(r"[-._ 0-9/]+", name))
        if words:
            print(
                f"`datasets` takes the folder of class '{name}' for a split, for the word '{min(words)}', and may lose "
                "other classes; --format parquet keeps all, and other readers of image folders do not mind.",
                file=sys.stderr,
            )
            return
