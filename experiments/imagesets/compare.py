"""One image set against another: coverage, fidelity, spectrum, and whether detectors tell them apart.

Beside each number stands what real images score: the real set is cut in two by chance, and its other half is measured
like the set that is judged.  All halves have the same number of images.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments.imagesets.checks import Troubles, watched
from experiments.imagesets.images import Item, open_set
from experiments.imagesets.index import Index, kept
from experiments.imagesets.masks import REAL, SYNTHETIC, refuse_odd
from experiments.imagesets.writing import check_place, read_json
from generators.nets.inception import Inception
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from simulator import disk
from simulator.probes.detection import Detection
from simulator.probes.features import Pca, Stored
from simulator.probes.fidelity import frechet, frechet_infinite
from simulator.probes.neighbours import manifold
from simulator.probes.spectrum import Spectrum, rings
from simulator.report.names import in_figure, on_terminal
from simulator.sources.images import Unreadable, stacked
from simulator.types import GenlossError

JSON, PNG = "compare.json", "compare.png"
MARK = "genloss_comparison"  # in the first
MOST_SIDE = 4096
COPIES = 6  # bytes of a value of a pixel: as it is read, stacked, and in single precision
NEIGHBOURS = 5
SHARES = ("precision", "recall", "density", "coverage")


class Pair(Protocol):
    """Two sets, of which images are chosen and decoded."""

    @property
    def side(self) -> int | None: ...
    @property
    def skip_broken(self) -> bool: ...


@dataclass(frozen=True)
class Comparison:
    """What is asked for."""

    real: str
    synthetic: str
    limit: int = 5000  # images of each of the three halves, at most
    side: int | None = None  # pixels that images are resized to
    weights: str | None = None  # of Inception; None: principal components of pixels
    seed: int = 0
    out: str | None = None
    skip_broken: bool = False
    split: str | None = None
    synthetic_split: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 20 or not 4 <= (self.side or 4) <= MOST_SIDE:
            raise GenlossError(
                f"compare-data needs --limit of at least 20 images, and --side of at least 4 pixels and at most "
                f"{MOST_SIDE:,}."
            )

    def about(self) -> dict[str, Any]:
        """What the comparison is told apart from others by."""
        real, synthetic = (os.path.abspath(path) for path in (self.real, self.synthetic))  # noqa: PTH100
        asked = {name: getattr(self, name) for name in ("limit", "side", "weights", "seed", "split", "label")}
        return {
            MARK: 1,
            "real_path": real,
            "synthetic_path": synthetic,
            **asked,
            "synthetic_split": self.synthetic_split,
        }

    def troubles(self, kind: str) -> Troubles:
        """A collector whose whole list is beside `out`."""
        return Troubles(Path(f"{os.path.normpath(self.out or 'compare-data')}.{kind}.txt"))


@kept()
def compare(asked: Comparison) -> int:
    """Prints and draws the comparison; 0, or 1 where something was left out or a class has no images.

    Raises `GenlossError` where images cannot be used, are of several sizes, or are too few.
    """
    if asked.out is not None:
        check_out(asked, Path(asked.out))
    troubles = asked.troubles("unusable")
    index, given = Index(), (asked.real, asked.synthetic)
    for path, split, label in zip(given, (asked.split, asked.synthetic_split), (asked.label, None), strict=True):
        images = open_set(path, split, label)
        index.add(images, f"{asked.seed}", path, troubles.of(images.root), whole=False)
    refuse(asked, troubles)
    if asked.side is None:
        refuse_odd(index, asked.troubles("odd"), ("size",), 0, "give --side PX, to which all are resized")
    counts = [index.counts(number) for number in (REAL, SYNTHETIC)]
    sizes = [sum(count.values()) for count in counts]
    n = min(asked.limit, sizes[0] // 2, sizes[1])
    refuse_large(asked, index, 3 * n)
    real, fake = (pictures(asked, index, i, most, troubles) for i, most in ((REAL, 2 * n), (SYNTHETIC, n)))
    refuse(asked, troubles)
    if asked.skip_broken:
        troubles.print()
    real, fake = coloured(real, fake, asked.real, asked.synthetic)
    n = min(len(real) // 2, len(fake))
    if n < 20:
        raise GenlossError(
            f"Of {sizes[0]:,} real images and {sizes[1]:,} others too few can be used; 40 and 20 are needed."
        )
    missing = [] if "" in counts[0] | counts[1] else sorted(counts[0].keys() - counts[1].keys())
    for label in missing[:20]:
        print(f"class '{label}' of {asked.real} has no image in {asked.synthetic}", file=sys.stderr)
    if len(missing) > 20:
        print(f"... and {len(missing) - 20:,} more classes", file=sys.stderr)
    found = measure(asked, *({"image": jnp.asarray(x)} for x in (real[:n], real[n : 2 * n], fake[:n])))
    found |= {"images": n, "classes missing": missing, "left out": troubles.count}
    _print(asked, found)
    if asked.out is not None:
        text = json.dumps({**asked.about(), **found}, indent=2) + "\n"
        disk.write(asked.out, JSON, text.encode())
        with disk.opened(asked.out, PNG) as file:
            draw(asked, found, real[n:], fake).savefig(file, format="png", dpi=120)
        print(f"figure: {Path(asked.out) / PNG}")
    return 1 if troubles.count or missing else 0


def refuse(asked: Pair, troubles: Troubles) -> None:
    """Raises where something cannot be used and is not to be left out."""
    if troubles.count and not asked.skip_broken:
        troubles.print()
        raise GenlossError(
            f"{troubles.count:,} entries cannot be used; mend them, or leave them out with --skip-broken."
        )


def check_out(asked: Comparison, out: Path) -> None:
    """Raises where `out` cannot be written, or what is there under the names of the results is not this comparison."""
    check_place(out)
    there = [name for name in (JSON, PNG) if os.path.lexists(out / name)]
    if there and not asked.about().items() <= (read_json(out / JSON) or {}).items():
        raise GenlossError(f"{out / there[0]} is not of this comparison; choose another folder for --out.")


def refuse_large(asked: Pair, index: Index, n: int) -> None:
    """Raises where the pixels of n images, and what is computed of them, could not be held."""
    (pixels,) = index.db.execute("SELECT IFNULL(MAX(width * height), 0) FROM item").fetchone()
    need = n * 3 * (pixels if asked.side is None else asked.side**2) * COPIES
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > there:
        raise GenlossError(
            f"{n:,} images of this size need {need / 1e9:,.0f} GB of memory, and there are {there / 1e9:,.0f}; lower "
            "--limit or --side."
        )


def pictures(asked: Pair, index: Index, number: int, most: int, troubles: Troubles) -> np.ndarray:
    """The `most` images of a set that chance chose, decoded, uint8 [n, h, w, c], in colour if any is."""
    chosen = f"SELECT id FROM item WHERE set_ = {number} ORDER BY rank, label, name LIMIT {most}"
    index.spool(number, chosen)
    found: list[np.ndarray] = []
    rows = index.db.execute(f"SELECT id, where_ FROM item WHERE id IN ({chosen}) ORDER BY rank, label, name")
    for row, where in watched(rows, "decoding", most):
        try:
            found.append(Item("", "", where, index.data(number, row, where)).decode(asked.side))
        except Unreadable as error:  # it has changed since it was checked
            troubles.of(index.sets[number].root)(where, error.why)
    return stacked(found) if found else np.zeros((0, 1, 1, 1), np.uint8)


def coloured(real: np.ndarray, fake: np.ndarray, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in colour if one is, which is said: a network or a spectrum sees as many channels of each."""
    if real.shape[-1] != fake.shape[-1]:
        grey = names[0] if real.shape[-1] == 1 else names[1]
        print(
            f"images of {grey} are grey and those compared with them in colour; all are read as colour", file=sys.stderr
        )
    channels = max(real.shape[-1], fake.shape[-1])
    both = (np.broadcast_to(x, (*x.shape[:-1], channels)) for x in (real, fake))
    return next(both), next(both)


def measure(asked: Comparison, reference: Any, other: Any, fake: Any) -> dict[str, Any]:
    """Every number, of `fake` and of other real images, against the reference: leaves uint8 [n, h, w, c] each."""
    n, h, w, c = reference["image"].shape
    source: Any = SimpleNamespace(draw=lambda key, m, held_out=False: {"image": reference["image"][:m]}, size=n)
    key = jax.random.key(asked.seed)
    if asked.weights is None:
        space: Any = Pca(dim=min(64, n - 1, h * w * c))
        named = f"{space.dim} principal components of pixels"
    else:
        space, named = Stored(Inception, asked.weights, outputs=1008), f"Inception, {Path(asked.weights).name}"
    learned = space.prepare(key, source)
    embed = jax.jit(lambda rows: space(rows, learned))
    base, real, said = embed(reference), embed(other), embed(fake)  # [n, d] each
    found: dict[str, Any] = {"features": named}
    spectrum = Spectrum()
    ring = rings(h, w)
    power = [np.asarray(spectrum.power(rows, ring)) for rows in (reference, other, fake)]  # [1 + rings] each
    for name, x, p in (("real", real, power[1]), ("synthetic", said, power[2])):
        whole = frechet(base, x)
        log = [np.log10(np.maximum(q[1:], 1e-14)) for q in (power[0], p)]
        found[name] = {
            **{k: float(v) for k, v in manifold(base, x, NEIGHBOURS).items()},
            "frechet": float(whole),
            "frechet_infinite": float(frechet_infinite(base, x, whole)),
            "spectrum": float(np.abs(log[0] - log[1]).mean()),
        }
    patch = next((p for p in range(2, min(h, w)) if h % p == w % p == 0 and h * w <= 64 * p * p), None)
    network = functools.partial(MLP, hidden=(128,)) if patch is None else functools.partial(Mixer, patch=patch)
    judged = Detection(network).of(key, reference, fake, embed)
    detectors: dict[str, Any] = {
        name: {k: float(v) for k, v in judged[name].items()} for name in ("spectrum", "network", "entropy")
    }
    found["detectors"] = detectors | {"error": float(judged["error"])}
    found["entropy gap"] = float(judged["gap"])
    found["power"] = {
        "frequency": ring.frequency.tolist(),
        **{name: p.tolist() for name, p in zip(("reference", "real", "synthetic"), power, strict=True)},
    }
    found["plane"] = {name: np.asarray(x[:1000, :2]).tolist() for name, x in (("real", real), ("synthetic", said))}
    return found


def _print(asked: Comparison, found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = on_terminal(f"{found['images']:,} images of each, in {found['features']}")
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    for i, column in enumerate(("", "other real images", "synthetic")):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    names = {name: name for name in SHARES} | {
        "frechet": "Fréchet distance",
        "frechet_infinite": "the same for endless images",
        "spectrum": "spectrum, distance in decades",
    }
    for name, shown in names.items():
        table.add_row(shown, *(f"{found[part][name]:.4g}" for part in ("real", "synthetic")))
    error = found["detectors"]["error"]
    for name in ("spectrum", "network", "entropy"):
        what = found["detectors"][name]
        table.add_row(f"detector by {name}: AUROC", f"0.5 ± {error:.3f} by chance", f"{what['auroc']:.3f}")
        table.add_row("    TPR at 1 % FPR", "0.010 by chance", f"{what['tpr']:.3f}")
    table.add_row("entropy gap, nats", "0", f"{found['entropy gap']:.3g}")
    Console().print(table)
    best = max(("spectrum", "network", "entropy"), key=lambda name: found["detectors"][name]["auroc"])
    if found["detectors"][best]["auroc"] < 0.5 + 3 * error:
        print("No detector tells the sets apart beyond chance.")


def draw(asked: Comparison, found: dict[str, Any], real: np.ndarray, fake: np.ndarray) -> Any:
    """The figure: images of both, shares, spectra, detectors, and the first two components or features."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    colours = {"real": "tab:blue", "synthetic": "tab:orange"}
    for ax, (name, images) in zip(axes[:, 0], (("real", real), ("synthetic", fake)), strict=True):
        side = min(6, int(len(images) ** 0.5))
        rows = [np.concatenate(list(images[i * side : (i + 1) * side]), axis=1) for i in range(side)]
        sheet = np.concatenate(rows)  # [side h, side w, c]
        ax.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255)
        ax.set_title(in_figure(f"{name}: {Path(asked.real if name == 'real' else asked.synthetic).name}"))
        ax.axis("off")
    place = np.arange(len(SHARES))
    for i, name in enumerate(colours):
        bars = [found[name][share] for share in SHARES]
        label = "other real images" if name == "real" else name
        axes[0, 1].bar(place + 0.4 * i - 0.2, bars, 0.38, color=colours[name], label=label)
    axes[0, 1].set_xticks(place, SHARES)
    axes[0, 1].set_title(in_figure(f"in {found['features']}"), fontsize=9)
    axes[0, 1].legend()
    power = found["power"]
    for name, colour in colours.items():
        axes[0, 2].loglog(power["frequency"][1:], power[name][1:], color=colour, label=name)
    axes[0, 2].set(xlabel="frequency, cycles a pixel", ylabel="power", title="radial spectrum")
    low, high = power["frequency"][1], power["frequency"][-1]
    marks = [f for f in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if 0.9 * low <= f <= 1.1 * high]
    axes[0, 2].set_xticks(marks, [f"{f:g}" for f in marks])
    axes[0, 2].set_xticks([], minor=True)
    axes[0, 2].legend()
    detectors = ("spectrum", "network", "entropy")
    for i, (metric, label) in enumerate((("auroc", "AUROC"), ("tpr", "TPR at 1 % FPR"))):
        bars = [found["detectors"][name][metric] for name in detectors]
        axes[1, 1].bar(np.arange(3) + 0.4 * i - 0.2, bars, 0.38, color=("tab:gray", "tab:red")[i], label=label)
    axes[1, 1].axhline(0.5, color="black", linestyle=":", linewidth=1)
    axes[1, 1].set_xticks(np.arange(3), detectors)
    axes[1, 1].set(ylim=(0, 1.02), title="detectors (dotted: AUROC of guessing)")
    axes[1, 1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False)
    for name, colour in colours.items():
        axes[1, 2].scatter(*np.array(found["plane"][name]).T, s=4, alpha=0.5, color=colour, label=name)
    axes[1, 2].set_title("first two features")
    axes[1, 2].legend()
    return figure
