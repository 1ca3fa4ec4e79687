"""A long sample, driven from the host portion by portion."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import pytest
import tiny_diffusion
from equality import close, same

from simulator import Store, Sweep, run
from simulator.running import spec


@pytest.mark.slow
@pytest.mark.parametrize("axes", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_portions_are_the_sample(axes: int, tmp_path: Path):
    chain = spec.override(tiny_diffusion.chain, {"generator.sample_batch": 15})  # 40 rows: the last is not whole
    subject: Any = chain if axes == 0 else Sweep(chain, "recipe.index", tiny_diffusion.sweep.values)
    said: list[str] = []
    whole = run(subject, jax.random.key(0), 1, tmp_path / "portions", report=lambda p: said.append(p.doing))
    assert [word for word in said if word.startswith("sampling")] == [
        "sampling, 33%",
        "sampling, 67%",
        "sampling, 100%",
    ]
    assert any(word.startswith("step 4 of 4, loss") and word.endswith("rows/s") for word in said)
    at_once = spec.override(chain, {"generator.sample_batch": 40})
    once: Any = at_once if axes == 0 else dataclasses.replace(subject, chain=at_once)
    assert same(whole["fit"], run(once, jax.random.key(0), 1)["fit"])

    rows = [
        [leaves for *_, leaves, _ in store.chunks()]
        for store in (Store(tmp_path / "portions"), _stored(once, tmp_path / "once"))
    ]
    assert close(rows[0], rows[1], atol=1)  # pixels of 0..255, rounded


def _stored(subject: Any, path: Path) -> Any:

    run(subject, jax.random.key(0), 1, path)
    return Store(path)
