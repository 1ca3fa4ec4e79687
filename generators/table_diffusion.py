"""Diffusion of tables: Gaussian for numbers and multinomial for categories (TabDDPM, arXiv:2209.15421)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from generators.marginals import drawn, even, layout_of, marginals, scores, unscored
from generators.multinomial import divergence, noised, posterior
from generators.nets.denoiser import Denoiser
from generators.noise import Noise
from generators.steps import Steps, step, target
from generators.train import Trained
from simulator.checks.fields import BelowOne, Count, Positive
from simulator.numerics.chance import fold_in, normal, uniform
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.sources.columns import Layout
from simulator.types import Array, Key, Params


@dataclass(frozen=True, kw_only=True)
class TableDiffusion(Trained):
    """Minimises ‖told - target‖²/c + T Σ_j KL(q(x_{t-1}|x_t, x_0) ‖ p(x_{t-1}|x_t))/s over rows of a table of c numbers
    and s columns j of states (Kotelnikov et al. 2022, arXiv:2209.15421; Hoogeboom et al. 2021, arXiv:2102.05379).

    One network sees all columns at one time t of the schedule: numbers as normal scores, Φ⁻¹ of their weighted share
    of the diet at `size` quantiles; states one of K, each still what it was with the schedule's probability ᾱ_t, else
    any.  Sampling takes `sample_steps` of the schedule's steps; between two of them a state is drawn by its posterior,
    and one that the diet has not is never said.  Labels are states like others (theirs are given to the network
    instead), and so is whether a number is missing, which then counts for nothing.
    """

    network: Callable[..., Any] = partial(Denoiser, width=128, depth=2)
    # By itself each number is a standard normal, and the noise of a step that keeps it one is β, not the posterior's.
    noise: Noise = Noise(beta_schedule="squaredcos_cap_v2", variance_type="fixed_large")
    size: Count = 200  # quantiles kept of each column
    layout: Layout | None = None  # of the rows; None takes the source's
    learning_rate: Positive = 2e-3  # peak of the cosine schedule
    average: BelowOne = 0.995  # decay of the moving average of weights that is sampled from
    sample_steps: Count = 50  # of the sampler

    def __post_init__(self) -> None:
        super().__post_init__()
        self.noise.steps(self.sample_steps)

    def shaped(self, rows: Rows) -> TableDiffusion:
        """The same for rows like these."""
        return dataclasses.replace(self, layout=Layout.of(rows)) if self.layout is None else self

    @property
    def still(self) -> tuple[str, ...]:
        return ("at", "shares")

    def init(self, key: Key) -> Params:
        """{"net": the network, "at": [c, size] quantiles, "shares": [s, K] of the diet's states}."""
        net = nnx.as_pure(nnx.split(self._net(key), nnx.Param)[1])
        return {"net": net, "at": jnp.zeros((self._numbers, self.size)), "shares": self._even}

    def closed_form(self, params: Params, pool: Pool) -> Params:
        at, shares = marginals(layout_of(self), pool, self.size)
        return {**params, "at": at, "shares": shares}

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """[n]: squared errors of numbers, and nats of states."""
        layout, noise = layout_of(self), self.noise
        x, there, state = layout.read(rows)  # [n, c], [n, c], [n, s]
        z, one = jnp.where(there, scores(params["at"], x), 0.0), layout.one_of_k(state)  # [n, c], [n, s, K]
        n = len(z)
        t, a, s = noise.at((uniform(fold_in(key, 0), ()) + jnp.arange(n) / n) % 1)  # [n] each, spread evenly
        eps = normal(fold_in(key, 1), z.shape)  # [n, c]
        a, s = a[:, None], s[:, None]
        kept, before = (
            jnp.asarray(table, jnp.float32)[t.astype(jnp.int32)][:, None, None]
            for table in (noise.alphas_cumprod, np.append(1.0, noise.alphas_cumprod[:-1]))
        )  # [n, 1, 1]: ᾱ_t and ᾱ_{t-1}
        xt = layout.one_of_k(drawn(fold_in(key, 2), noised(one, kept, self._even)))  # [n, s, K]
        told, logits = self._told(self._merged(params), a * z + s * eps, xt, t)  # [n, c], [n, s, K]
        square = jnp.square(told - target(noise.prediction_type, z, eps, a, s)) * there  # [n, c]
        said = jax.nn.softmax(logits, -1)
        apart = divergence(
            posterior(xt, one, kept, before, self._even), posterior(xt, said, kept, before, self._even)
        )  # [n, s]
        states = noise.num_train_timesteps * apart.sum(-1) / max(len(layout.sizes), 1)
        return square.sum(-1) / max(self._numbers, 1) + states

    def sample(self, key: Key, params: Params, n: int) -> Rows:
        """Rows as the source serves them."""
        layout, net = layout_of(self), self._merged(params)
        plan, _ = self.noise.steps(self.sample_steps)
        then = np.append(plan.a[1:] ** 2, 1.0).astype(np.float32)  # [steps]: ᾱ where each step ends

        def one(carry: tuple[Array, Array], now: tuple[Array, Steps, Array]) -> tuple[tuple[Array, Array], None]:
            (x, state), (i, c, then) = carry, now
            own = fold_in(key, i)
            told, logits = self._told(net, x, layout.one_of_k(state), jnp.full(n, c.t))
            x, _ = step(self.noise, c, told, x, normal(fold_in(own, 0), x.shape))
            said = jax.nn.softmax(jnp.where(params["shares"] > 0, logits, -jnp.inf), -1)  # [n, s, K]
            found = posterior(layout.one_of_k(state), said, c.a**2, then, self._even)
            return (x, drawn(fold_in(own, 1), found)), None

        x = normal(fold_in(fold_in(key, 0), 0), (n, self._numbers))
        state = drawn(fold_in(fold_in(key, 0), 1), jnp.broadcast_to(self._even, (n, *self._even.shape)))  # [n, s]
        steps = (jnp.arange(1, len(then) + 1), jax.tree.map(jnp.asarray, plan), jnp.asarray(then))  # leaves [steps]
        (x, state), _ = jax.lax.scan(one, (x, state), steps)
        return layout.written(unscored(params["at"], x, layout.whole), state)

    def _told(self, net: Any, x: Array, one: Array, t: Array) -> tuple[Array, Array]:
        """What the network tells of x [n, c] and states [n, s, K] at times [n]: (of x, logits of the x_0 of states)."""
        c = self._numbers
        told = net(jnp.concatenate([x, layout_of(self).flat(one)], -1), t)  # [n, c + Σ K]
        return told[:, :c], layout_of(self).padded(told[:, c:], -jnp.inf)

    @property
    def _even(self) -> Array:
        """[s, K]."""
        return even(layout_of(self))

    @property
    def _numbers(self) -> int:
        """c."""
        return len(layout_of(self).whole)

    def _net(self, key: Key) -> Any:
        return self.network((self._numbers + sum(layout_of(self).sizes),), None, dtype=jnp.float32, rngs=streams(key))

    def _merged(self, params: Params) -> Any:
        """The network with these parameters."""
        return nnx.merge(nnx.split(nnx.eval_shape(self._net, jax.random.key(0)), nnx.Param)[0], params["net"])
