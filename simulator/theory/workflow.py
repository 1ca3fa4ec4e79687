"""What any recipe does to fitted means and variances: the law of linear workflows, computed from the recipe itself.

A linear fit is an average of what its rows say, θ_t = Σ_j w_{t,j} (θ_{parent(j)} + ε_j): row j is its writer's
parameter (for a real row the truth, 0) plus its own noise.  So θ_t is a linear function of the noise of all rows, and
following its covariances gives its variance under every recipe that does not look at what is in the rows.

Weights of different fits are independent of each other, as their keys are; so of a draw of weights only the means
E[w_{t,j}] and, at the fit itself, E[w_{t,j} w_{t,k}] matter, and it is enough to follow classes of rows of one data set
that have the same mean weights at every fit.  Without chance these are the rows that weigh the same, whatever tells
them apart, and the law is exact.  With chance, rows that what comes before the first draw treats alike are taken for a
class, unless draws of the recipe contradict it, and then each row is followed by itself.  Moments of the draws are
exact where the numbers of rows drawn from each class are fixed, or where the last step is a uniform `Subsample`, and
are averaged over draws of the recipe otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.numerics.schedule import at
from simulator.recipe.choosing import Subsample
from simulator.recipe.combine import Then
from simulator.recipe.mixing import Accumulate
from simulator.theory.gaussian import Values
from simulator.theory.table import TRUTH, Table, plain
from simulator.types import GenlossError, Recipe

if TYPE_CHECKING:
    from simulator.chain import Chain

WORK = 500_000_000  # rows x fits (or classes² x fits / 2) beyond which no law is computed: some seconds
DRAWN = 10_000_000  # rows x fits of one draw of a recipe with chance, beyond which no law is computed
SPENT = 2_000_000  # rows x fits of all draws together, where more than the least number are taken
DRAWS = 4, 400  # least and most draws


def linear_workflow(shares: Values, parents: Values | None = None) -> Values:
    """Var(θ_t) over the variance of one ε, t = 1..T: ‖A_t‖² with A_t = Σ_j w_{t,j} (A_{parent(j)} + e_j) (derived).

    `shares` [T, sources] are the w_{t,j}; rows sum to 1.  `parents` [sources] says which fit (0..T-1, or -1 for the
    truth) wrote source j; by default source j is the data set written by fit j - 1, and if each holds n rows of noise
    σ the result is n·Var(θ_t)/σ².

    >>> np.round(linear_workflow(np.array([[1.0, 0.0], [0.5, 0.5]])), 4).tolist()
    [1.0, 1.25]
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
    """What each of T fits eats of the rows that a chain ever sees, by classes of rows whose mean weights are the same,
    under one or several draws of its recipe.
    """

    share: Values  # [draws, T, classes]: share of the diet's mass
    square: Values  # [draws, T, classes]: Σ over rows of their squared share
    eaten: Values  # [draws, T, classes]: rows of weight above 0
    mass: Values  # [draws, T]: the weight of the diet, in rows
    parents: Values  # [classes]: the fit that wrote the rows; -1 for real rows
    births: Values  # [classes]: the generation they were born in
    held: Values  # [classes]: rows of the class
    each: Values  # [classes]: rows that a row stands for; 1 but for cohorts
    drawn_from: (
        Values  # [T]: where rows are drawn uniformly, `share` is expected and this the rows to draw from; else 0
    )

    @property
    def draws(self) -> int:
        return self.share.shape[0]

    @property
    def data_set(self) -> Values:
        """The fit that is the first to eat the rows, [classes]."""
        return self.births + (self.parents != TRUTH)


def portions(chain: Chain, generations: int, draws: int | None = None) -> Portions:
    """What every fit of the chain eats, by the chain's own recipe, under `draws` keys (by default one where they make
    no difference, else as many as take some seconds).

    Raises `GenlossError` where there is no law: the recipe reads the rows, so that its weights are not known without
    them; and where the work would be too large.
    """
    recipe, table = plain(chain.recipe), Table(chain, generations)
    chance, reads_rows = table.reads(recipe)
    if reads_rows:
        raise GenlossError(f"{_named(recipe)} looks at the rows, and no law is known for what it chooses.")
    if generations * len(table) > (DRAWN if chance else WORK):
        raise GenlossError(f"A law for {generations} fits on up to {len(table):,} rows takes too long to compute.")
    certain, rest = _split(recipe, table)
    member = table.alike(certain)  # [rows]: class
    if not rest:
        return _portions(table, member, _sums(table, certain, member)[None])
    if len(rest) == 1 and isinstance(rest[0], Subsample) and draws is None:
        before = _portions(table, member, _sums(table, certain, member)[None])
        if (found := _subsampled(before, rest[0].size)) is not None:
            return found
    return _drawn(table, recipe, member, draws)


def _named(recipe: Recipe) -> str:
    return getattr(recipe, "__name__", type(recipe).__name__)


def _split(recipe: Recipe, table: Table) -> tuple[Recipe, tuple[Recipe, ...]]:
    """(what the recipe does before it first draws at random, the steps from there on)."""
    steps: tuple[Recipe, ...] = recipe.recipes if isinstance(recipe, Then) else (recipe,)
    n = next((n for n in range(len(steps), 0, -1) if not table.reads(Then(*steps[:n]))[0]), 0)
    return (Then(*steps[:n]) if n else Accumulate()), steps[n:]


def _sums(table: Table, recipe: Recipe, member: Values) -> Values:
    """[T, classes, 3] of weights, of their squares, and of rows that weigh something, by class, without chance."""
    some, held = np.unique(member, return_index=True, return_counts=True)[1:]  # [classes]: a row of each; how many
    if table.fits * len(some) > WORK / 10:
        raise GenlossError(f"A law for {table.fits} fits on {len(some):,} classes of rows takes too long to compute.")

    @jax.jit
    def weights() -> Any:
        return jax.lax.map(lambda t: table.weight(recipe, jax.random.key(0), t)[some], jnp.arange(table.fits))

    weight = np.asarray(weights(), np.float64)  # [T, classes]
    return np.stack([weight, weight**2, weight > 0], -1) * held[:, None]


def _subsampled(found: Portions, size: Any) -> Portions | None:
    """The portions of a uniform draw of `size` rows, where at each fit all rows that are eaten weigh the same.

    A row is drawn with probability k/N, a pair of rows with k(k-1)/(N(N-1)).
    """
    share, eaten = found.share[0], found.eaten[0]  # [T, classes]
    total = eaten.sum(-1)  # [T]: N
    if not np.allclose(share, eaten / total[:, None]) or len(set(found.each)) > 1:
        return None
    wanted = np.array([float(jnp.round(at(size, t))) for t in range(len(total))])
    k = np.minimum(wanted, total)  # [T]
    return found._replace(
        square=(share / k[:, None])[None],
        eaten=(share * k[:, None])[None],
        mass=(k * found.each[0])[None],
        drawn_from=total,
    )


def _drawn(table: Table, recipe: Recipe, member: Values, draws: int | None) -> Portions:
    """The portions of a recipe with chance, under several draws of it."""
    many = draws or int(np.clip(SPENT // (table.fits * len(table)), *DRAWS))

    def drawn(member: Values) -> tuple[Values, Values]:
        """(sums [draws, T, classes, 3], weights added over draws [T, rows])."""
        classes = member.max() + 1

        @jax.jit
        def sums(weight: Any) -> Any:
            parts = jnp.stack([weight, weight**2, weight > 0], -1)  # [some, T, rows, 3]
            by_class = jax.vmap(jax.vmap(lambda part: jax.ops.segment_sum(part, jnp.asarray(member), classes)))
            return by_class(parts), weight.sum(0)

        parts = [sums(weight) for weight in table.several(recipe, many)]
        found = np.concatenate([np.asarray(part, np.float64) for part, _ in parts])
        return found, np.sum([np.asarray(total, np.float64) for _, total in parts], 0)

    found, total = drawn(member)
    if (apart := _told_apart(member, found, total)).any():  # rows of these classes are followed one by one
        alone = member.max() + 1 + np.arange(len(member))
        member = np.unique(np.where(apart[member], alone, member), return_inverse=True)[1]
        found, _ = drawn(member)
    return _portions(table, member, found, fixed=draws is None)


def _told_apart(member: Values, found: Values, total: Values) -> Values:
    """Whether draws contradict that rows of a class have the same mean weights at every fit, [classes].

    With a_k the weights [rows] of draw k about their mean over the class, Σ_{k<l} a_k·a_l has the mean 0 if they do,
    since draws are independent, and a variance of Σ_{k<l} |a_k|²|a_l|²/(n - 1) if rows are exchangeable; else its mean
    is as many times the spread of the mean weights.  What goes unnoticed changes the law by less than draws do.
    """
    held = np.bincount(member)  # [classes]
    size = found[..., 1] - found[..., 0] ** 2 / held  # [draws, T, classes]: |a_k|²
    mean = found[..., 0].sum(0) / held  # [T, classes]
    both = np.stack([np.bincount(member, row) for row in (total - mean[:, member]) ** 2])  # [T, classes]: |Σ_k a_k|²
    product = (both - size.sum(0)).sum(0) / 2  # [classes]
    spread = np.maximum((size.sum(0) ** 2 - (size**2).sum(0)).sum(0) / 2 / np.maximum(held - 1, 1), 0)  # [classes]
    rounding = 1e-6 * found[..., 1].sum((0, 1))  # [classes]
    overall = product.sum() > 4 * np.sqrt(spread.sum()) + rounding.sum()
    return (held > 1) & (product > (1 if overall else 4) * np.sqrt(spread) + rounding)


def _portions(table: Table, member: Values, found: Values, fixed: bool = True) -> Portions:
    """From sums [draws, T, classes, 3] of weights, of their squares, and of rows that weigh something.

    With `fixed` several draws become one where they make no difference to any class.
    """
    some, held = np.unique(member, return_index=True, return_counts=True)[1:]  # [classes]
    ever = found[..., 0].any((0, 1))  # [classes]: eaten at some fit
    weight, square, eaten = np.moveaxis(found[:, :, ever], -1, 0)  # [draws, T, classes] each
    some, held = some[ever], held[ever]
    each = table.each[some]
    mass = (weight * each).sum(-1)  # [draws, T]
    if not mass.all():
        raise GenlossError("The recipe leaves nothing to eat at some generation; loosen it.")
    share, square = weight * each / mass[..., None], square * (each / mass[..., None]) ** 2
    if fixed and np.array_equal(eaten, np.broadcast_to(eaten[:1], eaten.shape)) and np.allclose(share, share[:1]):
        share, square, eaten, mass = share[:1], square[:1], eaten[:1], mass[:1]  # which rows does not matter
    return Portions(share, square, eaten, mass, table.parent[some], table.birth[some], held, each, np.zeros(table.fits))


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
    if fits * sources * (found.share > 0).sum(-1).max() > 2 * WORK:
        raise GenlossError(f"A law for {fits} fits on {sources:,} classes of rows takes too long to compute.")
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
