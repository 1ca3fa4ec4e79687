"""A process that does one command of `genloss` after another, so that what is imported and compiled serves the next.

Run as a module it is told them on its standard input, a line of JSON each, and answers each with a line; it ends at
once when whoever tells it is gone, at whatever instant: a run goes on after its last checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0  # seconds that a run waits for a process that is about to lose its folder


class Job(NamedTuple):
    """A command of `genloss`, and where what it says and how it ended is written."""

    name: str
    words: list[str]
    logs: str  # folder of NAME.log and NAME.json
    where: str  # folder that the command is given in
    holds: str = ""  # the folder of a run, which a process may hold that is lost but not yet ended

    @property
    def log(self) -> Path:
        return Path(self.logs, f"{self.name}.log")

    @property
    def end(self) -> Path:
        """JSON: code, the exit code, said, the sentence of a refusal, and words."""
        return Path(self.logs, f"{self.name}.json")


def do(job: Job, leaving: Callable[[], bool] = lambda: False) -> None:
    """Does it: all that it prints goes to its log, and how it ended beside that, once it has.

    Where the process is `leaving`, that is no end, whatever jax made of the exception that says so.
    """
    Path(job.logs).mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        start = log.tell()
        with _printing_to(log.fileno()):
            os.chdir(job.where)
            code = _code(job, leaving)
    with job.log.open() as log:
        log.seek(start)
        said = [line for line in log if line.startswith("genloss: ")]
    sentence = said[-1].removeprefix("genloss: ").strip() if code and said else "its log says why" if code else ""
    part = job.end.with_suffix(".part")
    part.write_text(json.dumps({"code": code, "said": sentence, "words": job.words}))
    part.replace(job.end)


def _code(job: Job, leaving: Callable[[], bool]) -> int:
    try:
        _wait_for(job.holds)
        cli = importlib.import_module("experiments.cli")  # by its name, since it knows the engines, and they this file
        return cli.main(job.words)
    except Exception as error:  # who ends the process, as SLURM does to submit it again, is let through
        if leaving():
            raise SystemExit from error
        traceback.print_exc()
        print(f"genloss: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", file=sys.stderr)
        return 1


def _wait_for(folder: str) -> None:
    """Waits until no other process holds the folder of a run, or patience is lost: then the run says so."""
    if not folder or not Path(folder, ".lock").exists():
        return
    until = time.monotonic() + PATIENCE
    with Path(folder, ".lock").open("rb") as lock:
        while time.monotonic() < until:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and lets go of it
            except BlockingIOError:
                time.sleep(0.5)


@contextlib.contextmanager
def _printing_to(file: int) -> Iterator[None]:
    """Both outputs of the process, those of libraries written in C among them."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = {stream: os.dup(stream) for stream in {1, 2, sys.stdout.fileno(), sys.stderr.fileno()}}
    try:
        for stream in before:
            os.dup2(file, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, old in before.items():
            os.dup2(old, stream)
            os.close(old)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        do(Job(**json.loads(jobs.get())))
        _make_room()
        answers.write("\n")


def _make_room() -> None:
    """Programs on CPU hold mappings of memory, of which Linux gives a process 65,530; beyond them jaxlib ends it."""
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        sys.modules["jax"].clear_caches()


if __name__ == "__main__":
    main()
