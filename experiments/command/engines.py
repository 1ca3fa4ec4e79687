"""Where the parts of a command are done: processes of this machine, Ray or SLURM.  No other file knows one.

A part is a command of `genloss` whose results are files in a folder that all machines share; an engine only has it
done (`worker.do`), and says which processes it lost.  Nothing here needs jax, which would take a GPU's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.command.devices import gpus
from experiments.command.numbers import Refused, number, whole
from experiments.command.worker import Job, do

HERE = "here"
SOON = 0.25  # seconds that an engine waits for news
MEMORY = 0.9  # of a GPU's that runs share
LIMIT = 60  # minutes of a job of SLURM, which is submitted again when they are over
LOST = "its process was lost"


class Engine(Protocol):
    """What has jobs done."""

    retries: int  # times that a job is submitted again whose process was lost

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes them over: each is begun as soon as there is room."""
        ...

    def ended(self) -> dict[str, str]:
        """Jobs that came to their end since the last call, each with why it was lost, or "".  Waits a little."""
        ...

    def close(self) -> None:
        """Ends what is not done, which goes on where its last checkpoint is."""
        ...


class Local:
    """Processes of this machine, each of which does one job after another."""

    def __init__(self, options: argparse.Namespace, logs: Path) -> None:
        self.retries, self.logs = options.retries, logs
        self.seen = gpus()
        share = options.gpus or 1.0
        self.room = options.jobs or (max(1, int(len(self.seen) / share)) if self.seen else os.cpu_count() or 1)
        self.memory = share_of_a_gpu(options.gpus)
        self.waiting: deque[Job] = deque()
        self.doing: dict[int, tuple[subprocess.Popen[bytes], Job | None]] = {}  # place -> process, its job

    def submit(self, jobs: Sequence[Job]) -> None:
        self.waiting.extend(jobs)

    def ended(self) -> dict[str, str]:
        for place in range(self.room):
            if self.waiting and (place not in self.doing or self.doing[place][1] is None):
                process = self.doing[place][0] if place in self.doing else self._start(place)
                job = self.waiting.popleft()
                self.doing[place] = process, job
                with contextlib.suppress(BrokenPipeError):  # it is found dead below
                    _pipe(process.stdin).write(json.dumps(job._asdict()).encode() + b"\n")
        busy = {_pipe(process.stdout): place for place, (process, job) in self.doing.items() if job}
        found: dict[str, str] = {}
        for answers in select.select(list(busy), [], [], SOON)[0]:
            process, job = self.doing[busy[answers]]
            assert job is not None
            if os.read(answers.fileno(), 1):
                self.doing[busy[answers]] = process, None
                found[job.name] = ""
            else:
                del self.doing[busy[answers]]
                found[job.name] = f"{LOST} ({_ended_by(_left(process))})"
        return found

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        own = {"CUDA_VISIBLE_DEVICES": self.seen[place % len(self.seen)]} if self.seen else {}
        with (self.logs / f"process-{place}.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-u", "-m", "experiments.command.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env={**os.environ, **self.memory, **own},
                start_new_session=True,  # Ctrl-C is for who tells them
            )

    def close(self) -> None:
        for process, _ in self.doing.values():
            _pipe(process.stdin).close()  # at which they end
        for process, _ in self.doing.values():
            _left(process)


class Ray:
    """Tasks of Ray, on the cluster at an address or on a Ray of its own.

    A process of Ray does one task after another, but on GPUs, where it ends with its task and leaves its memory.
    """

    retries = 0  # Ray itself does it

    def __init__(self, options: argparse.Namespace, logs: Path) -> None:
        self.ray = needed("ray", "ray")
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        try:
            self.ray.init(address=options.address or "auto", **quiet)
        except ConnectionError:
            if options.address:
                raise Refused(f"No Ray answers at {options.address}; start it with `ray start --head`.") from None
            self.ray.init(address="local", num_cpus=options.jobs, **quiet)
        self.task = self.ray.remote(do).options(
            num_cpus=1,
            num_gpus=options.gpus,
            max_retries=options.retries,
            retry_exceptions=False,
            runtime_env={"env_vars": share_of_a_gpu(options.gpus)},
        )
        self.running: dict[Any, str] = {}  # reference -> name

    def submit(self, jobs: Sequence[Job]) -> None:
        self.running |= {self.task.remote(job): job.name for job in jobs}

    def ended(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for reference in self.ray.wait(list(self.running), num_returns=len(self.running), timeout=SOON)[0]:
            name = self.running.pop(reference)
            try:
                self.ray.get(reference)
                found[name] = ""
            except self.ray.exceptions.RayError as error:
                found[name] = f"{LOST} ({type(error).__name__})"
        return found

    def close(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()


class Slurm:
    """An array of SLURM's jobs, each submitted again where it is pre-empted or its time is over.

    What submitit writes, pickles among it, lies in a folder of its own beside the logs; nothing of it is read here.
    """

    def __init__(self, options: argparse.Namespace, logs: Path) -> None:
        submitit = needed("submitit", "slurm")
        given = dict(options.slurm)
        cluster = str(given.pop("cluster", "slurm"))
        if cluster == "slurm" and not shutil.which("sbatch"):
            raise Refused("There is no sbatch here; give the command where SLURM is, or try --slurm cluster=local.")
        self.retries, self.folder = options.retries, logs / "submitit"
        often = {f"{cluster}_max_num_timeout": 10**6}  # each goes on where the last was stopped
        self.executor = submitit.AutoExecutor(self.folder, cluster=cluster, **often)
        gpu = {"gpus_per_node": math.ceil(options.gpus)} if options.gpus else {}
        most = {"slurm_array_parallelism": options.jobs} if options.jobs else {}
        try:
            self.executor.update_parameters(name="genloss", **{"timeout_min": LIMIT, **gpu, **most, **given})
        except (NameError, TypeError, ValueError) as error:
            raise Refused(f"--slurm: {str(error).rstrip('.')}.") from None
        self.running: dict[str, tuple[Job, Any]] = {}
        self.looked = 0.0
        self.known = self.folder / "ids.json"  # of the jobs that go on should this process be killed
        if cluster == "slurm" and self.known.exists():
            subprocess.run(["scancel", "--quiet", *json.loads(self.known.read_text())], check=False)

    def submit(self, jobs: Sequence[Job]) -> None:
        for job, submitted in zip(jobs, self.executor.map_array(Again(), jobs), strict=True):
            self.running[job.name] = job, submitted
        self.known.write_text(json.dumps([str(of.job_id) for _, of in self.running.values()]))

    def ended(self) -> dict[str, str]:
        time.sleep(SOON)
        found = {name: "" for name, (job, _) in self.running.items() if job.end.exists()}
        if time.monotonic() > self.looked + 20 * SOON:
            self.looked = time.monotonic()
            gone = {name: of.state for name, (_, of) in self.running.items() if name not in found and of.done()}
            found |= {n: "" if self.running[n][0].end.exists() else f"{LOST} ({state})" for n, state in gone.items()}
        for name in found:
            del self.running[name]
        return found

    def close(self) -> None:
        for _, submitted in self.running.values():
            submitted.cancel(check=False)


class Again:
    """`worker.do`, which is simply done again after a time-out or a pre-emption."""

    leaving = False  # it is submitted again already

    def __call__(self, job: Job) -> None:
        do(job, lambda: self.leaving)

    def checkpoint(self, job: Job) -> Any:
        from submitit.helpers import DelayedSubmission

        self.leaving = True
        return DelayedSubmission(Again(), job)

    __submitit_checkpoint__ = checkpoint


ENGINES: Mapping[str, Any] = {"local": Local, "ray": Ray, "slurm": Slurm}


def arguments(sub: argparse.ArgumentParser) -> None:
    """Where the parts of a command are done."""
    at = sub.add_argument_group("engines")
    at.add_argument("--engine", choices=[HERE, *ENGINES], default=HERE, help="where parts are done (default: here)")
    at.add_argument(
        "--jobs", type=whole(1), metavar="N", help="at once (default: one a core or GPU; of SLURM no limit)"
    )
    at.add_argument("--gpus", type=number(0.01, 8), metavar="G", help="of each part, such as 0.5: two share one")
    at.add_argument("--retries", type=whole(), default=2, metavar="N", help="where a machine dies (default: 2)")
    at.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: the one here, or a new one)")
    at.add_argument(
        "--slurm",
        type=_setting,
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="of sbatch, such as slurm_partition=gpu",
    )
    at.add_argument("--parts", metavar="FILE", help=argparse.SUPPRESS)  # writes what the parts are
    at.add_argument("--joined", action="store_true", help=argparse.SUPPRESS)  # does no part, joins those that are done


def share_of_a_gpu(gpus: float | None) -> dict[str, str]:
    """What tells jax to take no more of a GPU's memory than the share of a part."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY * gpus:.3f}"} if gpus and gpus < 1 else {}


def needed(package: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise Refused(f"--engine {extra} needs {package}; install genloss[{extra}].") from None


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, such as slurm_partition=gpu; it was given '{text}'")
    return name.strip(), int(value) if value.strip().isdecimal() else value.strip()


def _pipe(end: Any) -> Any:
    assert end is not None
    return end


def _left(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that is at its end."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
    for end in (process.stdin, process.stdout):
        _pipe(end).close()
    return process.wait()


def _ended_by(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
