"""Models of other libraries, in and out: one file an ecosystem."""

from generators.hub.diffusers import Stored, load, save

__all__ = ["Stored", "load", "save"]
