"""The time of a run: how far it is, where it goes, and when it may go into saving."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from simulator.abilities import Stepped, Trained
from simulator.numerics.processes import agreed
from simulator.types import Record


@dataclass
class Progress:
    """What a run reports while it goes on."""

    done: int  # generations finished
    generations: int  # to do in all
    record: Record | None  # the last finished generations, leaves [(settings, replicates,) chunk, ...]; None: none yet
    part: float = 0.0  # share of the generation in flight that is done
    seconds: dict[str, float] = field(default_factory=dict)  # train, sample, measure, save: spent on this report
    doing: str = ""  # what is being done, where that takes long


class Clock:
    """Seconds spent on each part of a generation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, part: str, result: Any = None) -> Any:
        """Charges the time since the last lap to a part, once `result` has been computed."""
        jax.block_until_ready(result)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now
        return result


class Pace:
    """Does what can wait, such as saving, no oftener than every so many seconds and in a twentieth of the time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.due = time.perf_counter() + seconds

    def __call__(self, work: Callable[[], Any], now: bool = False) -> None:
        """Does it if it is time, or `now`; several processes do as the first."""
        started = time.perf_counter()
        if agreed(now or started >= self.due):
            work()
            ended = time.perf_counter()
            self.due = ended + max(self.seconds, 20 * (ended - started))


def doing(model: Trained, calls: int, loss: np.ndarray, seconds: float) -> str:
    """How far a fit is: step, mean loss over chains, training rows a second in all; `seconds` a call."""
    steps, batch = (model.steps, model.batch) if isinstance(model, Stepped) else (model.calls, 0)
    speed = batch * steps / model.calls * loss.size / seconds
    said = f"step {round(calls / model.calls * steps):,} of {steps:,}, loss {loss.mean():.4g}"
    return said + (f", {speed:,.0f} rows/s" if speed else "")
