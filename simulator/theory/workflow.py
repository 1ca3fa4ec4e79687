"""What any recipe does to the fitted mean: the law of linear workflows, computed from the recipe itself.

A linear fit is an average of what its rows say, θ_t = Σ_j w_{t,j} (θ_{parent(j)} + ε_j): row j is its writer's
parameter (for a real row the truth, 0) plus its own noise.  So θ_t is a linear function of the noise of all rows, and
following its coefficients A_t gives its variance under every recipe that does not look at what is in the rows.

A recipe that draws rows at random is averaged over `draws` seeds; one seed is exact for those that do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import EMPTY, REAL, SYNTHETIC, Pool, Rows
from simulator.theory.gaussian import Values
from simulator.types import Array, GenlossError, Key

if TYPE_CHECKING:
    from simulator.chain import Chain

TRUTH = -1  # the parent of a real row


def linear_workflow(shares: Values, parents: Values | None = None) -> Values:
    """Var(θ_t) over the variance of one ε, t = 1..T: ‖A_t‖² with A_t = Σ_j w_{t,j} (A_{parent(j)} + e_j) (derived).

    `shares` [T, sources] are the w_{t,j}; rows sum to 1.  `parents` [sources] says which fit (0..T-1, or -1 for the
    truth) wrote source j; by default source j is the data set written by fit j - 1, and if each holds n rows of noise
    σ the result is n·Var(θ_t)/σ².
    """
    shares = np.asarray(shares, np.float64)
    parents = np.arange(shares.shape[1]) - 1 if parents is None else np.asarray(parents)
    return (_influence(shares, parents) ** 2).sum(1)


def _influence(shares: Values, parents: Values) -> Values:
    """A_t [T, sources]: how much of each ε is in θ_t."""
    synthetic = parents != TRUTH  # [sources]
    influence = np.zeros_like(shares)
    for t, share in enumerate(shares):
        on = np.bincount(parents[synthetic], share[synthetic], minlength=len(shares))  # [T]: share on each writer
        influence[t] = share + on @ influence  # writers come before t: later rows of `influence` are still 0
    return influence


def diets(chain: Chain, generations: int, draws: int = 1) -> tuple[Values, Values]:
    """(weight [draws, T, rows], parents [rows]): how much every row a chain ever sees counts at each fit, and who wrote
    it, by the chain's own recipe under `draws` keys.

    Parents are fits 0..T-1, or -1 for real rows.  Raises `GenlossError` where the recipe reads the rows, since then
    its weights are not known without them.
    """
    block = np.concatenate([np.full(chain.fresh, REAL), np.full(chain.rows, SYNTHETIC)])  # [block]
    origin = np.concatenate([np.full(chain.real, REAL), np.tile(block, generations)])  # [rows]
    birth = np.concatenate([np.zeros(chain.real), np.repeat(np.arange(generations), len(block))])  # [rows]
    # The slots of fresh rows at generation 0 stay empty: that fit eats the chain's own real rows.
    keep = (birth > 0) | (origin != REAL) | (np.arange(len(birth)) < chain.real)
    origin, birth = origin[keep].astype(np.int32), birth[keep].astype(np.int32)
    example = jax.eval_shape(lambda: chain.source.draw(jax.random.key(0), len(birth)))

    def weigh(key: Key, t: Array, rows: Rows) -> Array:
        seen = birth + (origin != REAL) <= t  # [rows]: real rows of t are there for fit t, synthetic ones for fit t + 1
        pool = Pool(rows, jnp.where(seen, origin, REAL), jnp.where(seen, birth, EMPTY), seen.astype(jnp.float32))
        return pool.weighed(chain.recipe(jax.random.fold_in(key, t), t, pool)).weight

    traced = jax.make_jaxpr(weigh)(jax.random.key(0), jnp.int32(0), example).jaxpr
    read = {id(variable) for equation in traced.eqns for variable in equation.invars}
    if any(id(variable) in read for variable in traced.invars[2:]):
        raise GenlossError(f"{chain.recipe} looks at the rows, and no law is known for it; simulate the chain instead.")
    blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), example)

    @jax.jit
    def every(keys: Key) -> Array:
        ts = jnp.arange(generations)
        return jax.lax.map(lambda key: jax.lax.map(lambda t: weigh(key, t, blank), ts), keys)

    weight = np.asarray(every(jax.random.split(jax.random.key(0), draws)))  # [draws, T, rows]
    if not weight.sum(-1).all():
        raise GenlossError("The recipe leaves nothing to eat at some generation; loosen it.")
    return weight, np.where(origin == REAL, TRUTH, birth)


def workflow_error(chain: Chain, generations: int, draws: int = 16) -> Values:
    """E‖θ_t - truth‖²/(dσ²), t = 1..generations, of a chain whose rows all have noise σ: the overlay of any recipe.

    For linear regression with d features and noise σ this times dσ² is the excess risk for n >> d (relative order
    d/n); for a mean of rows with a known variance σ² it is exact.
    """
    weights, parents = diets(chain, generations, draws)
    return np.mean([linear_workflow(_normed(weight), parents) for weight in weights], axis=0)


def workflow_gaussian(
    chain: Chain, generations: int, bias: float = 1.0, ddof: int = 0, draws: int = 16
) -> tuple[Values, Values]:
    """(E[S_t], V_t) of a Gaussian chain, per coordinate of a standard normal truth, exact at every n (derived).

    The ε of a synthetic row has the variance λS of its writer: V_t = Σ_j A_{t,j}² λE[S_{parent(j)}] (1 for real rows),
    and with W the weight of the diet E[S_t] = W/(W - ddof)·(Σ_j w_{t,j}(V + λE[S])_{parent(j)} - V_t).  It contains
    `replace_variance`, `accumulate_variance`, `subsample_variance` and `fresh_share`.
    """
    weights, parents = diets(chain, generations, draws)
    found = []
    for weight in weights:
        total, shares = weight.sum(1), _normed(weight)  # [T], [T, rows]
        influence = _influence(shares, parents)
        variance, error = np.ones(generations + 1), np.zeros(generations + 1)  # the last one, index -1, is the truth's
        for t in range(generations):
            noise = np.where(parents == TRUTH, 1.0, bias * variance[parents])  # [rows]
            error[t] = influence[t] ** 2 @ noise
            spread = shares[t] @ (error[parents] + noise) - error[t]
            variance[t] = spread * total[t] / (total[t] - ddof)
        found.append((variance[:-1], error[:-1]))
    variance, error = np.mean(found, axis=0)
    return variance, error


def _normed(weight: Values) -> Values:
    """Shares of each diet [T, rows], float64."""
    weight = weight.astype(np.float64)
    return weight / weight.sum(1, keepdims=True)
