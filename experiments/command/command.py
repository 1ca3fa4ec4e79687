"""What a verb of `genloss` is: a line of help, its arguments, the function that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.command.parts import Parts


@dataclass(frozen=True)
class Command:
    """A verb.  Its file imports nothing heavy at the top, so that help answers at once.

    `work` is given what was parsed and returns the exit code.  A verb that `takes_fields` of a chain finds the words
    that are not its own in `options.fields`, and in `options.usage` its own help where that was asked for, else None:
    the fields are known only once the chain is.  One that is `light` needs no jax.  One with `parts`, which other
    processes can do before it puts them together, takes --engine.
    """

    text: str
    arguments: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace], int]
    takes_fields: bool = False
    light: bool = False
    parts: Callable[[argparse.Namespace], Parts] | None = None
