"""A run on disk: one folder, one Orbax checkpoint per generation, tidy records; nothing in it is a pickle."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simulator import code, disk, spec
from simulator.mesh import alone, leads, whole
from simulator.types import GenlossError, Record

Leaves = dict[str, np.ndarray]  # "0", "1", ...: the leaves of a tree in order
PACKAGES = ("genloss", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


class Store:
    """The folder of one run.

    chain.json         the whole configuration, versions, device, key
    checkpoints/T/     parameters, record and synthetic rows of the generations that end with T
    prepared.npz       what probes learned of real rows before generation 0
    fit.npz            the fit in flight, where it takes longer than a minute
    records.parquet    setting, replicate, generation, metric, value
    samples/T.png      what generation T says
    theory.json        the laws that are drawn beside what was measured (`simulator.theory.keep`)
    report/            figures and a page

    A checkpoint holds only the rows its own generations wrote: the pool is put together again from all of them and
    from the source, so each row is on disk once and real rows never.

    Of several processes of one run (`simulator.mesh`) the first writes, and holds the lock; all read.
    """

    def __init__(self, path: str | os.PathLike[str], experiment: str | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.experiment = experiment  # name or file of the experiment, noted in chain.json
        self._manager: Any = None
        self._held = False  # whether a run, perhaps of several processes, holds the folder

    def __fspath__(self) -> str:
        return str(self.path)

    # What is there.

    def about(self) -> dict[str, Any]:
        """chain.json."""
        file = self.path / "chain.json"
        try:
            about = json.loads(file.read_text())
        except FileNotFoundError:
            raise GenlossError(f"{self.path} holds no run: it has no chain.json.") from None
        except json.JSONDecodeError:
            raise GenlossError(f"{file} is not whole; restore it or choose another folder.") from None
        if "run" not in about:
            raise GenlossError(f"{file} does not describe a run; choose another folder.")
        return about

    def chain(self, trust: code.Trust = False) -> Any:
        """The stored chain, or its sweep, built again.

        What it is made of beyond this project is imported with `trust` only: True, or the modules that may be.
        """
        from simulator.sweep import Sweep

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
        found = (self.path / "checkpoints").glob("*/_CHECKPOINT_METADATA")
        return sorted(int(file.parent.name) for file in found if file.parent.name.isdecimal())

    def params(self, generation: int | None = None) -> Leaves:
        """The parameters of a generation whose checkpoint is there (None: the last), as their leaves."""
        have = self.steps()
        if not have or generation not in (None, *have):
            named = ", ".join(map(str, have)) or "none"
            raise GenlossError(f"{self.path} has no checkpoint of generation {generation}; it has: {named}.")
        try:
            return self._read(have[-1] if generation is None else generation)[1]["params"]
        except Exception as error:
            raise GenlossError(f"The checkpoint of that generation in {self.path} is damaged ({error}).") from None

    def has_records(self, generations: int) -> bool:
        """Whether records.parquet holds all of the first generations."""
        return (self.path / "records.parquet").exists() and self.records()["generation"].max() >= generations - 1

    def records(self) -> Any:
        """records.parquet as a pandas data frame."""
        import pandas

        file = self.path / "records.parquet"
        if not file.exists():
            raise GenlossError(f"{self.path} has no records yet; run at least one generation.")
        return pandas.read_parquet(file)

    def pictures(self) -> dict[int, Path]:
        """Generation -> samples/T.png."""
        found = (self.path / "samples").glob("*.png")
        return {int(file.stem): file for file in found if file.stem.isdecimal()}

    def ceiling(self) -> dict[str, float]:
        """ceiling.json: what the probes say of real rows, by metric; empty where it was not measured."""
        file = self.path / "ceiling.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def prepared(self, chain: Any) -> dict[Any, Any] | None:
        """What the chain's probes learned before generation 0, from prepared.npz; None where it is not there."""
        file = self.path / "prepared.npz"
        if not file.exists():
            return None
        with np.load(file) as stored:
            found = {}
            for student, name in chain.students.items():
                like = jax.eval_shape(lambda s=student: s.prepare(jax.random.key(0), chain.source))
                leaves = {str(i): stored[f"{name}/{i}"] for i in range(len(jax.tree.leaves(like)))}
                found[student] = shaped(leaves, like)
        return found

    def fit(self, t: int, like: Any) -> tuple[int, Any] | None:
        """(calls done, training) of the fit of generation t, a tree as `like`, as stored while it went on, or None."""
        file = self.path / "fit.npz"
        if not file.exists():
            return None
        try:
            with np.load(file) as stored:
                leaves = {name: stored[name] for name in stored.files}
            about = leaves.pop("about")  # [2]: generation, calls done
            digest = leaves.pop("digest").tobytes().decode()
            if _digest({**leaves, "about": about}) != digest:
                raise ValueError("its contents do not match their checksum")
            return (int(about[1]), _with_keys(leaves, like)) if about[0] == t else None
        except Exception as error:
            warnings.warn(f"{file} is damaged ({error}); the fit of generation {t} starts anew.", stacklevel=2)
            return None

    # Writing.

    @contextlib.contextmanager
    def opened(self, run: dict[str, Any], generations: int) -> Iterator[Store]:
        """Holds the folder for one run: makes it, or refuses where it belongs to another run or is in use."""
        run = json.loads(json.dumps(run))  # as it will be read back
        with contextlib.ExitStack() as held:
            alone(lambda: self._hold(held, run, generations))
            held.callback(self.close)
            self._held = True
            try:
                yield self
            finally:
                self._held = False

    def _hold(self, held: contextlib.ExitStack, run: dict[str, Any], generations: int) -> None:
        busy = f"Another process is running in {self.path}; wait for it or choose another folder."
        held.enter_context(disk.locked(self.path, busy))
        self._claim(run, generations)

    def _claim(self, run: dict[str, Any], generations: int) -> None:
        about: dict[str, Any] = {}
        if (self.path / "chain.json").exists():
            about = self.about()
            if not self.steps():
                about = {}  # nothing was done yet: a run that failed at once holds no claim
            elif changed := spec.differences(about["run"], run):
                more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
                raise GenlossError(
                    f"{self.path} holds another run, which differs in {'; '.join(changed[:6])}{more}; "
                    "choose another folder, or fork it."
                )
        elif stray := [p.name for p in self.path.iterdir() if p.name != ".lock"]:
            raise GenlossError(f"{self.path} is not a run's folder (it has {stray[0]}); choose an empty or new one.")
        about = {
            "experiment": self.experiment,
            **about,
            "run": run,
            "signature": spec.signature(run),
            "generations": max(generations, about.get("generations", 0)),
            "versions": {name: _version(name) for name in PACKAGES},
            "device": str(jax.devices()[0].device_kind),
        }
        disk.write(self.path, "chain.json", json.dumps(about, indent=1).encode())

    def write(self, name: str, data: bytes) -> Path:
        """A file of the run, whole or not at all."""
        self._once(lambda: disk.write(self.path, name, data))
        return self.path / name

    def _once(self, work: Callable[[], Any]) -> None:
        """Work on files: by the first alone of the processes that hold the folder together."""
        if self._held:
            alone(work)
        else:
            work()

    def save(self, first: int, last: int, params: Any, rows: Sequence[Any], record: Record) -> None:
        """Generations first..last in one atomic step: last parameters, the rows still kept, the records."""
        import orbax.checkpoint as ocp

        # Fetched by all, for others may hold a part of it.
        tree = {
            "params": _numbered(params),
            "rows": {str(i): _numbered(block) for i, block in enumerate(rows)},
            "record": whole({"t": record.t, **record.metrics}),
        }
        meta = {"first": first, "last": last, "digest": _digest(tree)}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))

        def save() -> None:
            with disk.writing(f"Generation {last} could not be saved in {self.path}", Exception):
                # Asked first: Orbax meets a full disk in threads of its own, each with a traceback.
                need = sum(leaf.nbytes + 4096 for leaf in jax.tree.leaves(tree)) + 2**17
                if shutil.disk_usage(self.path).free < need:
                    raise OSError(errno.ENOSPC, f"the disk is full (it takes up to {need / 1e6:.1f} MB)")
                self.manager.save(last, args=arguments)

        self._once(save)

    def chunks(self) -> Iterator[tuple[int, int, Leaves, list[Leaves], Record]]:
        """(first, last, params, rows, record) of every checkpoint, oldest first, up to the first that is not whole.

        Parameters and each generation's rows come as their leaves (`shaped` makes trees of them).  Checkpoints from a
        damaged one on are moved to damaged/ and a warning says so.
        """
        expected = 0
        for step in self.steps():
            try:
                meta, tree = self._read(step)
                if meta["first"] != expected:
                    raise ValueError(f"generation {expected} is missing before it")
            except Exception as error:
                self._set_aside(step, error)
                return
            expected = step + 1
            rows = [tree["rows"][str(i)] for i in range(len(tree["rows"]))]
            metrics = {name: value for name, value in tree["record"].items() if name != "t"}
            yield meta["first"], step, tree["params"], rows, Record(tree["record"]["t"], metrics)

    def _read(self, step: int) -> tuple[dict[str, Any], Any]:
        import orbax.checkpoint as ocp

        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        with _quiet():
            found = self.manager.restore(step, args=arguments)
        if found.meta["last"] != step or _digest(found.state) != found.meta["digest"]:
            raise ValueError("its contents do not match their checksum")
        return found.meta, found.state

    def _set_aside(self, step: int, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        going_on = f"going on after generation {step - 1}" if step else "starting anew"
        warnings.warn(
            f"The checkpoint of generation {step} in {self.path} is damaged ({reason}); {going_on}.", stacklevel=2
        )
        self.close()
        self._once(lambda: self._move_aside(step))

    def _move_aside(self, step: int) -> None:
        (self.path / "damaged").mkdir(exist_ok=True)
        for later in (s for s in self.steps() if s >= step):
            target = self.path / "damaged" / str(later)
            shutil.rmtree(target, ignore_errors=True)
            (self.path / "checkpoints" / str(later)).replace(target)

    @property
    def manager(self) -> Any:
        """The Orbax manager, made at first use."""
        if self._manager is None:
            import orbax.checkpoint as ocp

            logging.getLogger("absl").setLevel(logging.CRITICAL + 1)
            with disk.writing(f"{self.path} cannot be used"):
                (self.path / "checkpoints").mkdir(exist_ok=True)
                # Each process has a manager of its own, which knows of no others: one writes, when the others wait.
                me = jax.process_index()
                options = ocp.CheckpointManagerOptions(
                    enable_async_checkpointing=False,
                    cleanup_tmp_directories=leads(),
                    create=False,
                    multiprocessing_options=ocp.options.MultiprocessingOptions(me, {me}, f"process{me}"),
                )
                self._manager = ocp.CheckpointManager(self.path / "checkpoints", options=options)
        return self._manager

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def write_records(self, record: Record, settings: Sequence[str], axes: int) -> None:
        """records.parquet, rewritten whole."""
        import io

        import pyarrow.parquet

        sink = io.BytesIO()
        pyarrow.parquet.write_table(tidy(record, settings, axes), sink, compression="zstd")
        self.write("records.parquet", sink.getvalue())

    def write_prepared(self, chain: Any) -> None:
        """prepared.npz."""
        import io

        sink = io.BytesIO()
        learned = {chain.students[student]: _numbered(tree) for student, tree in chain.prepared.items()}
        flat: dict[str, Any] = {f"{name}/{i}": leaf for name, leaves in learned.items() for i, leaf in leaves.items()}
        np.savez(sink, **flat)
        self.write("prepared.npz", sink.getvalue())

    def write_fit(self, t: int, calls: int, training: Any) -> None:
        """fit.npz: the training of generation t after so many calls."""
        import io

        leaves = _numbered(jax.tree.map(_key_data, training)) | {"about": np.array([t, calls])}
        sink = io.BytesIO()
        np.savez(sink, digest=np.frombuffer(_digest(leaves).encode(), np.uint8), **leaves)  # pyright: ignore
        self.write("fit.npz", sink.getvalue())

    def drop_fit(self) -> None:
        """Removes fit.npz, whose generation is whole."""
        self._once(lambda: (self.path / "fit.npz").unlink(missing_ok=True))

    def write_ceiling(self, record: Record, has_one: Callable[[str], bool]) -> None:
        """ceiling.json: the mean over all chains, of metrics that have one."""
        flat = {name: whole(leaf).astype(np.float64) for name, leaf in record.flat().items() if has_one(name)}
        means = {name: float(leaf.mean()) for name, leaf in flat.items() if leaf.ndim == np.ndim(record.t)}
        self.write("ceiling.json", json.dumps(means, indent=1).encode())

    def picture(self, t: int, rows: Any, axes: int) -> None:
        """samples/T.png, where rows are images: a line of them for every setting (or replicate)."""
        from simulator.report.figures import sheet

        if isinstance(rows, dict) and "image" in rows:
            self.write(f"samples/{t}.png", sheet(np.asarray(rows["image"]), axes))

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
        if spec.override(forked, {"recipe": recipe}).merges != forked.merges:
            raise GenlossError("One of the two recipes keeps cohorts as one; fork a run made with Cohort(merge=False).")
        if generation not in self.steps():
            have = ", ".join(map(str, self.steps()))
            raise GenlossError(f"{self.path} has no checkpoint of generation {generation}; it has: {have}.")
        if other.path.exists() and any(other.path.iterdir()):
            raise GenlossError(f"{other.path} is not empty; fork into a new folder.")
        run = {**about["run"], "chain": new}
        about = {**about, "run": run, "signature": spec.signature(run), "generations": generation + 1}
        about["fork"] = {"of": self.about()["signature"], "generation": generation}
        with disk.writing(f"{other.path} could not be written"):
            for step in (s for s in self.steps() if s <= generation):
                shutil.copytree(self.path / "checkpoints" / str(step), other.path / "checkpoints" / str(step))
            for step, picture in self.pictures().items():
                if step <= generation:
                    (other.path / "samples").mkdir(exist_ok=True)
                    shutil.copy(picture, other.path / "samples" / picture.name)
        other.write("chain.json", json.dumps(about, indent=1).encode())
        return other


def tidy(record: Record, settings: Sequence[str], axes: int) -> Any:
    """A record as a table: setting, replicate, generation, metric, value.

    `axes` is the number of leading axes before that of generations: 0 for one chain, 1 for replicates, 2 for settings
    and replicates.  Element i of a vector metric becomes "metric.i".
    """
    import pyarrow

    t = np.asarray(record.t).reshape((1,) * (2 - axes) + record.t.shape)  # [settings, replicates, generations]
    flat: dict[str, np.ndarray] = {}
    for name, leaf in record.flat().items():
        values = np.asarray(leaf, np.float64).reshape(*t.shape, -1)
        for i in range(values.shape[-1]):
            flat[name if np.ndim(leaf) == np.ndim(record.t) else f"{name}.{i}"] = values[..., i].ravel()
    setting, replicate, _ = np.indices(t.shape)
    n = len(flat)
    return pyarrow.table(
        {
            "setting": pyarrow.DictionaryArray.from_arrays(
                np.tile(setting.ravel(), n).astype(np.int32), list(settings)
            ).dictionary_decode(),
            "replicate": np.tile(replicate.ravel(), n),
            "generation": np.tile(t.ravel().astype(np.int64), n),
            "metric": np.repeat(np.array(list(flat), dtype=object), t.size),
            "value": np.concatenate(list(flat.values())) if flat else np.zeros(0),
        }
    )


def _numbered(tree: Any) -> Leaves:
    return {str(i): whole(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def shaped(leaves: Leaves, like: Any) -> Any:
    """Stored leaves as the tree they were."""
    return jax.tree.unflatten(jax.tree.structure(like), [jax.numpy.asarray(leaves[str(i)]) for i in range(len(leaves))])


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _with_keys(leaves: Leaves, like: Any) -> Any:
    """Stored leaves as the tree they were, random keys among them."""
    wrap = lambda old, new: jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new  # noqa: E731
    return jax.tree.map(wrap, like, shaped(leaves, like))


def _digest(tree: Any) -> str:
    """Checksum of every array of a nested dict, with its name, type and shape."""
    total = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns that arrays are restored as they were saved, which is what we want."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
