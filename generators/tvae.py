"""A variational autoencoder of tables (TVAE: Xu et al. 2019, arXiv:1907.00503)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from generators.marginals import drawn, even, layout_of, marginals, scores, unscored
from generators.nets.mlp import MLP
from generators.train import Trained
from simulator.checks.fields import Count, NonNegative, Positive
from simulator.numerics.chance import fold_in, normal
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.sources.columns import Columns, Layout
from simulator.types import Array, Key, Params


@dataclass(frozen=True, kw_only=True)
class TVAE(Trained):
    """Maximises E_q log p(x|u) - beta·KL(q(u|x) ‖ N(0, I)) of rows of a table, u of `latent` dimensions.

    Numbers are taken as normal scores, Φ⁻¹ of their weighted share of the diet at `size` quantiles (as in TabDDPM,
    arXiv:2209.15421; Xu et al. normalise by the mode of a mixture instead), and are N(m(u), σ_j²), σ_j learned for each
    column and at least `least`.  Columns of states, the label and whether a number is missing among them, have a
    softmax each; a state that the diet has not is never said.  What is missing counts for nothing.  Xu et al.'s
    factor 2 of the reconstruction is beta 0.5.
    """

    latent: Count = 16  # dimensions of u
    hidden: tuple[Count, ...] = (128, 128)  # widths of encoder and, reversed, decoder
    beta: NonNegative = 0.5  # weight of the KL term
    least: Positive = 0.05  # least σ_j, in normal scores
    size: Count = 200  # quantiles kept of each column
    layout: Layout | None = None  # of the rows; None takes the source's
    learning_rate: Positive = 2e-3  # peak of the cosine schedule

    def shaped(self, rows: Rows) -> TVAE:
        """The same for rows like these."""
        return dataclasses.replace(self, layout=Layout.of(rows)) if self.layout is None else self

    @property
    def still(self) -> tuple[str, ...]:
        return ("at", "shares")

    def init(self, key: Key) -> Params:
        """{"encoder", "decoder": networks, "spread": [c] log σ, "at": [c, size], "shares": [s, K]}."""
        layout = layout_of(self)
        c = len(layout.whole)
        nets = {name: nnx.as_pure(nnx.split(net, nnx.Param)[1]) for name, net in self._nets(key).items()}
        return {**nets, "spread": jnp.zeros(c), "at": jnp.zeros((c, self.size)), "shares": even(layout)}

    def closed_form(self, params: Params, pool: Pool) -> Params:
        at, shares = marginals(layout_of(self), pool, self.size)
        return {**params, "at": at, "shares": shares}

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """Negative evidence lower bounds, [n], nats; of densities of normal scores."""
        z, there, state = self._scored(params, rows)  # [n, c], [n, c], [n, s]
        mean, log_var = self._encoded(params, z, state)  # [n, latent] each
        u = mean + jnp.exp(log_var / 2) * normal(key, mean.shape)  # [n, latent]
        divergence = 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum(-1)  # [n]
        return -self._log_prob(params, u, z, there, state) + self.beta * divergence

    def _log_prob(self, params: Params, u: Array, z: Array, there: Array, state: Array) -> Array:
        """log p(x|u), [n]."""
        centre, logits = self._decoded(params, u)  # [n, c], [n, s, K]
        sigma = self._sigma(params)  # [c]
        each = -0.5 * ((z - centre) / sigma) ** 2 - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)  # [n, c]
        told = jnp.take_along_axis(jax.nn.log_softmax(logits, -1), state[..., None], -1)[..., 0]  # [n, s]
        return (each * there).sum(-1) + told.sum(-1)

    def sample(self, key: Key, params: Params, n: int) -> Rows:
        """Rows as the source serves them."""
        layout = layout_of(self)
        centre, logits = self._decoded(params, normal(fold_in(key, 0), (n, self.latent)))  # [n, c], [n, s, K]
        z = centre + self._sigma(params) * normal(fold_in(key, 1), centre.shape)  # [n, c]
        logits = jnp.where(params["shares"] > 0, logits, -jnp.inf)
        state = drawn(fold_in(key, 2), jax.nn.softmax(logits, -1))  # [n, s]
        return layout.written(unscored(params["at"], z, layout.whole), state)

    def _scored(self, params: Params, rows: Rows) -> Columns:
        """The columns of rows, their numbers as normal scores, 0 where missing."""
        x, there, state = layout_of(self).read(rows)
        return Columns(jnp.where(there, scores(params["at"], x), 0.0), there, state)

    def _encoded(self, params: Params, z: Array, state: Array) -> tuple[Array, Array]:
        """(mean, log variance) of q(u|x), [n, latent] each."""
        seen = jnp.concatenate([z, layout_of(self).flat(layout_of(self).one_of_k(state))], -1)  # [n, c + Σ K]
        mean, log_var = jnp.split(self._merged("encoder", params)(seen), 2, -1)
        return mean, log_var

    def _decoded(self, params: Params, u: Array) -> tuple[Array, Array]:
        """(means of normal scores [n, c], logits of states [n, s, K])."""
        layout = layout_of(self)
        told = self._merged("decoder", params)(u)  # [n, c + Σ K]
        c = len(layout.whole)
        return told[:, :c], layout.padded(told[:, c:], -jnp.inf)

    def _sigma(self, params: Params) -> Array:
        """[c]."""
        return jnp.maximum(jnp.exp(params["spread"]), self.least)

    def _nets(self, key: Key) -> dict[str, MLP]:
        shown, rngs = len(layout_of(self).whole) + sum(layout_of(self).sizes), streams(key)
        encoder = MLP(shown, 2 * self.latent, self.hidden, rngs=rngs)
        return {"encoder": encoder, "decoder": MLP(self.latent, shown, self.hidden[::-1], rngs=rngs)}

    def _merged(self, name: str, params: Params) -> MLP:
        """A network with these parameters."""
        net = nnx.eval_shape(self._nets, jax.random.key(0))[name]
        return nnx.merge(nnx.split(net, nnx.Param)[0], params[name])
