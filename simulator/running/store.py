"""A run on disk: one folder, one Orbax checkpoint per generation, tidy records; nothing in it is a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simulator import disk
from simulator.abilities import Written, students, taught
from simulator.checks import code
from simulator.numerics.processes import alone
from simulator.running import files, spec
from simulator.running.checkpoints import Checkpoints, Chunk, by_generation
from simulator.running.files import Leaves, numbered, shaped, with_keys, without_keys
from simulator.running.here import here
from simulator.sources import images
from simulator.types import GenlossError, Record

_INSTEAD = {  # of a file that is not used
    "records.parquet": "records are read from the checkpoints",
    "ceiling.json": "the run's own command measures real rows again",
    "prepared.npz": "it is learned again",
    "fit.npz": "the fit starts anew",
}


class Store:
    """The folder of one run.

    chain.json         the whole configuration, key, versions and device of every stretch of generations
    checkpoints/T/     parameters, record and synthetic rows of the generations that end with T
    prepared.npz       what probes learned of real rows before generation 0
    ceiling.json       what probes say of real rows
    fit.npz            the fit in flight, where it takes longer than a minute
    records.parquet    setting, replicate, generation, metric, value
    samples/T.png      what generation T says; of texts, samples/T.jsonl
    theory.json        the laws that are drawn beside what was measured (`simulator.theory.keep`)
    report/            figures and a page

    A checkpoint holds only the rows its own generations wrote: the pool is put together again from all of them and
    from the source, so each row is on disk once and real rows never.

    Of several processes of one run (`simulator.running.mesh`) the first writes, and holds the lock; all read.
    """

    def __init__(self, path: str | os.PathLike[str], experiment: str | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.experiment = experiment  # name or file of the experiment, noted in chain.json
        self._checkpoints = Checkpoints(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    # What is there.

    def about(self) -> dict[str, Any]:
        """chain.json."""
        return files.about(self.path / "chain.json")

    @property
    def signature(self) -> str:
        """Of the run that the folder is held for, or else of the one it holds."""
        return self._checkpoints.held or self.about()["signature"]

    def chain(self, trust: code.Trust = False) -> Any:
        """The stored chain, or its sweep, built again.

        What it is made of beyond this project is imported with `trust` only: True, or the modules that may be.
        """
        from simulator.running.sweep import Sweep

        about = self.about()
        if strange := code.foreign(about["run"], trust):
            of = about.get("experiment")
            raise GenlossError(
                f"The run in {self.path} is made of code that is not genloss's: building its chain imports "
                f"{', '.join(strange)}{f' ({of})' if str(of).endswith('.py') else ''}; if you trust whoever made it "
                "say --trust (trust=True), or give the file from your own place with --code FILE.py."
            )
        chain, sweep = spec.decode(about["run"]["chain"], trust), spec.decode(about["run"]["sweep"], trust)
        return chain if sweep is None else Sweep(chain, sweep["path"], sweep["values"])

    def steps(self) -> list[int]:
        """Last generations of the complete checkpoints."""
        return self._checkpoints.steps()

    def params(self, generation: int | None = None) -> Leaves:
        """The parameters of a generation whose checkpoint is there (None: the last), as their leaves."""
        return self.checkpoint(generation).params

    def checkpoint(self, generation: int | None = None) -> Chunk:
        """The checkpoint that ends with a generation (None: the last); raises where there is none, or it is damaged."""
        return self._checkpoints.ending(generation, self.about())

    def records(self) -> Any:
        """records.parquet as a pandas data frame; what the checkpoints hold where that file is not whole."""
        table = self._read("records.parquet", lambda file: files.load_table(file.read_bytes(), self.signature))
        if table is None:
            table = self._table()
        if table is None:
            damaged = os.path.lexists(self.path / "records.parquet")
            raise GenlossError(
                f"{self.path} has no {'whole ' * damaged}records and no checkpoint that holds them; "
                f"run {'it again' if damaged else 'at least one generation'}."
            )
        return table.to_pandas()

    def _table(self) -> Any:
        """The records that the checkpoints hold, tidy; None where there are none."""
        chunks = [record for *_, record in self.chunks()]
        run = self.about()["run"]
        settings = ["chain"] if run["sweep"] is None else list(run["sweep"]["values"])
        axes = 2 if run["sweep"] is not None else int(run["replicates"] is not None)
        return files.tidy(files.joined(chunks, axes), settings, axes) if chunks else None

    def pictures(self) -> dict[int, Path]:
        """Generation -> samples/T.png; what is no picture is left out, and a warning names it."""
        found = by_generation((self.path / "samples").glob("*.png"), ".png")
        return {t: file for t, file in found.items() if _is_picture(file)}

    def texts(self) -> dict[int, list[list[str]]]:
        """Generation -> some texts of each setting (or replicate), from samples/T.jsonl."""
        there = by_generation((self.path / "samples").glob("*.jsonl"), ".jsonl")
        found = {t: self._read(f"samples/{t}.jsonl", files.load_texts) for t in sorted(there)}
        return {t: texts for t, texts in found.items() if texts}

    def ceiling(self) -> dict[str, float]:
        """ceiling.json: what the probes say of real rows, by metric; empty where it was not measured."""
        return (self._ceiling() or files.UNMEASURED).means

    def noise(self) -> dict[str, float]:
        """Its standard deviation over replicates, which drew a generation's worth of real rows each; empty of one."""
        return (self._ceiling() or files.UNMEASURED).deviations

    def has_ceiling(self) -> bool:
        return self._ceiling() is not None

    def _ceiling(self) -> files.Ceiling | None:
        return self._read("ceiling.json", lambda file: files.load_ceiling(file.read_bytes(), self.signature))

    def prepared(self, chain: Any) -> dict[Any, Any] | None:
        """What the chain's probes learned before generation 0, from prepared.npz; None where it is not there."""

        def read(file: Path) -> dict[Any, Any]:
            stored, found = files.load_arrays(file, self.signature), {}
            names = students(chain.probes)
            likes = jax.eval_shape(lambda: list(taught(chain.probes, jax.random.key(0), chain.source).values()))
            for (student, name), like in zip(names.items(), likes, strict=True):
                leaves = {str(i): stored[f"{name}/{i}"] for i in range(len(jax.tree.leaves(like)))}
                found[student] = shaped(leaves, like)
            return found

        return self._read("prepared.npz", read)

    def fit(self, t: int, like: Any) -> tuple[int, Any] | None:
        """(calls done, training) of the fit of generation t, a tree as `like`, as stored while it went on, or None."""

        def read(file: Path) -> tuple[int, Any] | None:
            leaves = files.load_arrays(file, self.signature)
            about = leaves.pop("about")  # [2]: generation, calls done
            return (int(about[1]), with_keys(leaves, like)) if about[0] == t else None

        return self._read("fit.npz", read)

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        """What a file of this run holds; None where it is not there or, with a warning, not whole or another run's."""
        file = self.path / name
        if not os.path.lexists(file):
            return None
        try:
            return read(file)
        except GenlossError:
            raise
        except Exception as error:
            warnings.warn(
                f"{file} is not used ({files.reason(error)}); {_INSTEAD.get(name, 'it is left out')}.", stacklevel=3
            )
            return None

    # Writing.

    @contextlib.contextmanager
    def opened(self, run: dict[str, Any], generations: int) -> Iterator[Store]:
        """Holds the folder for one run: makes it, or refuses where it belongs to another run or is in use."""
        run = json.loads(json.dumps(run))  # as it will be read back
        with contextlib.ExitStack() as held:
            alone(lambda: self._hold(held, run, generations))
            held.callback(self.close)
            self._checkpoints.held = spec.signature(run)
            try:
                yield self
            finally:
                self._checkpoints.held = None

    def _hold(self, held: contextlib.ExitStack, run: dict[str, Any], generations: int) -> None:
        busy = f"Another process is running in {self.path}; wait for it or choose another folder."
        held.enter_context(disk.locked(self.path, busy))
        self._claim(run, generations)

    def _claim(self, run: dict[str, Any], generations: int) -> None:
        about: dict[str, Any] = {}
        if os.path.lexists(self.path / "chain.json"):
            about = self.about()
            if not self.steps() and not os.path.lexists(self.path / "records.parquet"):
                about = {}  # nothing was done yet: a run that failed at once holds no claim
            elif changed := spec.differences(about["run"], run):
                more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
                raise GenlossError(
                    f"{self.path} holds another run, which differs in {'; '.join(changed[:6])}{more}; "
                    "choose another folder, or fork it."
                )
        elif stray := [p.name for p in self.path.iterdir() if p.name != ".lock"]:
            raise GenlossError(f"{self.path} is not a run's folder (it has {stray[0]}); choose an empty or new one.")
        for name in ("checkpoints", "damaged"):
            if (self.path / name).is_symlink():
                raise GenlossError(f"{self.path / name} is a link, and links are not followed; put the folder there.")
        now = {
            "experiment": self.experiment,
            **{name: here()[name] for name in ("versions", "device")},
            **about,
            "run": run,
            "signature": spec.signature(run),
            "generations": max(generations, about.get("generations", 0)),
        }
        if now != about:
            self._write_about(now)

    def _write_about(self, about: dict[str, Any]) -> None:
        disk.write(self.path, "chain.json", json.dumps(about, indent=1).encode())

    def begin(self, generation: int, how: Mapping[str, Any]) -> None:
        """Notes in chain.json what computes the generations from this one on; warns where other things did before.

        `how` is what else their last bits depend on: `simulator.running.drive.Drive.how`.
        """

        def note() -> None:
            about, now = self.about(), here()
            before = about.get("stretches", [{"first": 0, "versions": about["versions"], "device": about["device"]}])
            before = [stretch for stretch in before if stretch["first"] < generation]
            seen = ("versions", "device")
            if changed := [d for name in seen if before for d in spec.differences(before[-1][name], now[name], name)]:
                warnings.warn(
                    f"{self.path} goes on at generation {generation} with other versions or on another device "
                    f"({'; '.join(changed)}), so it need not equal an uninterrupted run; chain.json says which "
                    "generations were computed by what.",
                    stacklevel=4,
                )
            same = before and before[-1] == {"first": before[-1]["first"], **now, **how}
            stretches = before if same else [*before, {"first": generation, **now, **how}]
            self._write_about({**about, **{name: now[name] for name in seen}, "stretches": stretches})

        self._once(note)

    def write(self, name: str, data: bytes) -> Path:
        """A file of the run, whole or not at all."""
        self._once(lambda: disk.write(self.path, name, data))
        return self.path / name

    def _once(self, work: Callable[[], Any]) -> None:
        """Work on files: by the first alone of the processes that hold the folder together."""
        if self._checkpoints.held:
            alone(work)
        else:
            work()

    def save(self, first: int, last: int, params: Any, rows: Sequence[Any], record: Record) -> None:
        """Generations first..last in one atomic step: last parameters, the rows still kept, the records."""
        self._checkpoints.save(first, last, params, rows, record)

    def chunks(self) -> Iterator[Chunk]:
        """Every checkpoint, oldest first, up to the first that is not whole, which a warning names.

        The run that holds the folder moves that one and those after it to damaged/, to make them again.
        """
        return self._checkpoints.chunks(self.about())

    def chunk(self, last: int) -> Chunk:
        """The checkpoint of the generations that end with `last`; raises `ValueError` where it is not whole."""
        return self._checkpoints.read(last, self.about())

    def close(self) -> None:
        self._checkpoints.close()

    def write_records(self, record: Record, settings: Sequence[str], axes: int) -> None:
        """records.parquet, rewritten whole."""
        self.write("records.parquet", files.dump_table(self.signature, files.tidy(record, settings, axes)))

    def mend_records(self) -> None:
        """Writes records.parquet again where it is not whole, or holds less than the checkpoints."""
        table = self._read("records.parquet", lambda file: files.load_table(file.read_bytes(), self.signature))
        have = max(table["generation"].to_numpy(), default=-1) if table is not None else -1
        if have < max(self.steps(), default=-1) and (whole := self._table()) is not None:
            self.write("records.parquet", files.dump_table(self.signature, whole))

    def write_prepared(self, chain: Any) -> None:
        """prepared.npz."""
        names = students(chain.probes)
        learned = {names[student]: numbered(tree) for student, tree in chain.prepared.items()}
        flat: dict[str, Any] = {f"{name}/{i}": leaf for name, leaves in learned.items() for i, leaf in leaves.items()}
        self.write("prepared.npz", files.dump_arrays(self.signature, flat))

    def write_fit(self, t: int, calls: int, training: Any) -> None:
        """fit.npz: the training of generation t after so many calls."""
        leaves = numbered(without_keys(training)) | {"about": np.array([t, calls])}
        self.write("fit.npz", files.dump_arrays(self.signature, leaves))

    def drop_fit(self, but: int | None = None) -> None:
        """Removes fit.npz, unless it is of generation `but`."""
        if but is None or self._fitting() != but:
            self._once(lambda: (self.path / "fit.npz").unlink(missing_ok=True))

    def _fitting(self) -> int | None:
        """The generation that fit.npz is of."""
        try:
            with np.load(self.path / "fit.npz") as stored:
                return int(stored["about"][0])
        except Exception:  # `fit` says what is wrong with it
            return None

    def write_ceiling(self, found: files.Ceiling) -> None:
        """ceiling.json."""
        self.write("ceiling.json", files.dump_ceiling(self.signature, found))

    def picture(self, t: int, rows: Any, axes: int, source: Any) -> None:
        """samples/T.png, where rows are images: a line of them for every setting (or replicate); T.jsonl of texts."""
        if isinstance(rows, dict) and "image" in rows:
            self.write(f"samples/{t}.png", images.sheet(np.asarray(rows["image"]), axes))
        elif isinstance(source, Written) and not isinstance(rows, dict):
            self.write(f"samples/{t}.jsonl", files.dump_texts(source.decode, np.asarray(rows), axes))

    def fork(self, generation: int, path: str | os.PathLike[str], chain: Any, trust: code.Trust = False) -> Store:
        """A new run folder that shares this run's generations 0..generation and goes on with another recipe.

        `chain` is the other chain (or sweep): it may differ from this run's in its recipe only.  `trust` is that of
        `Store.chain`.
        """
        about, other = self.about(), Store(path)
        new = json.loads(json.dumps(spec.encode(getattr(chain, "chain", chain))))
        changed = [d for d in spec.differences(about["run"]["chain"], new) if not d.startswith("recipe")]
        if changed:
            raise GenlossError(f"A fork may change the recipe only; this one changes {'; '.join(changed)}.")
        forked = getattr(chain, "chain", chain)
        recipe = spec.decode(about["run"]["chain"]["recipe"], trust)
        if (spec.override(forked, {"recipe": recipe}).merging is None) != (forked.merging is None):
            raise GenlossError("One of the two recipes keeps cohorts as one; fork a run made with Cohort(merge=False).")
        self._check_whole(generation)
        run, recipe = {**about["run"], "chain": new}, about["run"]["chain"]["recipe"]
        fork = {"of": about["signature"], "generation": generation, "recipe": recipe}
        fork |= {"fork": about["fork"]} if "fork" in about else {}  # of a fork itself
        if (other.path / "chain.json").exists():
            there = other.about()
            if there["run"] == run and there.get("fork") == fork:
                return other  # made before, and perhaps gone on with
        about = {**about, "run": run, "signature": spec.signature(run), "generations": generation + 1, "fork": fork}
        with disk.new_folder(other.path) as folder:
            self._checkpoints.copy(generation, folder)
            of_texts = {t: self.path / "samples" / f"{t}.jsonl" for t in self.texts()}
            for step, sample in (*self.pictures().items(), *of_texts.items()):
                if step <= generation:
                    disk.write(folder, f"samples/{sample.name}", sample.read_bytes())
            disk.write(folder, "chain.json", json.dumps(about, indent=1).encode())
        return other

    def _check_whole(self, generation: int) -> None:
        """Raises where the checkpoints up to that of a generation are not all there and whole."""
        if generation not in self.steps():
            have = ", ".join(map(str, self.steps()))
            raise GenlossError(f"{self.path} has no checkpoint of generation {generation}; it has: {have}.")
        if not any(last == generation for _, last, *_ in self.chunks()):
            raise GenlossError(f"Not all of {self.path} is whole; its own command mends it, then fork it.")


def _is_picture(file: Path) -> bool:
    try:
        images.look(images.read(file, "it"), "it", checked=True)
    except images.Unreadable as error:
        warnings.warn(f"{file} is left out: it is no picture ({error.where} {error.why}).", stacklevel=3)
        return False
    return True
