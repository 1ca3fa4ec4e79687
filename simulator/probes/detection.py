"""Whether samples can be told from real rows: by their spectrum, by a network, by their nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, Positive, Share
from simulator.pool import Rows, count, take
from simulator.probes.classifier import Network, Rule, check, in_blocks, merged, train
from simulator.probes.features import flat, pictures
from simulator.probes.finite import where_finite, where_number
from simulator.probes.memorisation import distinct, entropy
from simulator.probes.neighbours import nearest
from simulator.probes.spectrum import rings
from simulator.probes.tabular import logistic, with_one
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Detection:
    """How well three detectors tell samples from held-out real rows, on halves of both that none was trained on.

    Each gives a row a score, higher for what it takes for generated:
      spectrum: logistic regression on the log radial power of a picture (Dzanic et al. 2020, arXiv:1911.06465);
      network: the log-odds of a classifier, real or generated, trained as the probe `Downstream` trains one;
      entropy: log ε_R - log ε_G, the distances of a row to the k-th nearest of the real and of the generated rows seen,
      which is, per dimension and up to a constant, the k-NN estimate of its surprisal as a real row, -log p_R, less
      that as a generated one (Kozachenko & Leonenko 1987; Wang, Kulkarni & Verdú 2009, doi:10.1109/TIT.2009.2016060).
    auroc is the chance that a generated row scores above a real one (`auroc`), tpr the share of generated rows found
    where at most a share `fpr` of the real rows is accused (`tpr_at`).  A detector that fails says so: where both kinds
    follow one law, auroc is 1/2 with the standard error `error`, and tpr is about `fpr`.  The gap is the k-NN
    differential entropy of real rows less that of samples, as in `DietEntropy` (copies count once), of as many of each.

    spectrum.auroc | chance that a sample looks more generated than a real row, by spectrum | [0, 1], 0.5 if it fails | lower is better | O(n h w log(h w))
    spectrum.tpr | share of samples found at the false-positive rate `fpr` | [0, 1], `fpr` if it fails | lower is better | as spectrum.auroc
    network.auroc | the same chance by a network | [0, 1], 0.5 if it fails | lower is better | O(steps · batch)
    network.tpr | share of samples found at that rate | [0, 1], `fpr` if it fails | lower is better | as network.auroc
    entropy.auroc | the same chance by nearest neighbours | [0, 1], 0.5 if it fails | lower is better | O(n² d)
    entropy.tpr | share of samples found at that rate | [0, 1], `fpr` if it fails | lower is better | as entropy.auroc
    gap | entropy of real rows less that of samples | nats | neither | O(n² d)
    error | standard error of each auroc where there is nothing to find | [0, 1] | neither | free
    rows | samples judged | rows | neither | free
    reference_rows | real rows judged | rows | neither | free
    """  # noqa: E501

    network: Network
    steps: Count = 300  # optimizer steps
    batch: Count = 64  # rows per step, half of them real on average
    learning_rate: Positive = 3e-3  # falling to 0 along a cosine
    rule: Rule = "adam"  # what is made of gradients; or muon
    augment: bool = False  # shift each image of a batch by up to an eighth of its side
    flips: bool = False  # and mirror every second one
    features: Callable[..., Array] = flat  # where nearest neighbours are sought
    neighbours: Count = 1  # k
    fpr: Share = 0.01  # share of real rows that may be accused

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        # The reference is a constant of the program: the barrier keeps the compiler from computing with it.
        real = jax.lax.optimization_barrier(view.reference)
        return self.of(key, real, view.synthetic, lambda rows: view.embed(self.features, rows))

    def of(self, key: Key, real: Rows, generated: Rows, embed: Callable[[Rows], Array] = flat) -> dict[str, Any]:
        """What the probe reports, of any two sets of rows."""
        shape = jax.eval_shape(pictures, real).shape
        if len(shape) != 4:
            raise GenlossError(f"Detection needs images [n, h, w, c], and rows are {list(shape)}; leave the probe out.")
        if (least := min(count(real), count(generated))) < 2 * self.neighbours + 2:
            raise GenlossError(f"Detection cuts both sets in halves, and one has {least} rows; give it more.")
        for_real, for_generated, for_network = jax.random.split(key, 3)
        known_real, new_real = halves(for_real, real)
        known_generated, new_generated = halves(for_generated, generated)
        known, new = (
            {"image": jnp.concatenate([pictures(a), pictures(b)])}
            for a, b in ((known_real, known_generated), (new_real, new_generated))
        )
        a, b, m = count(known_real), count(known_generated), count(new_real)
        known["label"] = jnp.repeat(jnp.arange(2), np.array([a, b]), total_repeat_length=a + b)  # 1: generated
        weight = jnp.where(known["label"] == 1, (a + b) / (2 * b), (a + b) / (2 * a))  # [a + b]: as much of each
        near = (embed(known_real), embed(known_generated))  # [a, d], [b, d]
        score = {
            "spectrum": by_spectrum(known, weight, new),
            "network": by_network(self, for_network, known, weight, new),
            "entropy": by_neighbours(*near, jnp.concatenate([embed(new_real), embed(new_generated)]), self.neighbours),
        }  # each [m + n]
        found = {
            name: {"auroc": auroc(s[:m], s[m:]), "tpr": tpr_at(s[:m], s[m:], self.fpr)} for name, s in score.items()
        }
        n = count(new_generated)
        gap = _entropy(embed(real)[:least], self.neighbours) - _entropy(embed(generated)[:least], self.neighbours)
        error = ((m + n + 1) / (12 * m * n)) ** 0.5
        found = where_finite({**found, "gap": gap}, real, generated)
        return {**found, "error": error, "rows": n, "reference_rows": m}


def by_spectrum(known: Rows, weight: Array, new: Rows) -> Array:
    """Log-odds [n] that new rows are generated, by log radial power, from known rows whose label 1 says generated."""
    x = radial(known)  # [k, rings]
    mean, spread = x.mean(0), jnp.maximum(x.std(0), 1e-6)  # [rings]
    coef = logistic((x - mean) / spread, known["label"], weight, 2)  # [rings + 1, 2]
    return with_one((radial(new) - mean) / spread) @ (coef[:, 1] - coef[:, 0])


def by_network(plan: Any, key: Key, known: Rows, weight: Array, new: Rows) -> Array:
    """Log-odds [n] that new rows are generated, by a classifier trained by `plan` on known rows."""
    params = train(plan, key, known, weight, pictures, 2)
    network = merged(plan.network, jax.eval_shape(pictures, new).shape[1:], 2, params)
    said = in_blocks(lambda block: network(pictures(block)), new)  # [n, 2]
    return said[:, 1] - said[:, 0]


def by_neighbours(real: Array, generated: Array, new: Array, k: int = 1) -> Array:
    """log ε_R - log ε_G of new rows [n, d], ε the distance to the k-th nearest of real [a, d] and generated [b, d]."""
    tiny = jnp.finfo(jnp.float32).tiny  # of a copy
    log = [jnp.log(jnp.maximum(nearest(new, known, k)[0][:, -1], tiny)) for known in (real, generated)]  # [n] each
    return (log[0] - log[1]) / 2


def radial(rows: Rows) -> Array:
    """log10 of the mean power of each ring of frequencies but 0, of every image, [n, rings]; see `Spectrum`."""
    shape = jax.eval_shape(pictures, rows).shape
    if len(shape) != 4:
        raise GenlossError(f"A spectrum needs images [n, h, w, c], and rows are {list(shape)}; give other features.")
    h, w = shape[1:3]
    ring = rings(h, w)
    member = np.zeros((h, w, len(ring.size)), np.float32)
    member[np.arange(h)[:, None], np.arange(w), ring.place] = 1 / ring.size[ring.place]
    half = w // 2 + 1  # of a real picture's plane the rest is the same again
    member[:, 1 : (w + 1) // 2] *= 2
    mean = jnp.asarray(member[:, :half, 1:].reshape(h * half, -1) / (h * w) ** 2)  # [h (w//2 + 1), rings]

    def power(block: Rows) -> Array:
        wave = jnp.fft.rfft2(pictures(block), axes=(1, 2))  # [b, h, w//2 + 1, c]
        square = (wave.real**2 + wave.imag**2).mean(-1)  # [b, h, w//2 + 1]
        return jnp.matmul(square.reshape(square.shape[0], -1), mean, precision="highest")  # [b, rings]

    return jnp.log10(jnp.maximum(in_blocks(power, rows), 1e-12))  # an even picture has no power but for rounding


def halves(key: Key, rows: Rows) -> tuple[Rows, Rows]:
    """The rows in two parts of equal length (the second has one more of an odd number), by chance."""
    order = jax.random.permutation(key, count(rows))
    middle = count(rows) // 2
    return take(rows, order[:middle]), take(rows, order[middle:])


def auroc(real: Array, generated: Array) -> Array:
    """P(generated > real) + P(generated = real)/2 of scores [m] and [n]: the area under the receiver's curve, [].

    Ties count one half, exactly (Mann & Whitney 1947); NaN where a score is.  Where both follow one continuous law
    its standard error is sqrt((m + n + 1)/(12 m n)).
    """
    ranked = jnp.sort(real)
    below, upto = (jnp.searchsorted(ranked, generated, side=side) for side in ("left", "right"))  # [n] each
    return where_number(((below + upto) / (2 * real.shape[0])).mean(), jnp.concatenate([real, generated]))


def tpr_at(real: Array, generated: Array, fpr: float = 0.01) -> Array:
    """The largest share of generated scores [n] at or above a threshold that at most a share `fpr` of real [m] reach.

    With m real scores the rate is held exactly where it is a multiple of 1/m, and is below it otherwise.
    """
    m = real.shape[0]
    accused = int(np.floor(fpr * m + 1e-6))  # real rows that may be
    share = jnp.ones(()) if accused >= m else (generated > jnp.sort(real)[m - 1 - accused]).mean()
    return where_number(share, jnp.concatenate([real, generated]))


def _entropy(x: Array, k: int) -> Array:
    return entropy(x, distinct(x, jnp.ones(x.shape[0])), k)
