"""The laws of a run, kept in its folder: a report draws them without the chain, which others' code may be part of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from simulator.chain import Chain
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.theory.overlay import Overlay, overlays
from simulator.types import GenlossError

FILE = "theory.json"


def keep(store: Store, subject: Chain | Sweep) -> dict[str, Overlay]:
    """The laws of what a folder's run is made of, computed once and written to theory.json.

    Where they cannot be computed, or a fork goes on from another chain's generation, the reason is kept.
    """
    about = store.about()
    told = _read(store)
    if told.get("signature") != about["signature"] or told.get("generations", 0) < about["generations"]:
        laws = _laws(about, subject)
        told = {
            "signature": about["signature"],
            "generations": about["generations"],
            "laws": {name: {"curves": _plain(law), "why": law.why} for name, law in laws.items()},
        }
        store.write(FILE, json.dumps(told, indent=1, allow_nan=False).encode())
    return kept(store)


def _laws(about: dict[str, Any], subject: Chain | Sweep) -> dict[str, Overlay]:
    if "fork" in about:
        return _none("the run is a fork, whose first generations were made with another recipe.")
    try:
        return overlays(subject, about["generations"])
    except GenlossError as error:
        return _none(str(error))
    except Exception as error:  # a user's own recipe or probe may fail in any way; the run is none the worse for it
        return _none(f"the laws of the chain cannot be computed ({type(error).__name__}: {error}).")


def _none(why: str) -> dict[str, Overlay]:
    return {"": Overlay({}, {"none": why})}


def _plain(law: Overlay) -> dict[str, list[float | None]]:
    """Curves as JSON has them, which knows no NaN."""
    return {metric: [float(v) if np.isfinite(v) else None for v in curve] for metric, curve in law.curves.items()}


def kept(store: Store) -> dict[str, Overlay]:
    """The laws kept in a run's folder, by setting, up to its last generation; where there are none, why."""
    about, done = store.about(), int(store.records()["generation"].max()) + 1
    if not (store.path / FILE).exists():
        return _none("no theory was kept with the run; `genloss report RUN --trust` builds its chain and keeps it.")
    told = _read(store)
    if not told:
        return _none(f"{FILE} cannot be read; `genloss report RUN --trust` makes it again.")
    if told["signature"] != about.get("signature") or told["generations"] < done:
        return _none(f"{FILE} is of another run, or of fewer generations; the run's own command makes it again.")
    return {
        name: Overlay({m: np.array(curve, np.float64)[:done] for m, curve in law["curves"].items()}, dict(law["why"]))
        for name, law in told["laws"].items()
    }


def _read(store: Store) -> dict[str, Any]:
    """theory.json; nothing where it is not there, or not as `keep` writes it."""
    try:
        told = json.loads((store.path / FILE).read_bytes())
        for law in told["laws"].values():
            curves = [np.array(curve, np.float64).shape for curve in law["curves"].values()]
            texts = [*law["why"].keys(), *law["why"].values()]
            if set(curves) - {(told["generations"],)} or not all(isinstance(text, str) for text in texts):
                return {}
        return told if isinstance(told["signature"], str) else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
