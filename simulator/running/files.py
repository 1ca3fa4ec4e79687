"""The files of a run, read against what they must hold: whole and of this run, or a `ValueError` that says why not.

Each carries the signature of its run and a checksum of what it holds, so that nothing of another run, edited, or cut
short is taken for a result.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from simulator.numerics.processes import whole
from simulator.types import GenlossError, Record

Leaves = dict[str, np.ndarray]  # "0", "1", ...: the leaves of a tree in order
DEEP = 500  # levels of a configuration, at most


def about(file: Path) -> dict[str, Any]:
    """chain.json; `GenlossError` where it does not describe a run."""
    import msgspec

    from simulator.running.contents import About

    restore = "restore it or choose another folder"
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise GenlossError(f"{file.parent} holds no run: it has no chain.json.") from None
    except OSError as error:
        raise GenlossError(f"{file} cannot be read ({error.strerror}); {restore}.") from None
    except (ValueError, RecursionError):
        raise GenlossError(f"{file} is not whole; {restore}.") from None
    try:
        if _depth(found) > DEEP:
            raise GenlossError(f"{file} does not describe a run (it is nested too deep); {restore}.")
        msgspec.convert(found, About)
    except msgspec.ValidationError as error:
        raise GenlossError(f"{file} does not describe a run ({error}); {restore}.") from None
    return found


def _depth(data: Any) -> int:
    """Levels of nested lists and mappings, or more than `DEEP` of them."""
    level, inside = 0, [data]
    while inside and level <= DEEP:
        inside = [v for d in inside if isinstance(d, dict | list) for v in (d.values() if isinstance(d, dict) else d)]
        level += 1
    return level


class Ceiling(NamedTuple):
    """What probes say of real rows, by metric."""

    means: dict[str, float]  # over all chains
    deviations: dict[str, float]  # over replicates: the noise of the measure; empty where there is but one

    @classmethod
    def of(cls, record: Record, has_one: Callable[[str], bool]) -> Ceiling:
        """That of a record with leaves [..., replicates] of each chain's own real rows."""
        flat = {name: whole(leaf).astype(np.float64) for name, leaf in record.flat().items() if has_one(name)}
        flat = {name: leaf for name, leaf in flat.items() if leaf.ndim == np.ndim(record.t)}
        several = {name: leaf for name, leaf in flat.items() if leaf.ndim and leaf.shape[-1] > 1}
        deviations = {name: float(np.sqrt(leaf.var(-1, ddof=1).mean())) for name, leaf in several.items()}
        return cls({name: float(leaf.mean()) for name, leaf in flat.items()}, deviations)


UNMEASURED = Ceiling({}, {})


def dump_ceiling(run: str, found: Ceiling) -> bytes:
    metrics, deviations = ({n: v if np.isfinite(v) else None for n, v in part.items()} for part in found)
    told = {"run": run, "digest": _of_ceiling(metrics, deviations), "metrics": metrics, "deviations": deviations}
    return json.dumps(told, indent=1).encode()


def load_ceiling(data: bytes, run: str) -> Ceiling:
    import msgspec

    from simulator.running import contents

    found = msgspec.json.decode(data, type=contents.Ceiling)
    metrics, deviations = found["metrics"], found.get("deviations", {})  # which ceilings did not always have
    _same_run(found["run"], run)
    _same_contents(found["digest"], _of_ceiling(metrics, deviations))
    return Ceiling(*({n: np.nan if v is None else v for n, v in part.items()} for part in (metrics, deviations)))


def _of_ceiling(metrics: dict[str, float | None], deviations: dict[str, float | None]) -> str:
    """Checksum."""
    return _text_digest([metrics, deviations] if deviations else metrics)


def dump_arrays(run: str, leaves: Leaves) -> bytes:
    """Arrays by name, as .npz."""
    sink = io.BytesIO()
    stamp = np.frombuffer(json.dumps({"run": run, "digest": digest(leaves)}).encode(), np.uint8)
    np.savez(sink, stamp=stamp, **leaves)  # pyright: ignore[reportArgumentType]
    return sink.getvalue()


def load_arrays(file: Path, run: str) -> Leaves:
    with np.load(file) as stored:
        leaves = {name: stored[name] for name in stored.files}
    stamp = json.loads(leaves.pop("stamp").tobytes())
    _same_run(stamp["run"], run)
    _same_contents(stamp["digest"], digest(leaves))
    return leaves


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


def dump_table(run: str, table: Any) -> bytes:
    """Records as .parquet."""
    import pyarrow.parquet

    stamp = json.dumps({"run": run, "digest": _table_digest(table)})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({"genloss": stamp}), sink, compression="zstd")
    return sink.getvalue()


def load_table(data: bytes, run: str) -> Any:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data))
    stamp = (table.schema.metadata or {}).get(b"genloss")
    if stamp is None:
        raise ValueError("it was written by something else")
    stamp = json.loads(stamp)
    _same_run(stamp["run"], run)
    _same_contents(stamp["digest"], _table_digest(table))
    return table.replace_schema_metadata(None)


def joined(records: Sequence[Record], axes: int) -> Record:
    """Records of successive generations as one; `axes` as in `tidy`."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(x) for x in leaves], axes), *records)


def numbered(tree: Any) -> Leaves:
    """The leaves of a tree, as they are stored."""
    return {str(i): whole(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def shaped(leaves: Leaves, like: Any) -> Any:
    """Stored leaves as the tree they were."""
    return jax.tree.unflatten(jax.tree.structure(like), [jax.numpy.asarray(leaves[str(i)]) for i in range(len(leaves))])


def with_keys(leaves: Leaves, like: Any) -> Any:
    """Stored leaves as the tree they were, random keys among them."""
    wrap = lambda old, new: jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new  # noqa: E731
    return jax.tree.map(wrap, like, shaped(leaves, like))


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def without_keys(tree: Any) -> Any:
    """A tree with the numbers of its random keys."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def digest(tree: Any) -> str:
    """Checksum of every array of a nested dict, with its name, type and shape."""
    total = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _text_digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _table_digest(table: Any) -> str:
    """Checksum of names, types and values of the columns."""
    total = hashlib.blake2b(digest_size=16)
    for name, column in zip(table.column_names, table.combine_chunks().columns, strict=True):
        total.update(f"{name}{column.type}".encode())
        if str(column.type) == "string":
            column = column.dictionary_encode().combine_chunks()
            column = column.chunk(0) if hasattr(column, "chunk") else column
            total.update(json.dumps(column.dictionary.to_pylist()).encode())
            column = column.indices
        total.update(np.ascontiguousarray(column.to_numpy()).tobytes())
    return total.hexdigest()


def _same_run(found: str, run: str) -> None:
    if found != run:
        raise ValueError("it is of another run")


def _same_contents(found: str, contents: str) -> None:
    if found != contents:
        raise ValueError("its contents do not match their checksum")


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def dump_texts(decode: Callable[[Any], list[str]], rows: np.ndarray, axes: int, most: int = 4) -> bytes:
    """The first texts of rows [*axes, n, length]: of every setting (its first replicate), or of every replicate.

    A line of JSON each, {"line": setting or replicate, "text"}.
    """
    lines = rows[:, 0] if axes == 2 else rows if axes else rows[None]  # [lines, n, length]
    said = [{"line": i, "text": text} for i, line in enumerate(lines) for text in decode(line[:most])]
    return "".join(json.dumps(one) + "\n" for one in said).encode()


def load_texts(file: Path) -> list[list[str]]:
    """The texts of each line, as `dump_texts` writes them."""
    found: list[list[str]] = []
    for raw in file.read_bytes().splitlines():
        one = json.loads(raw)
        if not (isinstance(one, dict) and isinstance(one.get("text"), str) and one.get("line") in range(10_000)):
            raise ValueError("it holds something else than texts")
        found.extend([] for _ in range(one["line"] + 1 - len(found)))
        found[one["line"]].append(one["text"])
    return found
