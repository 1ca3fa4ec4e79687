"""`genloss synthesize`: a data set made by a pipeline of diffusers, or by a generation of a stored run.

Images are made in batches that are fixed once and for all: batch b holds items b·B to (b + 1)·B - 1, whoever makes it
and whatever was there before.  Part i of n makes the batches i, i + n, i + 2n ...; W processes of one part are W parts
of it.  An image is there whole or not at all, and one that is there is not made again.  Who finds that the last image
is there writes the parquet files and the manifest, in the order of the items, so that a finished folder is the same to
the byte however it came about.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command.devices import gpus
from experiments.imagesets.images import Item as Encoded
from experiments.imagesets.job import Job, Request
from experiments.imagesets.names import warn_of_splits
from experiments.imagesets.prompts import Item
from experiments.imagesets.writing import (
    CONFIG,
    LOCK,
    check_claim,
    claim,
    held,
    read_config,
    refuse_links,
    shards,
    write_manifest,
    write_parquet,
)
from simulator import disk
from simulator.sources.images import png
from simulator.types import GenlossError, RunFailed

MADE_WITH = ("sampler", "steps", "guidance", "pipeline_path", "checkpoint", "versions")  # of the configuration
MOST_WORKERS, MOST_PARTS = 1024, 10**6
PART = ".genloss-part-{}-of-{}.lock"  # while it is made
Tell = Callable[[int], None]  # told how many images more are there


def synthesize(request: Request, shard: str = "1/1", workers: int | None = None) -> Path:
    """Makes one part of a data set, "2/8" the second of eight, in so many processes (None: one for each GPU).

    Returns the folder.  Raises where it holds another data set, or where the same part is being made.
    """
    part, parts = _shard(shard)
    seen = gpus()
    workers = max(1, len(seen)) if workers is None else workers
    if not 1 <= workers <= MOST_WORKERS:
        raise GenlossError(f"--workers is {workers} and must be at least 1 and at most {MOST_WORKERS:,}.")
    if workers > 1:  # this process draws nothing: the devices belong to its workers
        import jax

        jax.config.update("jax_platforms", "cpu")
    job = Job.of(request)
    check_claim(job.out, job.config)  # before anything is written there
    with held(job.out, LOCK):
        claim(job.out, job.config)
        refuse_links(job.out, job.folders)
        own = _part(job.out, part, parts)
    with own:
        if not job.finished:
            missing = job.missing()
            mine = np.arange(len(missing)) // job.batch % parts == part
            with _progress(int(mine.sum()), int((mine & ~missing).sum())) as tell:
                if workers == 1:
                    work(job, part, parts, tell)
                else:
                    _work_apart(request, part, parts, workers, seen, tell)
        if request.classes and request.format != "parquet":
            warn_of_splits(subject.folder for subject in job.items.subjects)
        if (left := int(job.missing().sum())) and not job.finished:
            print(f"{len(job.items) - left} of {len(job.items)} images are there; other parts make the rest.")
        else:
            _finish(job)
    return job.out


def _part(out: Path, part: int, parts: int) -> contextlib.ExitStack:
    """Holds a part; raises where a process makes it, or one of another division, which may hold the same images."""
    for file in out.glob(PART.format("*", "*")):
        if not file.name.endswith(f"-of-{parts}.lock"):
            with held(out, file.name, f"{out} is being made, cut otherwise than in {parts}"):
                pass
    own = contextlib.ExitStack()
    own.enter_context(held(out, PART.format(part + 1, parts), f"Part {part + 1}/{parts} of {out} is being made"))
    return own


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


def _shard(text: str) -> tuple[int, int]:
    """Part i of n, from 0, of "i/n", from 1."""
    i, slash, n = text.partition("/")
    numbers = slash and i.isdecimal() and n.isdecimal() and len(i) <= len(n) <= len(str(MOST_PARTS))
    if not (numbers and 1 <= int(i) <= int(n) <= MOST_PARTS):
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
    for item, image in drawn:
        disk.write(images, item.file, png(image))
    return len(drawn)


def _finish(job: Job) -> None:
    """Parquet files, then the manifest, whose presence says that all is there; then what is left of the making."""
    with held(job.out, LOCK):
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
                disk.write(job.images, "metadata.jsonl", text.encode())
            made = read_config(job.out) or {}
            write_manifest(job.out, (_row(item, made) for item in job.items))
        _clear(job)


def _clear(job: Job) -> None:
    """Removes what this program made in the making, by its names, and nothing else."""
    folders = {job.images / subject.folder for subject in job.items.subjects}
    parts = {f".{name}.part" for name in (CONFIG, "manifest.jsonl", "metadata.jsonl")}
    for file in [*job.out.glob(PART.format("*", "*")), job.out / LOCK, *(job.out / name for name in parts)]:
        file.unlink(missing_ok=True)
    if job.request.format == "parquet":
        for item in job.items:
            (job.images / item.file).unlink(missing_ok=True)
        for folder in (*sorted(folders, reverse=True), job.images):
            with contextlib.suppress(OSError):  # of one that holds what is another's
                folder.rmdir()


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
