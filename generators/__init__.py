"""Models that eat a weighted pool and write rows: one file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generators.gaussian import Gaussian as Gaussian
    from generators.vae import VAE as VAE


def __getattr__(name: str) -> Any:
    """`from generators import Name` finds the class in the file of its name, and imports that file only."""
    try:
        return getattr(importlib.import_module(f"generators.{name.lower()}"), name)
    except ModuleNotFoundError as error:
        if error.name == f"generators.{name.lower()}":
            raise AttributeError(f"there is no generator '{name}'") from None
        raise
