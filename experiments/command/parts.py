"""A command done in parts: planned and joined by a process of its own, done by an engine, shown while it goes on."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments.command import engines
from experiments.command.numbers import Refused
from experiments.command.worker import Job

HERE = ("--engine", engines.HERE)


@dataclass(frozen=True)
class Part:
    """A command that can be given apart."""

    name: str
    words: list[str]
    added: bool = False  # to the words of the command itself
    holds: str = ""  # the folder of a run, where it is one


@dataclass(frozen=True)
class Parts:
    """What of a command is not done yet, in parts, which leave files that the command itself finds and joins."""

    logs: str = ""  # folder, beside and never inside that of a run; by default one of the command's own
    parts: list[Part] = field(default_factory=list)
    some: bool = False  # whether those that are done are joined where others failed
    printed: bool = False  # whether what they print is what they leave
    told: str = ""  # of what is planned, a line


def at_once(options: argparse.Namespace) -> Parts:
    """Of a command that has no parts: it is done elsewhere, and what it prints is shown."""
    return Parts(parts=[Part(options.command, [], added=True)], printed=True)


def write(options: argparse.Namespace, parts: Callable[[argparse.Namespace], Parts]) -> int:
    Path(options.parts).write_text(json.dumps(asdict(parts(options))))
    return 0


def drive(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Has an engine do the parts of a command, then joins them: 1 where one failed; done whole it keeps its code."""
    if getattr(options, "processes", None):
        raise Refused("--processes share one run, and --engine does several; leave one of them out.")
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "parts")
        if code := _itself(words, "--parts", str(plan)):
            return code
        told = json.loads(plan.read_text())
    parts = [Part(**part) for part in told["parts"]]
    parts = [replace(part, words=[*words, *part.words, *HERE], added=False) if part.added else part for part in parts]
    planned = Parts(**{**told, "parts": parts, "logs": told["logs"] or str(_logs(words))})
    if planned.told:
        print(planned.told, flush=True)
    failed = done_by(options, planned)
    code = 0
    if planned.printed:
        _show(Path(planned.logs, f"{part.name}.log") for part in parts if part.name not in failed)
    elif planned.some or not failed:
        code = _itself(words, "--joined")
    for name, why in failed.items():
        print(f"genloss: {name} failed: {why}", file=sys.stderr)
    if failed:
        many = f"{len(failed)} of {len(parts)} parts failed; the same command does what is missing."
        print(f"genloss: {many}", file=sys.stderr)
        return max(_code(Path(planned.logs, f"{name}.json")) for name in failed) if planned.printed else 1
    for part in parts:  # given again it does them again
        Path(planned.logs, f"{part.name}.json").unlink(missing_ok=True)
    return code


def _show(logs: Iterable[Path]) -> None:
    """What parts printed, warnings apart."""
    for log in logs:
        for line in log.read_text().splitlines():
            print(line, file=sys.stderr if line.startswith("genloss: ") else sys.stdout)


def _logs(words: Sequence[str]) -> Path:
    """Of a command that has no folder."""
    told = hashlib.blake2b(json.dumps(list(words)).encode(), digest_size=5).hexdigest()
    return Path("runs", f"{words[0]}-{told}.logs").absolute()


def _itself(words: Sequence[str], *more: str) -> int:
    """The command in a process that leaves accelerators to the parts."""
    command = [sys.executable, "-m", "experiments.cli", *words, *HERE, *more]
    return subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False).returncode


def done_by(options: argparse.Namespace, planned: Parts) -> dict[str, str]:
    """Name -> why, of those that failed."""
    from experiments.command.board import Board

    logs = Path(planned.logs)
    logs.mkdir(parents=True, exist_ok=True)
    jobs = {part.name: Job(part.name, part.words, str(logs), str(Path.cwd()), part.holds) for part in planned.parts}
    jobs = {name: job for name, job in jobs.items() if job.holds or not _is_done(job)}  # a run's folder knows better
    if not jobs:
        return {}
    for job in jobs.values():
        job.log.unlink(missing_ok=True)
        job.end.unlink(missing_ok=True)
    engine: engines.Engine = engines.ENGINES[options.engine](options, logs)
    left, lost, failed = dict(jobs), dict.fromkeys(jobs, 0), {}
    try:
        with Board(list(jobs.values())) as board:
            engine.submit(list(jobs.values()))
            while left:
                for name, why in engine.ended().items():
                    lost[name] += bool(why)
                    if why and lost[name] <= engine.retries:
                        board.again(name, why)
                        engine.submit([jobs[name]])
                        continue
                    job = left.pop(name)
                    if why := why or _refusal(job):
                        failed[name] = f"{why.rstrip('.')}; see {os.path.relpath(job.log)}."
                    board.ended(name, why)
                board.look()
    finally:
        engine.close()
    return failed


def _code(end: Path) -> int:
    """That of a part that failed; of one that left no word 1."""
    try:
        return json.loads(end.read_text())["code"]
    except (OSError, ValueError):
        return 1


def _is_done(job: Job) -> bool:
    """By an earlier call, which was not done with all."""
    try:
        end = json.loads(job.end.read_text())
    except (OSError, ValueError):
        return False
    return end["code"] == 0 and end["words"] == job.words


def _refusal(job: Job) -> str:
    """The sentence of a part that ended, but was not done; "" of one that was."""
    try:
        end = json.loads(job.end.read_text())
    except (OSError, ValueError):
        return "it ended and left no word of how"
    return end["said"] if end["code"] else ""
