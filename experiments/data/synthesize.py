"""`genloss synthesize`: a data set made by a pipeline of diffusers, or by a generation of a stored run.

Images are made in batches that are fixed once and for all: batch b holds items b·B to (b + 1)·B - 1, whoever makes it
and whatever was there before.  Part i of n makes the batches i, i + n, i + 2n ...; W processes of one part are W parts
of it.  An image is there whole or not at all, and one that is there is not made again.  Who finds that the last image
is there writes the parquet files and the manifest, in the order of the items, so that a finished folder is the same to
the byte however it came about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.data import prompts
from experiments.data.images import Item as Encoded
from experiments.data.prompts import Item, Items, Policy, Subject
from experiments.data.stored import Stored
from experiments.data.writing import (
    CONFIG,
    MANIFEST,
    check_claim,
    claim,
    shards,
    write_manifest,
    write_parquet,
    write_whole,
)
from generators.pipeline import Pipeline, version
from simulator.spec import unknown
from simulator.types import GenlossError, RunFailed

PACKAGES = ("genloss", "numpy", "pillow", "pyarrow")
MADE_WITH = ("sampler", "steps", "guidance", "pipeline_path", "checkpoint", "versions")  # of the configuration
Tell = Callable[[int], None]  # told how many images more are there


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    pipeline: str | None  # a folder of diffusers, a hub id, or a run's folder
    out: str | None
    classes: str | None = None
    captions: str | None = None
    prompts: Policy | None = None
    per_class: int | None = None
    count: int | None = None
    guidance: float | None = None
    steps: int | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    generation: int | None = None
    setting: str | None = None
    replicate: int = 0
    batch: int | None = None
    seed: int = 0
    strict: bool = False
    format: Literal["folder", "parquet", "both"] = "folder"


@dataclass(frozen=True)
class Job:
    """A request, with all that it implies."""

    request: Request
    maker: Pipeline | Stored
    items: Items
    batch: int

    @classmethod
    def of(cls, request: Request) -> Job:
        if request.batch is not None and request.batch < 1:
            raise GenlossError(f"--batch is {request.batch} and must be at least 1.")
        if request.out is None:
            raise GenlossError("Say where to write the data set: --out DIR.")
        maker = _maker(request)
        batch = 1 if request.strict else request.batch or (256 if isinstance(maker, Stored) else 8)
        if isinstance(maker, Stored):
            maker = dataclasses.replace(maker, batch=batch)
        return cls(request, maker, _items(request, maker), batch)

    @property
    def out(self) -> Path:
        return Path(self.request.out or "").expanduser()

    @property
    def images(self) -> Path:
        """Where images lie: those that only parquet files are to hold are removed with all that has a dot."""
        return self.out / {"folder": "", "parquet": ".images", "both": "folder"}[self.request.format]

    @property
    def parquet(self) -> Path | None:
        """Where data/*.parquet goes."""
        return {"folder": None, "parquet": self.out, "both": self.out / "parquet"}[self.request.format]

    @property
    def config(self) -> dict[str, Any]:
        """What the bytes depend on, and where the model was."""
        about = dict(self.maker.about)
        versions = {**about.pop("versions"), **{name: version(name) for name in PACKAGES}}
        asked = {name: getattr(self.request, name) for name in ("seed", "strict", "format")}
        items = {"subjects": self.items.digest, "count": len(self.items), "prompts": self.items.policy}
        where = {"pipeline_path": about.pop("pipeline")}
        return {"set": "synthetic", **where, **about, **items, **asked, "batch": self.batch, "versions": versions}

    def missing(self) -> np.ndarray:
        """Whether an item is not there, [items]."""
        missing = np.ones(len(self.items), bool)
        for i in self.items.found(self.images):
            missing[i] = False
        return missing

    @property
    def finished(self) -> bool:
        return (self.out / MANIFEST).exists() and (self.request.format == "parquet" or not self.missing().any())


def synthesize(request: Request, shard: str = "1/1", workers: int | None = None) -> Path:
    """Makes one part of a data set, "2/8" the second of eight, in so many processes (None: one for each GPU).

    Returns the folder.  Raises where it holds another data set, or where the same part is being made.
    """
    part, parts = _shard(shard)
    seen = gpus()
    workers = max(1, len(seen)) if workers is None else workers
    if workers < 1:
        raise GenlossError(f"--workers is {workers} and must be at least 1.")
    if workers > 1:  # this process draws nothing: the devices belong to its workers
        import jax

        jax.config.update("jax_platforms", "cpu")
    job = Job.of(request)
    check_claim(job.out, job.config)  # before anything is written there
    with _locked(job.out / ".lock"):
        claim(job.out, job.config)
    with _locked(job.out / f".part-{part + 1}-of-{parts}.lock", f"Part {shard} of {job.out} is being made"):
        if not job.finished:
            missing = job.missing()
            mine = np.arange(len(missing)) // job.batch % parts == part
            with _progress(int(mine.sum()), int((mine & ~missing).sum())) as tell:
                if workers == 1:
                    work(job, part, parts, tell)
                else:
                    _work_apart(request, part, parts, workers, seen, tell)
        if (left := int(job.missing().sum())) and not job.finished:
            print(f"{len(job.items) - left} of {len(job.items)} images are there; other parts make the rest.")
        else:
            _finish(job)
    return job.out


def work(job: Job, part: int, parts: int, tell: Tell) -> None:
    """Makes the batches of a part that are not there.  Files are written while the next batch is made."""
    missing = job.missing()
    size, n = job.batch, len(job.items)
    todo = [b for b in range(part, -(-n // size), parts) if missing[b * size : (b + 1) * size].any()]
    with ThreadPoolExecutor(1) as writer:
        writing = None
        for b in todo:
            items = [job.items[i] for i in range(b * size, min((b + 1) * size, n))]
            told: list[Any] = [item.subject.told if job.maker.takes == "label" else item.prompt for item in items]
            images = job.maker.draw(told, [item.seed for item in items])  # [batch, h, w, c]
            if writing is not None:
                tell(writing.result())
            new = [pair for i, pair in enumerate(zip(items, images, strict=True)) if missing[b * size + i]]
            writing = writer.submit(_write, job.images, new)
        if writing is not None:
            tell(writing.result())


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none is touched."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(len(listed.stdout.splitlines()))] if listed.returncode == 0 else []


# What is asked for.


def _maker(request: Request) -> Pipeline | Stored:
    path, both = request.pipeline, {"guidance": request.guidance, "steps": request.steps, "strict": request.strict}
    if path is None:
        raise GenlossError(
            "Say what makes the images: --pipeline with a folder of diffusers, a hub id or a run's folder."
        )
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if not (Path(path) / "chain.json").exists():
        if (request.generation, request.setting, request.replicate) != (None, None, 0):
            raise GenlossError(f"{path} is no run; leave --generation, --setting and --replicate out.")
        return Pipeline(path=path, dtype=request.dtype, **both)
    if request.dtype != "float32":
        raise GenlossError("--dtype is for pipelines of diffusers; a run computes as its chain says, so leave it out.")
    return Stored(
        path=path, generation=request.generation, setting=request.setting, replicate=request.replicate, **both
    )


def _items(request: Request, maker: Pipeline | Stored) -> Items:
    """The items of a request to a maker."""
    if request.classes and request.captions:
        raise GenlossError("--classes and --captions are two data sets; give one of them.")
    policy: Policy | None = None
    if maker.takes == "prompt":
        policy = request.prompts or ("caption" if request.captions else "template")
        if (policy == "caption") != bool(request.captions):
            raise GenlossError(
                f"--prompts {policy} words {'captions' if policy == 'caption' else 'classes'}; give such."
            )
        if not (request.classes or request.captions):
            raise GenlossError(
                "The pipeline draws what it is told; give --classes names.txt or --captions captions.jsonl."
            )
        subjects = prompts.classes(request.classes) if request.classes else prompts.captions(request.captions or "")
    elif request.prompts or request.captions:
        raise GenlossError(f"{request.pipeline} takes no prompts; leave --prompts and --captions out.")
    elif maker.takes == "label":
        subjects = _told(request, maker)
    elif request.classes or request.per_class is not None:
        raise GenlossError(
            f"{request.pipeline} takes no classes; leave --classes and --per-class out, and give --count."
        )
    elif request.count is None:
        raise GenlossError(f"{request.pipeline} is told nothing; say with --count how many images it is to make.")
    else:
        subjects = (Subject("", "", ()),)
    if request.count is not None and request.per_class is not None:
        raise GenlossError("--count and --per-class both say how many images there are to be; give one of them.")
    for name, said in (("--count", request.count), ("--per-class", request.per_class)):
        if said is not None and said < 1:
            raise GenlossError(f"{name} is {said} and must be at least 1.")
    count = request.count or len(subjects) * (request.per_class or 1)
    return Items(subjects, count, request.seed, policy)


def _told(request: Request, maker: Pipeline | Stored) -> tuple[Subject, ...]:
    """The classes of a request to a model that is told labels, with the label it has for each."""
    labels, names = maker.labels or 0, maker.names
    if request.classes:
        asked = prompts.classes(request.classes)
    elif isinstance(maker, Pipeline):
        raise GenlossError(f"{request.pipeline} draws classes; say which with --classes names.txt.")
    else:
        own = sorted(names, key=names.__getitem__) if names else [str(label) for label in range(labels)]
        asked = tuple(Subject(prompts.escaped(name), prompts.escaped(name), (name,), i) for i, name in enumerate(own))
    subjects = []
    for subject in asked:
        told = subject.label or 0
        if names is not None:
            known = [name for name in (*subject.names, subject.folder) if name in names]
            if not known:
                raise GenlossError(unknown(subject.names[0], list(names), f"{request.pipeline} has no class"))
            told = names[known[0]]
        if told >= labels:
            raise GenlossError(
                f"{request.pipeline} has {labels} labels, from 0, and {subject.names[0]} is {told}; leave it out with "
                "--classes."
            )
        subjects.append(subject._replace(told=told))
    return tuple(subjects)


def _shard(text: str) -> tuple[int, int]:
    """Part i of n, from 0, of "i/n", from 1."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise GenlossError(f"--shard takes I/N, from 1/N to N/N, such as 1/8; it was given '{text}'.")
    return int(i) - 1, int(n)


# Several processes.


def _work_apart(request: Request, part: int, parts: int, workers: int, seen: Sequence[str], tell: Tell) -> None:
    """A part, cut among processes, each with its GPU where there are any."""
    context = multiprocessing.get_context("spawn")
    counts = context.RawArray("l", workers)  # images made, by worker: each writes its own
    apart = [
        context.Process(
            target=_worker,
            args=(
                request,
                part + parts * k,
                parts * workers,
                seen[k % len(seen)] if seen else None,
                workers,
                counts,
                k,
            ),
        )
        for k in range(workers)
    ]
    told = 0
    for process in apart:
        process.start()
    try:
        while any(process.is_alive() for process in apart):
            next(process for process in apart if process.is_alive()).join(0.2)
            told, before = sum(counts), told
            tell(told - before)
    finally:
        for process in apart:
            process.terminate()
            process.join()
    tell(sum(counts) - told)
    codes = [process.exitcode for process in apart]
    if 2 in codes:
        raise GenlossError("The workers refused their work, as they said above; mend that and start again.")
    if failed := [k for k, code in enumerate(codes) if code]:
        raise RunFailed(
            f"Worker {failed[0] + 1} of {workers} ended early (exit code {codes[failed[0]]}); the same command goes on "
            "with the images that are not there."
        )


def _worker(request: Request, part: int, parts: int, gpu: str | None, workers: int, counts: Any, k: int) -> None:
    parent = multiprocessing.parent_process()

    def follow() -> None:  # a worker does not outlive the command, however that ends
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to answer
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    else:  # read when torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

    def tell(more: int) -> None:
        counts[k] += more

    try:
        work(Job.of(request), part, parts, tell)
    except (GenlossError, RunFailed) as error:
        print(f"genloss: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, GenlossError) else 1)


# On disk.


def _write(images: Path, drawn: Sequence[tuple[Item, np.ndarray]]) -> int:
    """Writes images uint8 [h, w, c] as PNG, each whole or not at all; their number."""
    from PIL import Image

    for item, image in drawn:
        file, part = images / item.file, images / f".{uuid.uuid4().hex}.part"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, format="PNG")
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise RunFailed(f"{file} could not be written ({error.strerror}); mend that and start again.") from error
    return len(drawn)


def _finish(job: Job) -> None:
    """Parquet files, then the manifest, whose presence says that all is there; then what is left of the making."""
    with _locked(job.out / ".lock"):
        if not job.finished:
            if job.parquet is not None:
                size = sum((job.images / item.file).stat().st_size for item in job.items)
                classes = tuple(subject.folder for subject in job.items.subjects)
                columns = classes if job.items.labelled else None if job.request.captions else ()
                files = shards(len(job.items), size)
                write_parquet(job.parquet, _encoded(job), columns, len(job.items), files)
            if job.request.captions and job.request.format != "parquet":  # as `datasets` reads an image folder
                rows = ({"file_name": item.file, "caption": item.subject.names[0]} for item in job.items)
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                write_whole(job.images / "metadata.jsonl", text.encode())
            made = json.loads((job.out / CONFIG).read_text())
            write_manifest(job.out, (_row(item, made) for item in job.items))
        for hidden in {*job.out.glob(".*"), *job.images.glob(".*")}:
            if hidden.is_dir():
                shutil.rmtree(hidden)
            else:
                hidden.unlink(missing_ok=True)


def _encoded(job: Job) -> Iterator[Encoded]:
    for item in job.items:
        label = item.subject.names[0] if job.request.captions else item.subject.folder
        yield Encoded(label, Path(item.file).name, item.file, str(job.images / item.file))


def _row(item: Item, made: dict[str, Any]) -> dict[str, Any]:
    """A line of the manifest."""
    subject = item.subject
    said = {
        "class": subject.names[0] if subject.folder else None,
        "label": subject.label,
        "caption": subject.names[0] if subject.names and not subject.folder else None,
        "prompt": item.prompt,
    }
    return {"file": item.file, "id": item.id, **said, "seed": item.seed, **{name: made.get(name) for name in MADE_WITH}}


@contextlib.contextmanager
def _locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Holds a lock that a process loses with its life; waits for it, or raises where it is `busy`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("w")
    except OSError as error:
        raise GenlossError(f"{file.parent} cannot be written to ({error.strerror}); choose another --out.") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise GenlossError(f"{busy} by another process; wait for it, or give it another part.") from None
        yield


@contextlib.contextmanager
def _progress(total: int, done: int) -> Iterator[Tell]:
    """Shows how many images are there, how many come a second, and the time left; in a log, twice a minute."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    console, started, made, said = Console(stderr=True), time.monotonic(), 0, time.monotonic()
    columns = TextColumn("images"), BarColumn(), MofNCompleteColumn(), Rate(), TextColumn("left"), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total, completed=done)

        def tell(more: int) -> None:
            nonlocal made, said
            made += more
            bar.update(task, advance=more)
            now = time.monotonic()
            if not console.is_terminal and made and now > said + 30:
                said, rate = now, made / (now - started)
                left = (total - done - made) / rate
                console.print(f"{done + made}/{total} images, {rate:.3g}/s, {left / 60:.0f} min left", soft_wrap=True)

        yield tell
    if made:
        spent = time.monotonic() - started
        console.print(f"{made} images in {spent:.0f} s, {made / spent:.3g}/s", soft_wrap=True)
