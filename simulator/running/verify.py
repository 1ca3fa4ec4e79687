"""Is a stored run what its configuration computes?  What is in its folder is compared with itself, and with some of its
checkpoints computed again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import students
from simulator.running import files, spec
from simulator.running.checkpoints import Chunk
from simulator.running.drive import Drive
from simulator.running.files import Leaves, numbered
from simulator.running.replay import Kept, Replay, computed, held, nudged
from simulator.running.store import Store
from simulator.types import GenlossError, State

TRIES = 3  # computations with other last bits, of which tolerances are made
TIMES = 16  # what a tolerance is of the largest change that these make
LEAST = {"record": 1e-2, "rows": 1e-2, "parameters": 1e-4}  # of the size of the numbers, at least
SHARE = 20  # one checkpoint of so many is computed again, unless more are asked for

BASIS = (
    f"within {TIMES} times what a change of their last bits does: each is computed {TRIES} times more from starting "
    "weights and synthetic rows one unit in the last place up or down, as rounding elsewhere may move them; and within "
    f"{LEAST['record']:g} of the size of numbers recorded and of rows, {LEAST['parameters']:g} of parameters (in root "
    "mean squares over each array)"
)


class Found(NamedTuple):
    """What was found of one thing."""

    where: str  # a file, or the generations of a checkpoint
    verdict: Literal["equal", "differs", "unknown"]  # unknown: it cannot be checked with what is here
    said: str


class Verification:
    """A stored run, read whole; `check` computes some of it again.

    `found` is what its files say of each other.  `Replay.changed` and `Replay.needed` say what can be computed again.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.about = store, store.about()
        self.there: dict[int, Kept] = {}
        self.found: list[Found] = [*self._signed(), *self._checkpoints(), *self._records()]

    def _signed(self) -> Iterator[Found]:
        about = self.about
        whole = spec.signature(about["run"]) == about["signature"]
        said = f"its configuration has the signature {about['signature']}"
        yield Found("chain.json", "equal" if whole else "differs", said if whole else f"{said} no more: it was edited")

    def _checkpoints(self) -> Iterator[Found]:
        for step in self.store.steps():
            try:
                chunk = self.store.chunk(step)
            except Exception as error:
                yield Found(f"checkpoints/{step}", "differs", f"it is damaged or was edited: {files.reason(error)}")
            else:
                self.there[step] = Kept(chunk.first, chunk.last, len(chunk.rows), chunk.record)
        said = f"{len(self.there)} that match their checksums, with {self._spoken(self._present())}"
        yield Found("checkpoints", "equal" if self.there else "unknown", said if self.there else "there are none")

    def _present(self) -> list[int]:
        return [t for kept in self.there.values() for t in range(kept.first, kept.last + 1)]

    def _spoken(self, generations: Sequence[int]) -> str:
        return f"{len(generations)} of {self.about['generations']} generations"

    def _records(self) -> Iterator[Found]:
        """records.parquet against the records of checkpoints."""
        import pyarrow

        name = "records.parquet"
        try:
            table = files.load_table((self.store.path / name).read_bytes(), self.store.signature).to_pandas()
        except FileNotFoundError:
            yield Found(name, "unknown", "it is not there; the run's own command writes it again")
            return
        except Exception as error:
            yield Found(name, "differs", f"it is damaged or was edited: {files.reason(error)}")
            return
        run = self.about["run"]
        axes = 2 if run["sweep"] is not None else int(run["replicates"] is not None)
        settings = ["chain"] if run["sweep"] is None else list(run["sweep"]["values"])
        keys = ["setting", "replicate", "generation", "metric"]
        present, written = set(self._present()), set(map(int, table["generation"]))
        missing, trusted = present - written, written - present
        told = table[table["generation"].isin(present)]
        held = [files.tidy(kept.record, settings, axes) for kept in self.there.values()]
        there = pyarrow.concat_tables(held).to_pandas() if held else told
        both = there[there["generation"].isin(written)].merge(told, how="outer", on=keys, indicator=True)
        alike = (both["value_x"] == both["value_y"]) | (both["value_x"].isna() & both["value_y"].isna())
        off = both[~(alike & (both["_merge"] == "both"))]
        if len(off) or told.duplicated(keys).any():
            setting, replicate, generation, metric, held_value, told_value, _ = (off if len(off) else both).iloc[0]
            at = f"{metric} of generation {generation}, setting {setting}, replicate {replicate}"
            more = f", and {len(off) - 1} more" if len(off) > 1 else ""
            said = f"{at} is {told_value:.9g} there and {held_value:.9g} in the checkpoint{more}"
            yield Found(name, "differs", said if len(off) else f"{at} or another is in it twice")
            return
        said = f"{len(table):,} numbers, those of the checkpoints"
        said += f"; {len(trusted)} generations have no checkpoint here, and are taken on trust" if trusted else ""
        said += (
            f"; {len(missing)} generations are not in it yet, and the run's own command adds them" if missing else ""
        )
        yield Found(name, "equal", said)

    # Computing again.

    def chosen(self, can: Sequence[int], count: int | None, seed: int) -> list[int]:
        """So many of the checkpoints by chance; None: one of each twenty that the run makes, and one at least."""
        if count is None:
            count = max(1, self.about["generations"] // self.about["run"]["every"] // SHARE)
        return sorted(random.Random(seed).sample(sorted(can), min(count, len(can))))

    def holding(self, generations: Sequence[int]) -> list[int]:
        """The checkpoints that hold these generations."""
        found = set()
        for t in generations:
            holding = [last for last, kept in self.there.items() if kept.first <= t <= last]
            if not holding:
                raise GenlossError(f"{self.store.path} has no whole checkpoint of generation {t}; name another.")
            found.update(holding)
        return sorted(found)

    def check(self, replay: Replay, chosen: Sequence[int]) -> Iterator[Found]:
        """What is found of each of these checkpoints, computed again: to the bit, or within tolerances."""
        for chunk, drive, state in replay.states(chosen):
            yield compared(chunk, drive, state, exact=not replay.other(chunk.last))

    def beside(self, replay: Replay) -> Iterator[Found]:
        """What is found of the files that generations are measured by and shown with, learned and measured again."""
        exact = not replay.other(min(self.there))
        if replay.prepared is not None:
            stored = {place: numbered(replay.prepared[one]) for one, place in students(replay.chain.probes).items()}
            off = [place for place, leaves in replay.learned().items() if not _same(stored[place], leaves)]
            said = f"what {', '.join(off or stored)} learned {'is not' if off else 'is'} what is learned here"
            yield Found("prepared.npz", "equal" if not off else "differs" if exact else "unknown", said)
        if self.store.has_ceiling():
            again, told = replay.ceiling(), files.Ceiling(self.store.ceiling(), self.store.noise())
            room = 0.0 if exact else LEAST["record"]
            off = [
                name
                for now, then in zip(again, told, strict=True)
                for name, value in then.items()
                if not np.isclose(now.get(name, np.inf), value, rtol=room, atol=0, equal_nan=True)
            ]
            said = (
                f"{', '.join(off[:4])} of real rows is not what is measured here"
                if off
                else f"{len(told.means)} numbers"
            )
            yield Found("ceiling.json", "equal" if not off else "differs" if exact else "unknown", said)


def compared(chunk: Chunk, drive: Drive, state: State, exact: bool) -> Found:
    """A checkpoint against what is computed again from the state before it."""
    first, last, stored = chunk.first, chunk.last, held(chunk)
    where = f"generation {first}" if first == last else f"generations {first} to {last}"
    again = computed(drive, _copied(state), first, last)
    allowed = {} if exact else tolerances(drive, state, first, last, again)
    off: list[str] = []
    for kind, leaves in again.items():
        then = stored[kind]
        if _shapes(then) != _shapes(leaves):
            off.append(f"the {kind} have other names, shapes or types")
            continue
        for name, leaf in leaves.items():
            alike = _same(then[name], leaf) if exact else _apart(then[name], leaf) <= allowed[kind][name]
            off += [] if alike else [_told(kind, name, then[name], leaf)]
    if off:
        return Found(where, "differs", "; ".join(off[:4]) + (f"; and {len(off) - 4} more" if len(off) > 4 else ""))
    counts = (f"{sum(leaf.size for leaf in leaves.values()):,} numbers of {kind}" for kind, leaves in again.items())
    how = "to the bit" if exact else f"within tolerances ({_widths(allowed, again)})"
    return Found(where, "equal", f"{', '.join(counts)}: equal {how}")


def _widths(allowed: Mapping[str, Mapping[str, float]], again: Mapping[str, Leaves]) -> str:
    """How wide tolerances are, of the size of what they are for: the middle one of each kind."""
    middle = {
        kind: np.median([allowed[kind][name] / (_size(leaf) or 1.0) for name, leaf in leaves.items()])
        for kind, leaves in again.items()
    }
    return ", ".join(f"{kind} {width:.2g}" for kind, width in middle.items()) + " of their size, the middle one"


def _told(kind: str, name: str, then: np.ndarray, now: np.ndarray) -> str:
    """Where two leaves differ, in words."""
    at = np.unravel_index(int(np.argmax(_differences(then, now))), then.shape)
    values = f"{then[at]!s} there and {now[at]!s} here"
    if kind == "record":
        return f"{name} is {values}"
    return f"{int(np.count_nonzero(_differences(then, now))):,} of {then.size:,} numbers of {kind} ({values})"


def tolerances(
    drive: Drive, state: State, first: int, last: int, again: Mapping[str, Leaves]
) -> dict[str, dict[str, float]]:
    """By kind and name, how far apart (root mean square) two numbers may be that differ by rounding alone: `BASIS`."""
    most = {kind: dict.fromkeys(leaves, 0.0) for kind, leaves in again.items()}
    for i in range(TRIES):
        key = jax.random.key(i)
        rows = nudged(state.pool.held, key)
        moved = state.replace(params=nudged(state.params, key), pool=state.pool.replace(rows=rows))
        drive.nudge = lambda params, key=key: nudged(params, key)
        try:
            near = computed(drive, _copied(moved), first, last)
        finally:
            drive.nudge = lambda params: params
        for kind, leaves in near.items():
            for name, leaf in leaves.items():
                most[kind][name] = max(most[kind][name], _apart(leaf, again[kind][name]))
    size = {
        kind: {name: _apart(leaf, np.zeros_like(leaf)) for name, leaf in leaves.items()}
        for kind, leaves in again.items()
    }
    return {k: {n: max(TIMES * most[k][n], LEAST[k] * size[k][n]) for n in most[k]} for k in most}


def _size(leaf: np.ndarray) -> float:
    return _apart(leaf, np.zeros_like(leaf))


def _copied(state: State) -> State:
    return jax.tree.map(jnp.copy, state)


def _shapes(leaves: Leaves) -> dict[str, Any]:
    return {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}


def _same(one: Any, other: Any) -> bool:
    """Whether all bits are the same."""
    return files.digest(one) == files.digest(other)


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far apart numbers are; infinitely where one is no number and the other is."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, np.abs(one - other))
    return np.where(np.isnan(apart), np.inf, apart)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square of the differences."""
    return float(np.sqrt(np.mean(_differences(one, other) ** 2))) if np.size(one) else 0.0
