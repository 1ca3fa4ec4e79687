"""Models of other libraries, in and out: one file an ecosystem."""

from generators.hub.diffusers import load, save

__all__ = ["load", "save"]
