"""A run of a small language model that kills itself: `python killed_text.py FOLDER CALL DELAY`, so many seconds after
what it reports for the CALL-th time, which it prints; 0 is never."""

import os
import signal
import sys
import threading
from typing import Any

import jax

from generators.nets.decoder import gpt2
from generators.transformer import Transformer
from simulator import Chain, Progress, Text, run
from simulator.recipe import Accumulate

TEXT = Text(length=12, vocabulary=30)
CHAIN = Chain(
    source=TEXT,
    generator=Transformer(
        vocabulary=len(TEXT.alphabet), network=gpt2(16, 1, 2), steps=12, chunk=2, batch=8, sample_batch=8
    ),
    recipe=Accumulate(),
    real=40,
    rows=44,
    held_out=20,
    start="previous",
)
CALLS = CHAIN.generator.calls + CHAIN.generator.portions(CHAIN.rows)  # pyright: ignore  # reports of a generation


def main(folder: str, call: int, delay: float) -> None:
    calls = 0

    def report(progress: Progress) -> None:
        nonlocal calls
        calls += progress.doing is not None
        if calls == call and progress.doing:
            print(progress.doing, flush=True)
            killing: Any = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
            killing.start()

    run(CHAIN, jax.random.key(0), 4, folder, save_seconds=0.0, report=report)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    os._exit(0)  # whatever is still to be killed
