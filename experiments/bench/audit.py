"""How near an audit comes to the share that is generated: `python -m experiments.bench audit`.

Sets of Fashion-MNIST, and of the embedded digits, of which a share is replaced by what a generator says that was fitted
to other real images of the same set; the real images beside them are others again.  Settings of the estimator and of
its classifier were chosen by `TUNED`; `OTHERS` were looked at afterwards.  `other real` is a generator that nothing can
tell: an audit must say so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, table
from experiments.imagesets import traces
from generators.vae import VAE
from simulator import Dataset, Pool
from simulator.analysis.audit import REACH, Share, share

SHARES = (0.1, 0.3, 0.5)
SIZES = {"Fashion-MNIST": (1000, 4000), "digits": (350,)}
Maker = Callable[[Any, int, np.random.Generator], np.ndarray]  # (rows fitted to, how many, chance) -> uint8 images
Cut = tuple[np.ndarray, np.ndarray, Any]  # real images, those that are mixed, rows that generators are fitted to


def main() -> None:
    folder = os.environ.get("GENLOSS_DATA")
    if not folder:
        say("audit: GENLOSS_DATA names no folder of data sets")
        return
    began = time.process_time()
    cuts = {"Fashion-MNIST": _cut(Dataset.load(Path(folder) / "fashion_mnist"), 4000), "digits": _cut(Dataset(), 350)}
    heads = [f"{data}, {n:,}" for data, sizes in SIZES.items() for n in sizes]
    found = table(
        "share that looks generated, % [90 % interval]; ≥: cannot tell how much; ?: cannot tell", "truth", *heads
    )
    whole = [share(*traces.scores(cuts[data][0][:n], cuts[data][1][:n])) for data, of in SIZES.items() for n in of]
    found.add_row("0 %", *map(shown, whole))
    asked: dict[str, list[tuple[Share, float]]] = {"at 0 %": [(one, 0.0) for one in whole]}  # shares and their truths
    for name, make in (TUNED | OTHERS).items():
        group = "other real" if name == "other real" else "tuned by" if name in TUNED else "others"
        made = {data: make(cut[2], len(cut[1]) // 2, np.random.default_rng(1)) for data, cut in cuts.items()}
        for truth in SHARES:
            row = [_asked(cuts[data], made[data], truth, n) for data, sizes in SIZES.items() for n in sizes]
            found.add_row(f"{100 * truth:.0f} %, {name}", *map(shown, row))
            asked.setdefault(group, []).extend((one, truth) for one in row)
    say(found)
    for group, pairs in asked.items():
        near = [abs(one.value - truth) <= REACH for one, truth in pairs if one.value is not None]
        held, above = (sum(test) for test in zip(*((o.low <= t <= o.high, o.low > t) for o, t in pairs), strict=True))
        say(f"{group}: {len(near)} of {len(pairs)} told, {sum(near)} of them within ± {100 * REACH:g} points; the "
            f"interval holds the truth in {held} and lies above it in {above}")  # fmt: skip
    say(f"{time.process_time() - began:.0f} CPU seconds")


def _asked(cut: Cut, fake: np.ndarray, truth: float, n: int) -> Share:
    real, mixed, _ = cut
    k = round(truth * n)
    return share(*traces.scores(real[:n], np.concatenate([mixed[: n - k], fake[:k]])))


def shown(one: Share) -> str:
    ends = f"[{100 * one.low:.1f}, {100 * one.high:.1f}]"
    if one.value is not None:
        return f"{100 * one.value:.1f} {ends}"
    return f"≥ {100 * one.low:.1f} ({one.auroc:.2f})" if one.low > 0 else f"? ({one.auroc:.3f})"


def _cut(source: Dataset, n: int) -> Cut:
    rows = source.split.train
    order = np.random.default_rng(0).permutation(len(rows["image"]))
    image, label = rows["image"][order], rows["label"][order]
    return image[:n], image[n : 2 * n], {"image": image[2 * n : 4 * n], "label": label[2 * n : 4 * n]}


def _pixels(x: np.ndarray, rows: Any) -> np.ndarray:
    """Flat values [n, pixels] as images like the others, on as many levels."""
    levels = 16 if len(np.unique(rows["image"])) <= 17 else 255  # digits have seventeen
    x = np.round(np.clip(x, 0, 255) / 255 * levels) / levels * 255
    return np.floor(x).astype(np.uint8).reshape(-1, *rows["image"].shape[1:])


def gaussians(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
    """A normal law for each class, in pixels."""
    x, y = rows["image"].reshape(len(rows["image"]), -1).astype(np.float64), rows["label"]
    found = []
    for label in np.unique(y):
        of = x[y == label]
        cov = np.cov(of.T) + np.eye(x.shape[1])
        found.append(chance.multivariate_normal(of.mean(0), cov, -(-n // len(np.unique(y))), method="cholesky"))
    return chance.permutation(_pixels(np.concatenate(found), rows))[:n]


def components(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
    """An image at random, its first principal components with noise of 0.3 of their spread."""
    x = rows["image"].reshape(len(rows["image"]), -1).astype(np.float64)
    mean = x.mean(0)
    spread, axes = np.linalg.eigh(np.cov(x.T))
    axes = axes[:, -len(mean) // 12 :]  # [pixels, kept]
    z = (x[chance.integers(0, len(x), n)] - mean) @ axes
    z += 0.3 * np.sqrt(spread[-axes.shape[1] :]) * chance.standard_normal(z.shape)
    return _pixels(mean + z @ axes.T, rows)


def kernels(low: float, high: float) -> Maker:
    """An image at random with noise, of a standard deviation between these for each image."""

    def make(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
        x = rows["image"].reshape(len(rows["image"]), -1)[chance.integers(0, len(rows["image"]), n)]
        return _pixels(x + 255 * chance.uniform(low, high, (n, 1)) * chance.standard_normal(x.shape), rows)

    return make


def vae(temperature: float) -> Maker:
    def make(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
        model = VAE(hidden=(256,), latent=16, steps=1000, temperature=temperature).shaped(rows)
        pool = Pool.of(jax.tree.map(jnp.asarray, rows))
        params, _ = jax.jit(model.fit)(jax.random.key(1), model.init(jax.random.key(0)), pool)
        x = jax.jit(model.sample, static_argnums=2)(jax.random.key(2), params, n)["image"]
        return _pixels(np.asarray(x).reshape(n, -1), rows)

    return make


def moved(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
    """Real images, moved by one pixel: what looks real but for where it lies."""
    x = rows["image"][:n]
    way = chance.integers(0, 4, n)
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    return np.stack([np.roll(image, steps[i], (0, 1)) for image, i in zip(x, way, strict=True)])


def other_real(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
    return rows["image"][:n]


def mirrored(rows: Any, n: int, chance: np.random.Generator) -> np.ndarray:
    """Real images, left and right exchanged: shoes can be told, and shirts cannot."""
    return rows["image"][:n, :, ::-1]


TUNED: dict[str, Maker] = {
    "normal by class": gaussians, "kernels, 0.05": kernels(0.05, 0.05), "kernels, 0 to 0.01": kernels(0, 0.01),
    "moved": moved, "other real": other_real,
}  # fmt: skip
OTHERS: dict[str, Maker] = {
    "kernels, 0.2": kernels(0.2, 0.2), "components": components, "VAE": vae(1.0), "mirrored": mirrored,
}  # fmt: skip
