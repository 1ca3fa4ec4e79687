"""Checkpoints of a run, with Orbax: each whole or not there, with a checksum and the signature of the run that made it.

What is damaged, or another run's, ends what is read; the run that holds the folder moves it aside to make it again.
"""

from __future__ import annotations

import errno
import logging
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from simulator import disk
from simulator.numerics.processes import alone, leads, whole
from simulator.running import files
from simulator.running.files import Leaves, digest, numbered
from simulator.types import GenlossError, Record


class Chunk(NamedTuple):
    """What a checkpoint holds."""

    first: int
    last: int
    params: Leaves  # of the last generation
    rows: list[Leaves]  # of the last generations, as many as the pool keeps; `files.shaped` makes trees of them
    record: Record  # of all


class Checkpoints:
    """checkpoints/ of a run's folder, and damaged/ beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.held: str | None = None  # signature of the run, perhaps of several processes, that holds the folder
        self._manager: Any = None

    def steps(self) -> list[int]:
        """Last generations of the complete checkpoints."""
        return sorted(by_generation(f.parent for f in (self.root / "checkpoints").glob("*/_CHECKPOINT_METADATA")))

    def save(self, first: int, last: int, params: Any, rows: Sequence[Any], record: Record) -> None:
        """Generations first..last in one atomic step, by the run that holds the folder."""
        import orbax.checkpoint as ocp

        # Fetched by all, for others may hold a part of it.
        tree = {
            "params": numbered(params),
            "rows": {str(i): numbered(block) for i, block in enumerate(rows)},
            "record": whole({"t": record.t, **record.metrics}),
        }
        meta = {"first": first, "last": last, "digest": digest(tree), "run": self.held}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))

        def save() -> None:
            with disk.writing(f"Generation {last} could not be saved in {self.root}", Exception):
                # Asked first: Orbax meets a full disk in threads of its own, each with a traceback.
                need = sum(leaf.nbytes + 4096 for leaf in jax.tree.leaves(tree)) + 2**17
                if shutil.disk_usage(self.root).free < need:
                    raise OSError(errno.ENOSPC, f"the disk is full (it takes up to {need / 1e6:.1f} MB)")
                self.manager.save(last, args=arguments)

        alone(save)

    def chunks(self, about: Mapping[str, Any]) -> Iterator[Chunk]:
        """Every checkpoint of the run that chain.json is `about`, up to the first that is not whole: see `Store`."""
        expected, failed = 0, None
        for step in self.steps():
            try:
                chunk = self.read(step, about)
                if chunk.first != expected:
                    raise ValueError(f"generation {expected} is missing before it")
            except Exception as error:
                failed = step, files.reason(error)
                break
            expected = step + 1
            yield chunk
        if self.held and expected <= about.get("fork", {"generation": -1})["generation"]:
            raise GenlossError(
                f"{self.root} is a fork, and what it shares with the run before it is not whole from generation "
                f"{expected} on; fork that run again, into a new folder."
            )
        if failed:
            self._set_aside(*failed, expected)

    def read(self, step: int, about: Mapping[str, Any]) -> Chunk:
        """One checkpoint; raises where it is not whole, or not of the run that chain.json is `about`."""
        import orbax.checkpoint as ocp

        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that arrays are restored as they were saved, as is meant
            found = self.manager.restore(step, args=arguments)
        meta, tree = found.meta, found.state
        if meta["last"] != step or digest(tree) != meta["digest"]:
            raise ValueError("its contents do not match their checksum")
        if meta.get("run", made_by := maker(about, step)) != made_by:  # the first ones were saved without
            raise ValueError("it is of another run")
        rows = [tree["rows"][str(i)] for i in range(len(tree["rows"]))]
        metrics = {name: value for name, value in tree["record"].items() if name != "t"}
        return Chunk(meta["first"], step, tree["params"], rows, Record(tree["record"]["t"], metrics))

    def ending(self, generation: int | None, about: Mapping[str, Any]) -> Chunk:
        """The checkpoint that ends with a generation (None: the last); raises with a sentence."""
        have = self.steps()
        if not have or generation not in (None, *have):
            named = ", ".join(map(str, have)) or "none"
            raise GenlossError(f"{self.root} has no checkpoint of generation {generation}; it has: {named}.")
        try:
            return self.read(have[-1] if generation is None else generation, about)
        except Exception as error:
            raise GenlossError(f"The checkpoint of that generation in {self.root} is damaged ({error}).") from None

    def _set_aside(self, step: int, reason: str, expected: int) -> None:
        verb = "going on" if self.held else "what is whole ends"
        starting = "starting anew" if self.held else "there is nothing before it"
        after = f"{verb} after generation {expected - 1}" if expected else starting
        warnings.warn(
            f"The checkpoint of generation {step} in {self.root} is damaged ({reason}); {after}.", stacklevel=3
        )
        if self.held:
            self.close()
            alone(lambda: self._move_aside(step))

    def _move_aside(self, step: int) -> None:
        with disk.writing(f"{self.root / 'damaged'} could not be written"):
            (self.root / "damaged").mkdir(exist_ok=True)
            for later in (s for s in self.steps() if s >= step):
                target = self.root / "damaged" / str(later)
                shutil.rmtree(target, ignore_errors=True)
                (self.root / "checkpoints" / str(later)).replace(target)

    @property
    def manager(self) -> Any:
        """The Orbax manager, made at first use."""
        if self._manager is None:
            import orbax.checkpoint as ocp

            logging.getLogger("absl").setLevel(logging.CRITICAL + 1)
            with disk.writing(f"{self.root} cannot be used"):
                if self.held:
                    (self.root / "checkpoints").mkdir(exist_ok=True)
                # Each process has a manager of its own, which knows of no others: one writes, when the others wait.
                me = jax.process_index()
                options = ocp.CheckpointManagerOptions(
                    enable_async_checkpointing=False,
                    cleanup_tmp_directories=self.held is not None and leads(),  # they may be another's, being written
                    create=False,
                    multiprocessing_options=ocp.options.MultiprocessingOptions(me, {me}, f"process{me}"),
                )
                self._manager = ocp.CheckpointManager(self.root / "checkpoints", options=options)
        return self._manager

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def copy(self, last: int, folder: Path) -> None:
        """The checkpoints up to a generation, copied into another run's folder."""
        for step in (s for s in self.steps() if s <= last):
            shutil.copytree(self.root / "checkpoints" / str(step), folder / "checkpoints" / str(step))


def maker(about: Mapping[str, Any], generation: int) -> str:
    """Signature of the run that made a generation: of what a fork shares, that of the run it was forked from."""
    signature, fork = about["signature"], about.get("fork")
    while fork is not None and generation <= fork["generation"]:
        signature, fork = fork["of"], fork.get("fork")
    return signature


def by_generation(found: Iterable[Path], suffix: str = "") -> dict[int, Path]:
    """Those of the files or folders whose name, before the suffix, is a generation as this program writes it."""
    names = {path.name.removesuffix(suffix): path for path in found}
    return {int(n): p for n, p in names.items() if n.isascii() and n.isdecimal() and len(n) < 10 and str(int(n)) == n}
