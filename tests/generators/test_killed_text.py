"""Killed inside fits and inside sampling, and started again: the same text to the bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import CACHE, SHARED
from equality import same
from killed_text import CALLS
from stored_runs import contents

from simulator import Store

SOON = 0.05  # seconds: a call or some


def started(folder: Path, call: int, delay: float) -> tuple[int, str]:
    """A run in a process of its own: how it ended, and what it was doing when it was killed."""
    command = [sys.executable, str(SHARED / "killed_text.py"), str(folder), str(call), str(delay)]
    keep = {"JAX_COMPILATION_CACHE_DIR": str(CACHE), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **keep})
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.strip()


def kill_and_compare(folder: Path, kills: int, seed: int) -> list[str]:
    """Kills runs at calls drawn at random until there were `kills`, each gone on with to its end; what they were at."""
    assert started(folder / "whole", 0, 0) == (0, "")
    whole, chance, moments, turn = Store(folder / "whole"), np.random.default_rng(seed), [], 0
    while len(moments) < kills:
        turn += 1
        out, ended = folder / f"killed{turn}", None
        while ended != 0:
            call = int(chance.integers(1, CALLS + 1)) if len(moments) < kills else 0
            ended, doing = started(out, call, chance.uniform(0, SOON))
            moments += [doing] if ended else []
        killed = Store(out)
        with killed.opened(killed.about()["run"], 1), whole.opened(whole.about()["run"], 1):
            assert same(contents(whole), contents(killed))
        for t in range(4):
            texts = [(run.path / "samples" / f"{t}.jsonl").read_bytes() for run in (whole, killed)]
            assert texts[0] == texts[1] and len(texts[0]) > 40
        assert not list(out.rglob(".*.part")) and not (out / "damaged").exists() and not (out / "fit.npz").exists()
    return moments


@pytest.mark.slow
def test_a_language_model_that_was_killed_goes_on_with_the_same_text(tmp_path: Path):
    assert len(kill_and_compare(tmp_path, kills=2, seed=1)) == 2


@pytest.mark.slow
def test_a_language_model_killed_at_fifty_moments(tmp_path: Path):
    moments = kill_and_compare(tmp_path, kills=50, seed=2)
    print("\n".join(moments))
    sampling = sum("sampling" in moment for moment in moments)
    assert 10 < sampling < 40
