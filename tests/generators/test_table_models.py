"""Generators of tables: marginals and correlations against numpy and scipy, diffusion of states against Bayes."""

import dataclasses
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, scattered
from equality import same
from flax import nnx
from mixed_tables import MIXED, mixed
from scipy.stats import norm, rankdata, spearmanr, truncnorm

from generators import TVAE, Copula, TableDiffusion
from generators.marginals import drawn, quantiles, scores, unscored
from generators.multinomial import divergence, noised, posterior
from generators.nets.denoiser import Denoiser
from generators.noise import Noise
from simulator import Chain, GenlossError, Pool, Table, run
from simulator.numerics.chance import normal
from simulator.recipe import Mix
from simulator.sources.columns import Layout

KEY = jax.random.key(0)
SMALL = partial(Denoiser, width=16, depth=1)
TRAINED: dict[str, Any] = {
    "tvae": TVAE(steps=20, chunk=10, batch=16, hidden=(8,), latent=2, size=30),
    "diffusion": TableDiffusion(steps=20, chunk=10, batch=16, network=SMALL, sample_steps=5, size=30),
}


def filled(params: Any, names: tuple[str, ...], scale: float = 0.3) -> Any:
    """Parameters whose networks hold numbers that are all different."""
    leaves, tree = jax.tree.flatten({name: params[name] for name in names})
    other = [jnp.asarray(scale * scattered(*a.shape, seed=i), jnp.float32) for i, a in enumerate(leaves)]
    return {**params, **jax.tree.unflatten(tree, other)}


# Columns by themselves.


def test_quantiles_are_those_of_numpy_by_weight():
    chance = np.random.default_rng(0)
    x = chance.normal(size=(150, 3)).round(1).astype(np.float32)  # with ties
    weight = chance.integers(0, 4, (150, 3)).astype(np.float32)
    found = jax.jit(quantiles, static_argnums=2)(jnp.where(weight > 0, x, jnp.nan), weight, 64)
    for j in range(3):
        expected = np.quantile(np.repeat(x[:, j], weight[:, j].astype(int)), (np.arange(64) + 0.5) / 64,
                               method="inverted_cdf")  # fmt: skip
        assert np.array_equal(found[j], expected)
    assert np.array_equal(quantiles(jnp.asarray(x), jnp.zeros((150, 3)), 4), np.zeros((3, 4)))


def test_scores_are_those_of_ranks_and_give_the_numbers_back():
    x = scattered(200, 2).astype(np.float32)
    x[:, 1] = np.maximum(np.round(3 * x[:, 1]), 0)  # an atom, and ties
    at = quantiles(jnp.asarray(x), jnp.ones((200, 2)), 200)
    z = jax.jit(scores)(at, x)
    assert np.allclose(z, norm.ppf((rankdata(x, axis=0) - 0.5) / 200), atol=1e-4)
    back = jax.jit(unscored, static_argnums=2)(at, z, (False, True))
    assert np.allclose(back, x, atol=1e-4)
    even = jnp.asarray(norm.ppf((np.arange(2000) + 0.5) / 2000))[:, None] * jnp.ones(2)
    values, times = np.unique(np.asarray(unscored(at, even, np.array([False, True])))[:, 1], return_counts=True)
    assert np.array_equal(values, np.unique(x[:, 1])) and np.array_equal(
        times / 10, np.unique(x[:, 1], return_counts=True)[1]
    )
    grid = np.linspace(-9, 9, 3601)
    between = np.asarray(unscored(at, jnp.asarray(grid[:, None] * np.ones(2)), np.array([False, True])))
    assert set(between[:, 1]) == set(x[:, 1]) and between.min() >= x.min() and between.max() <= x.max()
    middle = np.abs(grid) < 2.5
    assert len(np.unique(between[:, 0])) > 900
    assert np.allclose(np.asarray(jax.jit(scores)(at, between))[middle, 0], grid[middle], atol=1e-3)


def test_states_are_drawn_by_their_shares_and_rare_ones_as_often_as_they_should():
    probs = jnp.array([0.0, 0.3, 1e-4, 0.6999, 0.0])
    found = np.bincount(drawn(KEY, jnp.tile(probs, (400_000, 1))), minlength=5)
    assert found[0] == found[4] == 0
    assert_mean(np.repeat(np.eye(5)[1:4, 1:4], found[1:4], axis=0), probs[1:4])


def test_rows_are_read_and_written_back():
    for target in ("label", "y"):
        rows = mixed(40, target=target)
        layout = Layout.of(rows)
        assert layout == dataclasses.replace(MIXED, classes=2 * (target == "label"), y=target == "y")
        x, there, state = layout.read(rows)
        assert layout.whole.tolist() == [False, False, True, False][: x.shape[1]]
        assert np.array_equal(there[:, :3], ~rows["missing"]) and state.shape == (40, len(layout.sizes))
        assert same(layout.written(x, state), rows)
        one = layout.one_of_k(state)
        assert np.array_equal(layout.padded(layout.flat(one), 0.0), one) and layout.flat(one).shape[1] == sum(
            layout.sizes
        )


# The copula.


def test_columns_of_a_copula_are_those_of_its_weighted_diet():
    """What it says of each column against the weighted shares of the diet, within standard errors of 20,000 rows."""
    rows, weight = mixed(300), np.arange(300) % 4
    model = Copula(size=300).shaped(rows)
    params, _ = jax.jit(model.fit)(KEY, model.init(KEY), Pool.of(rows).weighed(jnp.asarray(weight, jnp.float32)))
    said: Any = jax.jit(model.sample, static_argnums=2)(KEY, params, 20_000)
    share = weight / weight.sum()
    for part in ("label", "missing", 0, 1):
        of = lambda tree, part=part: np.asarray(tree["kinds"][part] if isinstance(part, int) else tree[part])  # noqa: E731
        expected = share @ of(rows)
        varies = np.asarray((expected > 0) & (expected < 1))
        assert_mean(of(said).astype(float).reshape(20_000, -1)[:, varies.ravel()], expected[varies])
        assert (of(said).astype(float).mean(0) == expected)[~varies].all()
    for leaf, j, place in (("numbers", 0, 0), ("numbers", 1, 1), ("wholes", 0, 2)):
        real, gone = np.asarray(rows[leaf])[:, j], np.asarray(rows["missing"])[:, place]
        mine = np.asarray(said[leaf])[~np.asarray(said["missing"])[:, place], j]
        at = np.unique(real[~gone])
        law = (share * ~gone) @ (real[:, None] <= at) / (share @ ~gone)
        ours = (mine[:, None] <= at).mean(0)
        # Between quantiles numbers are linear, which moves as much as one of them holds.
        assert np.abs(ours - law).max() < 2 / np.sqrt(len(mine)) + (1 / 300 if leaf == "numbers" else 1 / 600)
        assert (np.asarray(said[leaf])[np.asarray(said["missing"])[:, place], j] == 0).all()


def test_a_copula_given_labels_follows_its_law_given_them():
    """Numbers of law N(0, 1) given a label: moments of a normal cut at the label's share, whatever R was cut to."""
    asked = np.array([[1, 0.8, 0.7], [0.8, 1, -0.6], [0.7, -0.6, 1]])  # no correlation matrix: one eigenvalue is < 0
    size, vectors = np.linalg.eigh(asked)
    near = (vectors * np.maximum(size, 0)) @ vectors.T
    near /= np.sqrt(np.outer(np.diag(near), np.diag(near)))
    model = Copula(size=20_000, layout=Layout(numbers=2, classes=3))
    shares, n = np.array([[0.2, 0.5, 0.3]]), 40_000
    params = model.init(KEY)._replace(shares=jnp.asarray(shares, jnp.float32), correlation=jnp.asarray(asked))
    edge = norm.ppf(np.cumsum(np.append(0.0, shares)))
    for k in range(3):
        given = {"label": jnp.full(n, k)}
        said: Any = jax.jit(model.sample, static_argnums=2)(jax.random.key(k), params, n, given)
        assert (said["label"] == k).all()
        x, cut = np.asarray(said["numbers"], np.float64), truncnorm(edge[k], edge[k + 1])
        mean = near[2, :2] * cut.mean()
        spread = near[:2, :2] + np.outer(near[2, :2], near[2, :2]) * (cut.var() - 1)
        assert_mean(x, mean)
        assert_mean(
            ((x - mean)[:, :, None] * (x - mean)[:, None]).reshape(n, 4)[:, [0, 1, 3]], spread[[0, 0, 1], [0, 1, 1]]
        )


def test_a_copula_finds_the_correlations_of_a_normal_whatever_the_columns_are():
    correlation = np.array([[1, 0.7, -0.4], [0.7, 1, 0.1], [-0.4, 0.1, 1]])
    g = np.random.default_rng(0).normal(size=(8000, 3)) @ np.linalg.cholesky(correlation).T
    x = np.stack([np.exp(2 * g[:, 0]), g[:, 1] ** 3, 5 + g[:, 2]], 1).astype(np.float32)
    x[4000:] = x[4000:, :1]  # which weighs nothing
    model = Copula(size=4000, layout=Layout(numbers=3))
    pool = Pool.of({"numbers": jnp.asarray(x)}).weighed((jnp.arange(8000) < 4000) * 1.0)
    params, _ = jax.jit(model.fit)(KEY, model.init(KEY), pool)
    error = (1 - correlation**2) / np.sqrt(4000)
    assert (np.abs(params.correlation - correlation) < 4 * error + 2e-3).all()
    said = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, params, 20_000)["numbers"])
    ranks = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of a normal copula
    found: Any = spearmanr(said)
    assert np.abs(found.statistic - ranks).max() < 5 / np.sqrt(4000)


def test_states_hang_together_with_numbers_by_the_middles_of_their_shares():
    """Three states cut out of a normal that has correlation 0.6 with a number: the correlation in closed form."""
    shares, rho, n = np.array([0.2, 0.5, 0.3]), 0.6, 6000
    edges = norm.ppf(np.append(0, np.cumsum(shares)))
    g = np.random.default_rng(0).normal(size=(n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    state = np.clip(np.searchsorted(edges, g[:, 0]) - 1, 0, 2)
    rows = {"numbers": jnp.asarray(g[:, 1:], jnp.float32), "label": jnp.asarray(state, jnp.int32)}
    model = Copula(size=n).shaped(rows)
    found = float(jax.jit(model.fit)(KEY, model.init(KEY), Pool.of(rows))[0].correlation[0, 1])
    middle = norm.ppf(np.cumsum(shares) - shares / 2)
    shared = rho * (middle * -np.diff(norm.pdf(edges))).sum()  # E[g | state] = -Δφ/share
    expected = shared / np.sqrt((shares * middle**2).sum() - (shares * middle).sum() ** 2)
    assert found == pytest.approx(expected, abs=4 * (1 - expected**2) / np.sqrt(n))


def test_a_column_without_spread_hangs_together_with_none_and_gaps_make_correlations_of_pairs():
    chance = np.random.default_rng(0)
    x = chance.normal(size=(3000, 4)).astype(np.float32)
    x[:, 1], x[:, 2] = x[:, 0] + 0.5 * x[:, 1], 7.1
    missing = chance.random((3000, 4)) < [0.5, 0.3, 0, 0]
    rows = {"numbers": jnp.where(missing, 0.0, x), "missing": jnp.asarray(missing)}
    model = Copula(size=3000).shaped(rows)
    params, _ = jax.jit(model.fit)(KEY, model.init(KEY), Pool.of(rows))
    found = np.asarray(params.correlation)
    assert found[0, 1] == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert np.array_equal(found[2], np.eye(8)[2]) and np.allclose(np.diagonal(found), 1)
    said = jax.jit(model.sample, static_argnums=2)(KEY, params, 5000)
    assert np.isfinite(said["numbers"]).all() and (np.asarray(said["numbers"])[:, 2] == np.float32(7.1)).all()


# Multinomial diffusion.


def test_the_posterior_of_states_is_that_of_bayes():
    """Against sums over every path of a chain of four steps, between times that are and that are not neighbours."""
    sizes, betas = (3, 2), np.array([0.1, 0.3, 0.25, 0.6])
    even = jnp.array([[1 / 3] * 3, [0.5, 0.5, 0]])
    kept: Any = np.append(1.0, np.cumprod(1 - betas))  # [5]: ᾱ_0 is 1
    for column, K in enumerate(sizes):
        matrix = [(1 - beta) * np.eye(K) + beta / K for beta in betas]  # P(x_t = j | x_{t-1} = i)
        for then, now in itertools.combinations(range(5), 2):
            paths = np.zeros((K, K, K))  # [x_0, x_then, x_now]
            for path in itertools.product(range(K), repeat=5):
                if any(path[t] for t in range(now + 1, 5)):
                    continue  # after `now` nothing is asked
                paths[path[0], path[then], path[now]] += np.prod([matrix[t][path[t], path[t + 1]] for t in range(now)])
            start, end = jnp.eye(3)[:K], jnp.eye(3)[:K]
            assert np.allclose(noised(start, kept[now], even[column])[:, :K], paths.sum(1), atol=1e-6)
            with np.errstate(invalid="ignore"):
                expected = paths / paths.sum(1, keepdims=True)  # P(x_then | x_0, x_now)
            found = posterior(end[None, :], start[:, None], kept[now], kept[then], even[column])  # [x_0, x_now, 3]
            assert np.allclose(np.moveaxis(expected, 2, 1), np.asarray(found)[..., :K], atol=1e-5)
            assert (np.asarray(found)[..., K:] == 0).all()


def test_divergence_is_that_of_scipy():
    from scipy.stats import entropy

    p, q = np.array([[0.2, 0.8, 0], [1, 0, 0]]), np.array([[0.5, 0.4, 0.1], [0.3, 0.7, 0]])
    assert np.allclose(divergence(jnp.asarray(p), jnp.asarray(q)), entropy(p, q, axis=1), atol=1e-6)


def test_the_loss_of_a_new_network_is_known():
    """It tells 0: ε² of a number that is there is 1, and of states the divergence from posteriors of x_0 at random."""
    T = 8
    layout = Layout(numbers=2, kinds=(3,), gaps=True, classes=2)
    model = TableDiffusion(network=SMALL, noise=Noise(num_train_timesteps=T, beta_end=0.5), layout=layout,
                           sample_steps=4)  # fmt: skip
    n = 16_000
    rows = layout.written(
        jax.random.normal(KEY, (n, 2)), jnp.tile(jnp.array([2, 1, 0, 1]), (n, 1))
    )  # without the first number
    params = model.closed_form(model.init(KEY), Pool.of(rows))
    losses = jax.jit(model.losses)(jax.random.key(1), params, rows)
    kept, total = np.append(1.0, model.noise.alphas_cumprod), 0.0
    for K, x0 in ((3, 2), (2, 1), (2, 0), (2, 1)):
        for t in range(1, T + 1):
            step, before = kept[t] / kept[t - 1], kept[t - 1]
            for xt in range(K):
                likely = kept[t] * (xt == x0) + (1 - kept[t]) / K
                forward = step * np.eye(K)[xt] + (1 - step) / K
                p, q = (forward * (before * x + (1 - before) / K) for x in (np.eye(K)[x0], np.full(K, 1 / K)))
                p, q = p / p.sum(), q / q.sum()
                total += likely * np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum()
    assert_mean(losses, 1 / 2 + total / 4)  # T of them, T times their mean over t; of two numbers and four columns
    assert total > 0.5


class Oracle(nnx.Module):
    """Of standard normal numbers and a state of known shares: what tells E(ε|x_t) and the x_0 by which states go back.

    P(x_s|x_t) ∝ P(x_t|x_s) P(x_s), and P(x_s) is the shares, noised: so these are to be told whatever x_t is.
    """

    def __init__(self, shape: Any, classes: Any, *, kept: Any, shares: Any, dtype: Any, rngs: Any):
        self.kept, self.shares = tuple(map(float, kept)), tuple(shares)
        self.none = nnx.Param(jnp.zeros(1))

    def __call__(self, x: Any, t: Any, label: Any = None) -> Any:
        kept, shares = jnp.array(self.kept)[t.astype(int)][:, None], jnp.array(self.shares)
        return jnp.concatenate([jnp.sqrt(1 - kept) * x[:, :1], jnp.log(shares) + 0 * x[:, 1:]], 1)


@pytest.mark.parametrize("steps", [20, 60])
def test_samples_by_what_is_true_have_its_law(steps: int):
    """Also by steps of several times."""
    shares = (0.05, 0.7, 0.25)
    noise = dataclasses.replace(TableDiffusion().noise, num_train_timesteps=60)
    layout = Layout(numbers=1, kinds=(3,))
    oracle = partial(Oracle, kept=noise.alphas_cumprod, shares=shares)
    model = TableDiffusion(network=oracle, noise=noise, layout=layout, sample_steps=steps, size=4000)
    z = norm.ppf((np.arange(4000) + 0.5) / 4000)
    params = {**model.init(KEY), "at": jnp.asarray(z, jnp.float32)[None]}
    said = jax.jit(model.sample, static_argnums=2)(KEY, params, 8000)
    x, kinds = np.asarray(said["numbers"])[:, 0], np.asarray(said["kinds"][0])
    assert_mean(kinds, shares)
    assert_mean(x, 0)
    assert_mean(x**2, (z**2).mean())


# What both trained models owe.


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_missing_counts_for_nothing(name: str):
    """A number that is not there may be any: losses, marginals and fits are the same."""
    rows = mixed(30)
    model = TRAINED[name].shaped(rows)
    params = filled(
        model.closed_form(model.init(KEY), Pool.of(rows)), ("encoder", "decoder") if name == "tvae" else ("net",)
    )
    other = {**rows, "numbers": jnp.where(rows["missing"][:, :2], jnp.nan, rows["numbers"])}
    losses = jax.jit(model.losses)
    assert np.array_equal(losses(KEY, params, rows), losses(KEY, params, other))
    assert np.array_equal(model.closed_form(params, Pool.of(other))["at"], params["at"])
    there = {**rows, "numbers": rows["numbers"] + ~rows["missing"][:, :2]}
    assert (np.asarray(losses(KEY, params, there)) != losses(KEY, params, rows)).mean() > 0.9


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_that_is_gone_is_never_said_and_rows_are_what_the_source_serves(name: str):
    rows = mixed(60)
    model = TRAINED[name].shaped(rows)
    weight = (~np.asarray(rows["kinds"][0][:, 1])) & (np.asarray(rows["label"]) == 0)
    fit = jax.jit(lambda pool: model.fit(KEY, model.init(KEY), pool)[0])
    said: Any = jax.jit(model.sample, static_argnums=2)(KEY, fit(Pool.of(rows).weighed(weight * 1.0)), 400)
    assert (said["label"] == 0).all() and not said["kinds"][0][:, 1].any() and said["kinds"][0][:, 0].any()
    assert not said["missing"][:, 1].any() and said["missing"][:, 0].any()  # a column without gaps has none
    assert all((leaf.sum(1) == 1).all() for leaf in said["kinds"])
    of = np.asarray(rows["wholes"])[weight & ~np.asarray(rows["missing"])[:, 2]]
    assert set(np.asarray(said["wholes"])[~np.asarray(said["missing"])[:, 2], 0]) <= set(of[:, 0])


def test_the_bound_of_a_tvae_is_that_of_its_parts():
    """log p(x|u) and KL by scipy, of the u that the key draws."""
    rows = mixed(25)
    model = dataclasses.replace(TRAINED["tvae"], beta=0.7).shaped(rows)
    params = filled(model.closed_form(model.init(KEY), Pool.of(rows)), ("encoder", "decoder"))
    params = {**params, "spread": jnp.array([-0.3, 0.2, -9.0])}
    z, there, state = model._scored(params, rows)
    mean, log_var = model._encoded(params, z, state)
    u = mean + np.exp(log_var / 2) * normal(KEY, mean.shape)
    centre, logits = model._decoded(params, u)
    sigma = np.array([np.exp(-0.3), np.exp(0.2), model.least])
    told = (norm.logpdf(z, centre, sigma) * there).sum(1)
    for i, size in enumerate(model.layout.sizes):
        part = np.asarray(logits)[:, i, :size]
        told += np.take_along_axis(
            part - np.log(np.exp(part).sum(1, keepdims=True)), np.asarray(state)[:, i : i + 1], 1
        )[:, 0]
    kl = -0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum(1)
    assert np.allclose(jax.jit(model.losses)(KEY, params, rows), 0.7 * kl - told, rtol=2e-4, atol=1e-3)


def test_a_tvae_says_numbers_about_what_it_decodes():
    layout = Layout(numbers=2)
    model = dataclasses.replace(TRAINED["tvae"], layout=layout, size=2000)
    z = norm.ppf((np.arange(2000) + 0.5) / 2000)
    zero = jax.tree.map(jnp.zeros_like, model.init(KEY))
    params = {**zero, "at": jnp.tile(jnp.asarray(z, jnp.float32), (2, 1)), "spread": jnp.log(jnp.array([0.5, 0.001]))}
    x = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, params, 5000)["numbers"])
    assert_mean(x, [0, 0])
    assert_mean(x**2, [0.25, 0.05**2])  # the second no narrower than `least`


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_chain_of_tables_resumes_to_the_bit(name: str, tmp_path: Path):
    """Stopped in the middle of a fit."""
    chain = Chain(source=Table.diabetes(), generator=TRAINED[name], recipe=Mix(real=0.5, size=40), real=40, rows=40,
                  probes={"what": said})  # fmt: skip

    def stop(progress: Any) -> None:
        if progress.done == 1 and progress.part >= 0.3:
            raise Stopped

    whole = run(chain, KEY, 3)
    with pytest.raises(Stopped):
        run(chain, KEY, 3, tmp_path / "run", save_seconds=0, report=stop)
    assert same(run(chain, KEY, 3, tmp_path / "run", save_seconds=0), whole)


def said(key: Any, view: Any) -> jax.Array:
    return jnp.stack([view.synthetic["y"].mean(), view.synthetic["kinds"][0][:, 0].mean()])


def test_rows_that_are_none_of_a_table_are_refused():
    with pytest.raises(GenlossError, match="rows of a table"):
        Copula().shaped(jnp.zeros((3, 2)))
    with pytest.raises(GenlossError, match="no `layout`"):
        TVAE().init(KEY)
