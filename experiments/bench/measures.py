"""Each measure against the library that people use for it, in one run: `python -m experiments.bench measures`.

The libraries are those of the `test` extra; torchmetrics is timed where it is there (extra `torch`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, seconds, table
from generators import Ngram
from simulator import Pool, View
from simulator.probes import Compression
from simulator.probes.diversity import _directions, _gram, vendi
from simulator.probes.fidelity import cubic, energy, frechet, mmd
from simulator.probes.neighbours import manifold, nearest
from simulator.probes.points import directions, matched, sliced
from simulator.probes.spectrum import Spectrum, rings
from simulator.probes.tabular import logistic, regressed
from simulator.probes.text import ngrams, overlap

D, K = 64, 5
Job = tuple[str, Callable[..., Any], tuple[Any, ...], str, Callable[[], Any] | None]


def main() -> None:
    sizes = (1000, 10_000) if jax.default_backend() == "cpu" else (1000, 10_000, 50_000)
    rows: dict[
        tuple[str, str], dict[int, tuple[float, float | None]]
    ] = {}  # (measure, library) -> n -> seconds of both
    for n in sizes:
        for name, ours, arguments, library, theirs in jobs(n):
            program = jax.jit(ours).lower(*arguments).compile()
            mine, other = seconds(lambda program=program, arguments=arguments: program(*arguments)), None
            if theirs is not None:
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    other = _once_or_more(theirs)
            rows.setdefault((name, library), {})[n] = mine, other
            say(f"n = {n:,}: {name}, {1e3 * mine:.1f} ms", "" if other is None else f"({1e3 * other:.1f})")
    columns = ("measure", "library", *(f"times faster, n = {n:,}" for n in sizes), f"ours, ms, n = {sizes[-1]:,}")
    found = table(f"two sets of n rows of {D} features", *columns)
    for (name, library), at in rows.items():
        ratios = [f"{theirs / ours:.1f}" if theirs else "" for ours, theirs in (at.get(n, (1.0, None)) for n in sizes)]
        found.add_row(name, library, *ratios, f"{1e3 * at[sizes[-1]][0]:.1f}" if sizes[-1] in at else "")
    say(found)
    share_of_a_generation()


def _once_or_more(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    first = time.perf_counter() - started
    return first if first > 3 else min(first, seconds(work))


def jobs(n: int) -> list[Job]:
    """(measure, ours, its arguments, library, the same by it) for two sets of n rows."""
    import ot
    import scipy.linalg
    from prdc import compute_prdc
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import NearestNeighbors

    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(2, n, D)).astype(np.float32)
    wide_x, wide_y = x.astype(float), y.astype(float)
    a, b = jnp.asarray(x), jnp.asarray(y)
    lines = directions(jax.random.key(0), 100, D)  # [100, D]
    images = chance.integers(0, 256, (n, 28, 28, 1)).astype(np.float32) / 255
    where = rings(28, 28)
    tokens = chance.zipf(1.5, (n, D)).clip(1, 100).astype(np.int32) - 1  # [n, D]
    label = chance.integers(0, 3, n)
    apart = x[:, :10] + 1.5 * np.eye(10, dtype=np.float32)[label]
    target, weight = x[:, :10].sum(1) + y[:, 0], np.ones(n, np.float32)

    def sqrtm() -> Any:
        c, e = np.cov(wide_x.T), np.cov(wide_y.T)
        return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + e - 2 * np.real(scipy.linalg.sqrtm(c @ e)))

    def euclidean() -> Any:
        mean = lambda p, q: np.asarray(ot.dist(p, q, metric="euclidean")).mean()  # noqa: E731
        return 2 * mean(x, y) - mean(x, x) - mean(y, y)

    def power() -> Any:
        mean = (np.abs(np.fft.fft2(images, axes=(1, 2))) ** 2).mean((0, 3))  # [28, 28]
        return np.bincount(where.place.ravel(), mean.ravel()) / where.size

    def cubes() -> Any:
        return [((p @ q.T / D + 1) ** 3).mean() for p, q in ((x, x), (y, y), (x, y))]

    def bleu() -> Any:
        import sacrebleu

        said = [" ".join(map(str, row)) for row in tokens[:50].tolist()]
        metric = sacrebleu.BLEU(smooth_method="floor", tokenize="none", effective_order=True)
        return [metric.sentence_score(text, said[:i] + said[i + 1 :]) for i, text in enumerate(said)]

    view = View(jnp.int32(0), None, Pool.of(a), jnp.asarray(tokens), jnp.asarray(tokens[:10]), Ngram(100))
    squeeze = lambda rows: Compression(100)(jax.random.key(0), view._replace(synthetic=rows))  # noqa: E731
    self_bleu = lambda rows: overlap(ngrams(rows, 100, 4), rows.shape[1])["self_bleu"]  # noqa: E731
    found: list[Job] = [
        ("precision, recall, density, coverage", partial(manifold, k=K), (a, b), "prdc", lambda: compute_prdc(x, y, K)),
        ("nearest neighbours", lambda p, q: nearest(p, q, K), (a, b), "scikit-learn", lambda: NearestNeighbors(
            n_neighbors=K, algorithm="brute").fit(y).kneighbors(x)),
        ("Fréchet distance", frechet, (a, b), "scipy sqrtm", sqrtm),
        ("kernel distance and its error", partial(mmd, cubic), (a, b), "NumPy, without the error", cubes),
        ("energy distance", energy, (a, b), "POT", euclidean),
        ("sliced Wasserstein, 100 directions", sliced, (a, b, lines), "POT", lambda: ot.sliced_wasserstein_distance(
            wide_x, wide_y, projections=np.asarray(lines, float).T, p=2)),
        ("radial spectrum, 28 x 28", lambda z: Spectrum().power(z, where), (jnp.asarray(images),), "NumPy fft2", power),
        ("self-BLEU", self_bleu, (jnp.asarray(tokens),), "", None),
        ("self-BLEU of 50 rows", self_bleu, (jnp.asarray(tokens[:50]),), "sacrebleu", bleu),
        ("compression ratio", squeeze, (jnp.asarray(tokens),), "zlib", lambda: zlib.compress(
            tokens.astype(np.uint8).tobytes())),
        ("ridge regression", lambda p, q, w: regressed(p, q, w, jnp.float32(1.0)), (x[:, :10], target, weight),
         "scikit-learn", lambda: Ridge(1.0).fit(x[:, :10], target)),
        ("logistic regression", lambda p, q, w: logistic(p, q, w, 3), (apart, label, weight), "scikit-learn",
         lambda: LogisticRegression().fit(apart, label)),
    ]  # fmt: skip
    if n <= 1000:
        distance = lambda: ot.emd2([], [], ot.dist(wide_x, wide_y))  # noqa: E731
        found.append(("exact Wasserstein", matched, (a, b), "POT", distance))
    if importlib.util.find_spec("vendi_score"):
        from vendi_score import vendi as library

        found.append(("Vendi score", lambda z: vendi(_gram(_directions(z))), (a,), "vendi-score", lambda: (
            library.score_dual(x))))  # fmt: skip
    if importlib.util.find_spec("torchmetrics"):
        found += _torchmetrics(x, y, a, b)
    return found


def _torchmetrics(x: np.ndarray, y: np.ndarray, a: Any, b: Any) -> list[Job]:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    class Given(torch.nn.Module):
        num_features = D

        def forward(self, rows: Any) -> Any:
            return rows.reshape(rows.shape[0], -1).float()

    def measured(metric: Any) -> Any:
        for rows, real in ((x, True), (y, False)):
            metric.update(torch.from_numpy(rows).reshape(-1, 1, 8, 8), real=real)
        return metric.compute()

    kernel = lambda: measured(KernelInceptionDistance(Given(), subsets=1, subset_size=len(x)))  # noqa: E731
    plain = lambda: measured(FrechetInceptionDistance(Given(), input_img_size=(1, 8, 8)))  # noqa: E731
    return [
        ("Fréchet distance", frechet, (a, b), "torchmetrics", plain),
        ("kernel distance and its error", partial(mmd, cubic), (a, b), "torchmetrics", kernel),
    ]


def share_of_a_generation() -> None:
    """What the digits experiment's set of probes costs of one of its generations."""
    from experiments.images import digits as experiment
    from simulator import Progress, run

    parts: list[dict[str, float]] = []

    def note(progress: Progress) -> None:
        if progress.seconds:
            parts.append(progress.seconds)

    run(experiment.sweep, jax.random.key(0), 4, replicates=experiment.replicates, report=note)
    later = {name: float(np.mean([p[name] for p in parts[1:]])) for name in parts[0]}
    share = later["measure"] / sum(later.values())
    say(f"the probes of digits cost {later['measure']:.2f} s, {share:.1%} of a generation")
