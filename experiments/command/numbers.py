"""What a command takes for a number, a ratio or a place: checked at the door, with the range said."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

MOST = 2**31 - 1  # generations, rows and steps are counted in 32 bits
KEYS = 2**32 - 1  # a larger seed would open the stream of a smaller one


class Refused(Exception):
    """Bad input that the parser finds: one sentence."""


class Parser(argparse.ArgumentParser):
    """Refuses in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        said = re.sub(r"^argument (\S+): (is|takes) ", r"\1 \2 ", message)
        said = re.sub(r"^argument (.+?): ", r"\1: ", said)
        raise Refused(" ".join(said.split()).rstrip(".") + ".")


def whole(low: int = 0, high: int = MOST) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,40}", text.strip(), re.ASCII):
            raise argparse.ArgumentTypeError(
                f"takes a whole number from {low:,} to {high:,}; it was given {_short(text)}"
            )
        return _within(int(text), low, high)

    return read


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """A finite number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise argparse.ArgumentTypeError(f"takes a finite number; it was given {_short(text)}")
        return _within(found, low, high)

    return read


def _within(found: Any, low: float, high: float) -> Any:
    if not low <= found <= high:
        bound = f"at least {low:,}" if found < low else f"at most {high:,}"
        raise argparse.ArgumentTypeError(f"is {found:,} and must be {bound}")
    return found


def ratio(text: str) -> str:
    """A share as it is written, "0.4", "40%" or "2/5", which is read exactly elsewhere: so no endless exponents."""
    if len(text) > 40 or re.search(r"e[+-]?\d{3}", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"takes a share such as 0.4; it was given {_short(text)}")
    return text


INCHES = {"mm": 1 / 25.4, "cm": 1 / 2.54, "in": 1.0, "pt": 1 / 72.27}  # of a unit; points are those of TeX


def length(text: str) -> float:
    """Inches, of a length with its unit, from 10 mm to 2 m."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?) ?(mm|cm|in|pt)", text.strip(), re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(
            f"takes a length with its unit, such as 84mm, 8.4cm, 3.3in or 240pt; it was given {_short(text)}"
        )
    inches = float(found[1]) * INCHES[found[2]]
    if not 10 <= (millimetres := 25.4 * inches) <= 2000:
        raise argparse.ArgumentTypeError(f"is {millimetres:,.4g} mm and must be at least 10 mm and at most 2,000 mm")
    return inches


def place(text: str) -> str:
    """A file or folder; an empty name is none."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"takes the name of a file or folder, not {_short(text)}; choose one")
    return text


def near(path: Path) -> str:
    """A file or folder as it is told: below where the command was given by its way from there."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
