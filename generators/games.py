"""The games that a generator and a critic play: what each makes small of a batch.

A game is told `score`, which gives points or images [m, *shape] their scores [m], where m is a multiple of the n rows
of a batch; high is real.  `critic(key, score, real, fake)` and `generator(score, real, fake)` are losses of the n pairs
of a real row and a fake one, [n].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simulator.checks.fields import NonNegative, check
from simulator.numerics.chance import uniform
from simulator.types import Array, Key

Score = Callable[[Array], Array]


@dataclass(frozen=True)
class Relativistic:
    """Each fake is to look more real than a real row beside it: f(D(x) - D(G(z))) + γ/2·(‖∇D(x)‖² + ‖∇D(G(z))‖²).

    The loss of R3GAN (Huang et al. 2024, arXiv:2501.05441, eq. 2 and section 2.2): f(t) = log(1 + exp(-t)), which
    Jolicoeur-Martineau 2018 (arXiv:1807.00734) pairs so, and zero-centred penalties on real rows, R1, and on fakes, R2,
    with which it converges locally.  The generator's is f(D(G(z)) - D(x)).
    """

    gamma: NonNegative | Array = 1.0  # γ, weight of both penalties

    __post_init__ = check

    def critic(self, key: Key, score: Score, real: Array, fake: Array) -> Array:
        scores, squares = sloped(score, jnp.concatenate([real, fake]))  # [2 n] each
        (of_real, of_fake), (r1, r2) = jnp.split(scores, 2), jnp.split(squares, 2)  # [n] each
        return jax.nn.softplus(of_fake - of_real) + self.gamma / 2 * (r1 + r2)

    def generator(self, score: Score, real: Array, fake: Array) -> Array:
        of_real, of_fake = jnp.split(score(jnp.concatenate([real, fake])), 2)  # [n] each
        return jax.nn.softplus(of_real - of_fake)


@dataclass(frozen=True)
class NonSaturating:
    """-log σ(D(x)) - log(1 - σ(D(G(z)))), and -log σ(D(G(z))) for the generator (Goodfellow et al. 2014,
    arXiv:1406.2661, section 3).

    With γ the critic has γ/2·‖∇D(x)‖² beside it, R1 (Mescheder et al. 2018, arXiv:1801.04406, eq. 9).
    """

    gamma: NonNegative | Array = 0.0  # γ, weight of the penalty on real rows

    __post_init__ = check

    def critic(self, key: Key, score: Score, real: Array, fake: Array) -> Array:
        scores, squares = sloped(score, real)  # [n] each
        return jax.nn.softplus(-scores) + jax.nn.softplus(score(fake)) + self.gamma / 2 * squares

    def generator(self, score: Score, real: Array, fake: Array) -> Array:
        return jax.nn.softplus(-score(fake))


@dataclass(frozen=True)
class Wasserstein:
    """D(G(z)) - D(x) + λ·(‖∇D(x̂)‖ - 1)², and -D(G(z)) for the generator: WGAN-GP (Gulrajani et al. 2017,
    arXiv:1704.00028, algorithm 1).

    x̂ = u·x + (1 - u)·G(z), u uniform on [0, 1] for each pair.  Without the penalty a critic's loss is minus a bound
    below its Lipschitz constant times W1; theirs takes five steps to one of the generator (`critic_steps`).
    """

    penalty: NonNegative | Array = 10.0  # λ

    __post_init__ = check

    def critic(self, key: Key, score: Score, real: Array, fake: Array) -> Array:
        n = len(real)
        u = uniform(key, (n, *[1] * (real.ndim - 1)))  # [n, 1..]
        squares = sloped(score, u * real + (1 - u) * fake)[1]  # [n]
        # A critic that is flat at a point has no direction to grow steeper in there: a gradient of 0, not NaN.
        norm = jnp.sqrt(jnp.maximum(squares, 1e-12))  # [n]
        of_real, of_fake = jnp.split(score(jnp.concatenate([real, fake])), 2)  # [n] each
        return of_fake - of_real + self.penalty * (norm - 1) ** 2

    def generator(self, score: Score, real: Array, fake: Array) -> Array:
        return -score(fake)


def sloped(score: Score, x: Array) -> tuple[Array, Array]:
    """(scores [m], ‖∇D‖² [m]) of rows x [m, *shape], each of which is scored by itself."""
    scores, back = jax.vjp(score, x)
    (slopes,) = back(jnp.ones_like(scores))  # [m, *shape]
    return scores, jnp.square(slopes).reshape(len(x), -1).sum(-1)
