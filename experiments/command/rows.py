"""`genloss rows`: what a generation of a run says, as a table, texts or images."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import stored_chain
from experiments.command.numbers import KEYS, near, place, whole

FILES = ("parquet", "csv", "jsonl")
FORMATS = (*FILES, "images")


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    shared.trust(sub)
    shared.which_model(sub)
    sub.add_argument("--to", type=place, metavar="FILE|DIR", help="the file to write; of images the folder")
    sub.add_argument(
        "--format", choices=FORMATS, help="what is written (default: what FILE ends in; images as a folder of PNG)"
    )
    more = "how many: beyond those that the run kept they are sampled anew (default: those kept)"
    sub.add_argument("--rows", type=whole(1), metavar="N", help=more)
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="of rows sampled anew (default: 0)")


def rows(options: argparse.Namespace) -> int:
    import jax
    import numpy as np

    from experiments.imagesets.checks import watched
    from simulator import GenlossError, disk
    from simulator.pool import count

    found = stored_chain(options.run, options.setting, options.replicate, options.trust, options.code)
    out, form = _place(options.to, options.format, _is_images(found.like))
    t = max(found.store.steps(), default=0) if options.generation is None else options.generation
    pieces = [] if (kept := found.kept(t)) is None else [kept]
    own = count(kept) if pieces else 0
    n = options.rows or own or found.chain.rows
    if n > own:
        if t not in found.store.steps():
            raise GenlossError(
                f"{found.store.path} kept {own or 'no'} rows of generation {t} and no parameters to sample more by; it "
                f"has checkpoints of: {', '.join(map(str, found.store.steps()))}."
            )
        calls = range(-(-(n - own) // found.chain.rows))
        anew = zip(calls, found.anew(t, options.seed), strict=False)
        pieces += [piece for _, piece in watched(anew, "sampling", len(calls))]
    said: Any = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *pieces)
    own = min(own, n)
    about = {
        "run": found.store.signature,
        "generation": t,
        "setting": found.setting,
        "replicate": options.replicate,
        "class": type(found.chain.model).__name__,
        "rows": n,
        "kept": own,
        "seed": options.seed if n > own else None,
    }
    if form == "images" or _is_images(said):
        with disk.new_folder(out) as folder:
            _write_images(folder, said, found.chain.source, about, form == "parquet")
    else:
        _write_table(out, form, said, found.chain.source, about)
    print(f"{near(out)}: {n:,} rows of generation {t}: {_told(own, n - own, options.seed)}")
    return 0


def _told(kept: int, anew: int, seed: int) -> str:
    """Which of the two the rows are."""
    parts = [f"{kept:,} that the run kept"] * (kept > 0) + [f"{anew:,} sampled anew (seed {seed})"] * (anew > 0)
    return ", then ".join(parts)


def _is_images(rows: Any) -> bool:
    image = rows.get("image") if isinstance(rows, dict) else None
    return image is not None and image.dtype == "uint8" and image.ndim == 4 and image.shape[-1] in (1, 3)


def _place(to: str | None, form: str | None, images: bool) -> tuple[Path, str]:
    """(where, and in which format) rows are written; raises where the two, or what the rows are, do not fit."""
    from simulator import GenlossError

    suffix = Path(to or "").suffix[1:].lower()
    ends = suffix if suffix in FILES else None
    if images:
        form = form or ends or "images"
        if to is None or ends or form not in ("images", "parquet"):
            raise GenlossError("These rows are images: --to DIR writes PNG files, with --format parquet a hub's files.")
        return Path(to).expanduser().absolute(), form
    form = form or ends
    if form == "images":
        raise GenlossError(f"These rows are no images; give --to a name that ends in .{', .'.join(FILES)}.")
    return shared.new_file(to, "--to", [f".{form}"] if form else [f".{kind}" for kind in FILES]), form or suffix


# Images.


def _write_images(folder: Path, rows: Any, source: Any, about: dict[str, Any], parquet: bool) -> None:
    from experiments.imagesets.spoken import class_names, write_images
    from simulator.abilities import Written
    from simulator.sources.scenes import said
    from simulator.sources.split import split_of

    split, captions = split_of(source), None
    names = class_names(rows["label"], split.classes if split else ()) if "label" in rows else []
    if "caption" in rows:
        captions = (source.decode if isinstance(source, Written) else said)(rows["caption"])
    write_images(folder, rows, names, captions, about, about["kept"], parquet)


# Everything else.


def _write_table(file: Path, form: str, rows: Any, source: Any, about: dict[str, Any]) -> None:
    """A column for each number of a row, the text, or the columns that the source's table has.

    A line of JSON has lists where a row has several numbers.
    """
    import jax
    import numpy as np
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    from simulator import disk
    from simulator.abilities import Framed, Written

    framed = isinstance(source, Framed) and isinstance(rows, dict)
    named = pyarrow.Table.from_pandas(source.frame(rows), preserve_index=False) if framed else None
    paths = jax.tree_util.tree_leaves_with_path(rows)
    leaves = {jax.tree_util.keystr(path, simple=True, separator=".") or "x": _plain(leaf) for path, leaf in paths}
    texts = source.decode(rows) if isinstance(source, Written) and not isinstance(rows, dict) else None
    with disk.opened(file.parent, file.name) as stream:
        if form == "jsonl":
            columns = {"text": texts} if texts is not None else {name: leaf.tolist() for name, leaf in leaves.items()}
            columns = columns if named is None else named.to_pydict()
            for cells in zip(*columns.values(), strict=True):
                line = dict(zip(columns, map(_finite, cells), strict=True))
                stream.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())
            return
        if named is not None:
            table = named
        elif texts is not None:
            tokens = {"tokens": list(np.asarray(rows))} if form == "parquet" else {}
            table = pyarrow.table({"text": texts, **tokens})
        else:
            table = pyarrow.table({name: column for path in leaves for name, column in _flat(path, leaves[path])})
        if form == "csv":
            pyarrow.csv.write_csv(table, stream)
        else:
            table = table.replace_schema_metadata({"genloss": json.dumps(about)})
            pyarrow.parquet.write_table(table, stream, compression="zstd")


def _flat(name: str, leaf: Any) -> list[tuple[str, Any]]:
    """Columns of a leaf [n, ...]: "x", or "x.0", "x.1" ... as records name the entries of a vector."""
    import numpy as np

    return [(".".join([name, *map(str, at)]), leaf[:, *at]) for at in np.ndindex(leaf.shape[1:])]


def _plain(leaf: Any) -> Any:
    """Numbers of a kind that files know."""
    import numpy as np

    leaf = np.asarray(leaf)
    return leaf if leaf.dtype.kind in "biu" or leaf.dtype in ("float32", "float64") else leaf.astype(np.float32)


def _finite(cell: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(cell, list):
        return list(map(_finite, cell))
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


command = Command("what a generation of a run says: a table, texts, images; also more of it", arguments, rows)
