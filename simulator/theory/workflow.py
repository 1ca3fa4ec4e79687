"""What any recipe does to fitted means and variances: the law of linear workflows, computed from the recipe itself.

A linear fit is an average of what its rows say, θ_t = Σ_j w_{t,j} (θ_{parent(j)} + ε_j): row j is its writer's
parameter (for a real row the truth, 0) plus its own noise.  So θ_t is a linear function of the noise of all rows, and
following its covariances gives its variance under every recipe that does not look at what is in the rows.

Rows of one data set are exchangeable, so it is enough to follow data sets: how much of each a fit eats, and how that
mass lies on its rows.  A recipe that draws rows at random draws anew at every fit, and then only the moments of one
draw matter; they are exact where the numbers of rows drawn from each data set are fixed, or where the last step is a
uniform `Subsample`, and are averaged over draws of the recipe otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Pool
from simulator.recipe import Accumulate, Select, Subsample, Then
from simulator.schedule import at
from simulator.theory.gaussian import Values
from simulator.types import Array, GenlossError, Key, Recipe, Rows, State

if TYPE_CHECKING:
    from simulator.chain import Chain

TRUTH = -1  # the parent of a real row
WORK = 100_000_000  # rows x fits (or data sets² x fits / 10) beyond which no law is computed: some seconds
DRAWN = 2_000_000  # rows x fits for a recipe that draws rows, which is a sort


def linear_workflow(shares: Values, parents: Values | None = None) -> Values:
    """Var(θ_t) over the variance of one ε, t = 1..T: ‖A_t‖² with A_t = Σ_j w_{t,j} (A_{parent(j)} + e_j) (derived).

    `shares` [T, sources] are the w_{t,j}; rows sum to 1.  `parents` [sources] says which fit (0..T-1, or -1 for the
    truth) wrote source j; by default source j is the data set written by fit j - 1, and if each holds n rows of noise
    σ the result is n·Var(θ_t)/σ².
    """
    shares = np.asarray(shares, np.float64)
    parents = np.arange(shares.shape[1]) - 1 if parents is None else np.asarray(parents)
    synthetic = parents != TRUTH  # [sources]
    influence = np.zeros_like(shares)  # A_t [T, sources]: how much of each ε is in θ_t
    for t, share in enumerate(shares):
        on = np.bincount(parents[synthetic], share[synthetic], minlength=len(shares))  # [T]: share on each writer
        influence[t] = share + on @ influence  # writers come before t: later rows of `influence` are still 0
    return (influence**2).sum(1)


class Portions(NamedTuple):
    """What each of T fits eats of the data sets that a chain ever sees, under one or several draws of its recipe."""

    share: Values  # [draws, T, sources]: share of the diet's mass
    square: Values  # [draws, T, sources]: Σ over rows of their squared share
    eaten: Values  # [draws, T, sources]: rows of weight above 0
    mass: Values  # [draws, T]: the weight of the diet, in rows
    parents: Values  # [sources]: the fit that wrote the data set; -1 for real rows
    births: Values  # [sources]: the generation it was born in
    held: Values  # [sources]: rows of the data set
    each: Values  # [sources]: rows that a row stands for; 1 but for cohorts
    drawn_from: (
        Values  # [T]: where rows are drawn uniformly, `share` is expected and this the rows to draw from; else 0
    )

    @property
    def draws(self) -> int:
        return self.share.shape[0]


def seen_through(model: Any) -> tuple[Any, int]:
    """(the generator, rows each of its rows stands for): a `Cohort` of n rows is the sufficient statistic of them."""
    return (model.generator, int(model.n)) if type(model).__name__ == "Cohort" else (model, 1)


def plain(recipe: Recipe) -> Recipe:
    """The recipe with every `Select` replaced by what it selects."""
    if isinstance(recipe, Select):
        return plain(recipe.recipes[int(recipe.index)])
    return Then(*map(plain, recipe.recipes)) if isinstance(recipe, Then) else recipe


def portions(chain: Chain, generations: int, draws: int | None = None) -> Portions:
    """What every fit of the chain eats, by the chain's own recipe, under `draws` keys (by default one where they make
    no difference, else as many as take some seconds).

    Raises `GenlossError` where there is no law: the recipe reads the rows, so that its weights are not known without
    them, or tells rows of one data set apart by their place; and where the work would be too large.
    """
    recipe = plain(chain.recipe)
    uniform = _without_subsample(recipe)
    if uniform is not None and draws is None:
        before, size = uniform
        found = _weighed(chain, before, generations, 1)
        if (subsampled := _subsampled(found, size)) is not None:
            return subsampled
    return _weighed(chain, recipe, generations, draws)


def _without_subsample(recipe: Recipe) -> tuple[Recipe, Any] | None:
    """(the recipe before a last `Subsample`, its size)."""
    *steps, last = recipe.recipes if isinstance(recipe, Then) and recipe.recipes else (recipe,)
    return (Then(*steps) if steps else Accumulate(), last.size) if isinstance(last, Subsample) else None


def _subsampled(found: Portions, size: Any) -> Portions | None:
    """The portions of a uniform draw of `size` rows, where all rows weigh the same and none of them was drawn.

    A row is drawn with probability k/N, a pair of rows with k(k-1)/(N(N-1)).
    """
    eaten = found.eaten[0]  # [T, sources]
    total = eaten.sum(-1)  # [T]: N
    same = np.allclose(found.share[0], eaten / total[:, None]) and len(set(found.each)) == 1
    if found.draws > 1 or not same or not ((eaten == 0) | (eaten == found.held)).all():
        return None
    wanted = np.array([float(jnp.round(at(size, t))) for t in range(len(total))])
    k = np.minimum(wanted, total)  # [T]
    share = found.share[0]
    return found._replace(
        square=(share / k[:, None])[None],
        eaten=(share * k[:, None])[None],
        mass=(k * found.each[0])[None],
        drawn_from=total,
    )


def _weighed(chain: Chain, recipe: Recipe, generations: int, draws: int | None) -> Portions:
    chain = dataclasses.replace(chain, recipe=recipe)
    capacity = chain.capacity(generations)
    rows = jax.eval_shape(lambda: chain.source.draw(jax.random.key(0), capacity))
    random, reads_rows = _reads(recipe, rows, capacity)
    if reads_rows:
        raise GenlossError(f"{_named(recipe)} looks at the rows, and no law is known for what it chooses.")
    if (work := generations * capacity) > (DRAWN if random else WORK):
        raise GenlossError(f"A law for {generations} fits on up to {capacity:,} rows takes too long to compute.")
    fresh = jnp.zeros(chain.fresh) if chain.fresh else None
    sources = 2 * generations  # real rows by birth, then synthetic ones

    def fit(state: State, key: Key) -> tuple[State, Array]:
        state = chain.take_in(state, fresh)
        pool = state.pool.weighed(jnp.ones(capacity))
        blank = jax.tree.map(
            lambda a: jnp.zeros(a.shape, a.dtype), rows
        )  # of the right shapes; no weight depends on it
        weight = pool.weighed(recipe(key, state.t, pool.replace(rows=blank))).weight  # [capacity]
        source = jnp.where(pool.filled, pool.birth + pool.synthetic * generations, sources)
        parts = jnp.stack([weight, weight**2, weight > 0], 1)  # [capacity, 3]
        sums = jax.ops.segment_sum(parts, source, sources + 1)[:sources]  # [sources, 3]
        return chain.remember(state, None, jnp.zeros(chain.rows)), sums

    @jax.jit
    def once(key: Key) -> Array:
        state = State(jnp.int32(0), None, Pool.of(jnp.zeros(chain.real), capacity), key)
        return jax.lax.scan(fit, state, jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(generations)))[1]

    def several(n: int) -> Portions:
        keys = jax.random.split(jax.random.key(0), n)
        found = np.stack([np.asarray(once(key), np.float64) for key in keys])  # [draws, T, sources, 3]
        return _portions(chain, found, generations, random)

    found = several(draws or (2 if random else 1))
    if found.draws == 1 or draws:
        return found
    return several(int(np.clip(DRAWN // (2 * work), 4, 400)))


def _named(recipe: Recipe) -> str:
    return getattr(recipe, "__name__", type(recipe).__name__)


def _reads(recipe: Recipe, rows: Rows, capacity: int) -> tuple[bool, bool]:
    """Whether the weights depend on the recipe's key, and whether they depend on what is in the rows."""

    def weigh(key: Key, rows: Rows, t: Array, tags: Array) -> Array:
        return recipe(key, t, Pool(rows, tags, tags, tags.astype(jnp.float32)))

    traced = jax.make_jaxpr(weigh)(jax.random.key(0), rows, jnp.int32(0), jnp.zeros(capacity, jnp.int32)).jaxpr

    def reach_the_weights(variables: Sequence[Any]) -> bool:
        reached = set(map(id, variables))
        for equation in traced.eqns:
            if any(id(variable) in reached for variable in equation.invars):
                reached |= set(map(id, equation.outvars))
        return any(id(variable) in reached for variable in traced.outvars)

    return reach_the_weights(traced.invars[:1]), reach_the_weights(traced.invars[1:-2])


def _portions(chain: Chain, found: Values, generations: int, random: bool) -> Portions:
    """From sums [draws, T, sources, 3] of weights, of their squares, and of rows that weigh something."""
    parents = np.concatenate([np.full(generations, TRUTH), np.arange(generations)])
    births = np.tile(np.arange(generations), 2)
    held = np.concatenate([[chain.real], np.full(generations - 1, chain.fresh), np.full(generations, chain.rows)])
    of_real, of_synthetic = seen_through(getattr(chain.source, "generator", None))[1], seen_through(chain.generator)[1]
    each = np.where(parents == TRUTH, of_real, of_synthetic)  # [sources]
    ever = found[..., 0].any((0, 1))  # [sources]: eaten at some fit
    weight, square, eaten = np.moveaxis(found[:, :, ever], -1, 0)  # [draws, T, sources] each
    parents, births, held, each = parents[ever], births[ever], held[ever], each[ever]
    if not random and not np.allclose(weight**2, held * square, rtol=1e-3):
        raise GenlossError(f"{_named(chain.recipe)} tells rows of one data set apart, and no law is known for that.")
    mass = (weight * each).sum(-1)  # [draws, T]
    if not mass.all():
        raise GenlossError("The recipe leaves nothing to eat at some generation; loosen it.")
    share, square = weight * each / mass[..., None], square * (each / mass[..., None]) ** 2
    if random and np.array_equal(eaten, np.broadcast_to(eaten[:1], eaten.shape)) and np.allclose(share, share[:1]):
        share, square, eaten, mass = share[:1], square[:1], eaten[:1], mass[:1]  # which rows does not matter
    return Portions(share, square, eaten, mass, parents, births, held, each, np.zeros(generations))


def follow(
    found: Portions, real: float = 1.0, synthetic: float = 0.0, bias: float = 1.0, ddof: int = 0
) -> tuple[Values, Values]:
    """(E[S_t], V_t) where real rows have the variance `real` about the truth and those that fit s wrote the variance
    `synthetic` + `bias`·S_s about m_s; exact at every n (derived).

    With row j = m_{parent(j)} + ε_j two different rows covary by C_{parents} and by what each ε is in the other's
    parent, D_g,s = Cov(ε_g, m_s), so that, E over draws of the recipe, V_t = Σ_{j≠k} w_j w_k Cov(row_j, row_k) +
    Σ_j w_j² Var(row_j); C_{t,s} and D_{g,t} are averages of earlier ones; and with W the weight of the diet
    E[S_t] = W/(W - ddof)·(Σ_j w_j E[row_j²] - V_t).
    """
    _, fits, sources = found.share.shape
    if fits * sources * (found.share > 0).sum(-1).max() > 10 * WORK:
        raise GenlossError(f"A law for {fits} fits on {sources} data sets takes too long to compute.")
    covariance = np.zeros((fits + 1, fits + 1))  # C; the last row and column, index -1, are the truth's
    shared = np.zeros((sources, fits + 1))  # D
    variance = np.zeros(fits + 1)
    for t in range(fits):
        on = np.flatnonzero(found.share[:, t].any(0))  # [eaten sources]
        parents, each = found.parents[on], found.each[on]
        share, square = found.share[:, t, on], found.square[:, t, on]  # [draws, eaten sources]
        mean = share.mean(0)  # [eaten sources]
        noise = np.where(parents == TRUTH, real, synthetic + bias * variance[parents])  # [eaten sources]: of one row
        shared[:, t] = shared[:, parents] @ mean
        shared[on, t] += mean * noise / (each * found.held[on])
        covariance[t, :t] = mean @ (covariance[parents, :t] + shared[on, :t])
        covariance[:t, t] = covariance[t, :t]
        across = shared[np.ix_(on, parents)]
        apart = covariance[np.ix_(parents, parents)] + across + across.T  # [eaten, eaten]: two different rows
        same = covariance[parents, parents] + noise / each  # [eaten]: a row (of a cohort: their mean) with itself
        pairs, alike = 1.0, square  # Σ over pairs of different rows is that over all pairs, less rows with themselves
        if n := found.drawn_from[t]:
            k = found.eaten[0, t].sum()
            pairs, alike = (k - 1) * n / (k * max(n - 1, 1)), share / n
        error = pairs * (np.einsum("di,ij,dj->d", share, apart, share) - alike @ np.diag(apart)) + square @ same
        spread = share @ (covariance[parents, parents] + noise) - error  # [draws]
        covariance[t, t] = error.mean()
        variance[t] = (spread * found.mass[:, t] / (found.mass[:, t] - ddof)).mean()
    return variance[:fits], np.diag(covariance)[:fits].copy()


def workflow_error(chain: Chain, generations: int, draws: int | None = None) -> Values:
    """E‖θ_t - truth‖²/(dσ²), t = 1..generations, of a chain whose rows all have noise σ: the overlay of any recipe.

    For linear regression with d features and noise σ this times dσ² is the excess risk for n >> d (relative order
    d/n); for a mean of rows with a known variance σ² it is exact.
    """
    return follow(portions(chain, generations, draws), synthetic=1.0, bias=0.0)[1]


def workflow_gaussian(
    chain: Chain, generations: int, bias: float = 1.0, ddof: int = 0, draws: int | None = None
) -> tuple[Values, Values]:
    """(E[S_t], V_t) of a Gaussian chain, per coordinate of a standard normal truth, exact at every n (derived).

    It contains `replace_variance`, `accumulate_variance`, `subsample_variance` and `fresh_share`, and holds for every
    chain whose fit is a weighted mean and variance; of categories, `replace_heterozygosity` and its like.
    """
    return follow(portions(chain, generations, draws), bias=bias, ddof=ddof)
