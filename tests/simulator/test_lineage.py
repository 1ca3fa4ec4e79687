"""Lines of descent: exactly those of the rows, in law those of Wright and Fisher, and the same after a stop."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import OPTIMISED, assert_mean, gaussian_chain, moments
from equality import same
from plugins import RECIPES
from stored_runs import contents

from generators import KDE, Categorical, Gaussian, Mixture
from simulator import Chain, GenlossError, Pool, Store, Truth, ensemble, run, simulate, theory
from simulator.probes import Lineage
from simulator.recipe import Accumulate, KeepLikely, Mix, Replace, Select, Window
from simulator.running import spec

KEY = jax.random.key(0)


def said(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return {"rows": view.synthetic, "lines": view.ancestors}


def eaten(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """Of the size of the pool."""
    return {"rows": view.diet.rows, "weight": view.diet.weight, "real": view.diet.ancestors[:, 0]}


def copies(n: int, **fields: Any) -> Chain:
    """n rows which are drawn again: KDE without a kernel."""
    model = KDE(1, 0.0, size=n)
    return chain_of(model, n, source=Truth(Gaussian(1)), **fields)


def chain_of(model: Any, n: int, **fields: Any) -> Chain:
    fields = {"source": Truth(model), "recipe": Replace(), "probes": {"lineage": Lineage(follows=4)}, **fields}
    return Chain(generator=model, **{"real": n, "rows": n, **fields})


def many(chain: Chain, generations: int, chains: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    """Metrics of lineage, [chains, generations, ...]."""
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(
        jax.random.split(jax.random.key(seed), chains)
    )
    return {name.removeprefix("lineage."): np.asarray(leaf) for name, leaf in found.flat().items()}


# Every line, followed by hand.


def served(chain: Chain, key: jax.Array, generations: int) -> list[np.ndarray]:
    """The real rows of each generation."""

    @partial(jax.jit, compiler_options=OPTIMISED)
    def serve(key: jax.Array) -> tuple[Any, Any]:
        state = chain.init(key, generations)
        times = jnp.arange(1, generations if chain.fresh else 1)
        return state.pool.rows[: chain.real], jax.vmap(lambda t: chain.serve(state.key, t))(times)

    start, fresh = serve(key)
    return [np.asarray(start), *np.asarray(fresh if chain.fresh else [])]


def check_lines(chain: Chain, served: list[np.ndarray], record: Any) -> None:
    """What has an ancestor equals it in value, in every data set, and the probe counts what is there."""
    record, generations = jax.tree.map(np.asarray, record), len(record.t)
    start, *fresh = served
    real = np.concatenate([start, *fresh])  # by number
    sets = [start]  # data set s: the rows that fit s is the first to eat
    for s in range(1, generations):
        sets.append(np.concatenate([record["said.rows"][s - 1], *fresh[s - 1 : s]]))
    for t in range(generations):
        rows, lines, probe = record["said.rows"][t], record["said.lines"][t].astype(int), record["lineage"]
        founders = set(lines[:, 0])
        assert min(founders) >= 0 and max(founders) < chain.real + t * chain.fresh
        assert np.array_equal(real[lines[:, 0]], rows)
        assert np.array_equal(lines[:, 1], np.arange(chain.rows))
        for back in range(1, min(t + 2, lines.shape[1] - 1)):
            has = lines[:, 1 + back] >= 0
            assert np.array_equal(sets[t + 1 - back][lines[has, 1 + back]], rows[has])
        assert probe["samples"]["survivors"][t] == len(founders)
        together = [len(set(column)) == 1 and column[0] >= 0 for column in lines[:, 1:].T]
        assert probe["samples"]["time"][t] == (together.index(True) if any(together) else len(together))
        if "eaten" in record:
            rows, weight, ancestor = (record["eaten"][name][t] for name in ("rows", "weight", "real"))
            rows, weight, ancestor = rows[weight > 0], weight[weight > 0], ancestor[weight > 0].astype(int)
            assert np.array_equal(real[ancestor], rows)
            assert founders <= set(ancestor)  # who weighs nothing has no children
            mass = np.bincount(ancestor, weight, chain.real)
            assert probe["diet"]["survivors"][t] == len(set(ancestor))
            assert probe["diet"]["effective"][t] == pytest.approx(mass.sum() ** 2 / (mass**2).sum(), rel=1e-5)
            assert np.allclose(probe["diet"]["share"][t], (mass / mass.sum())[: chain.real], atol=1e-6)


PROBES = {"lineage": Lineage(follows=5, shares=12), "said": said, "eaten": eaten}
KERNELS, WORDS = KDE(2, 0.0, size=15), Categorical(300)


@pytest.mark.quick("kde-window")
@pytest.mark.parametrize(
    "model, source, fields",
    [
        (KERNELS, Gaussian(2), {"recipe": Window(2), "fresh": 3}),
        pytest.param(WORDS, WORDS, {"recipe": Replace(), "fresh": 3}, marks=pytest.mark.slow),
        (WORDS, WORDS, {"recipe": Mix(real=0.25, size=8, window=2)}),
        pytest.param(WORDS, WORDS, {"recipe": KeepLikely(0.5)}, marks=pytest.mark.slow),
    ],
    ids=["kde-window", "categorical-replace", "categorical-mix", "categorical-likely"],
)
def test_a_row_equals_its_ancestors(model: Any, source: Any, fields: dict[str, Any]):
    """Where the pool is a ring, its rows are overwritten again and again."""
    chain = chain_of(model, 12, source=Truth(source), probes=PROBES, rows=8, **fields)
    record = jax.jit(lambda key: simulate(chain, key, 9), compiler_options=OPTIMISED)(KEY)
    check_lines(chain, served(chain, KEY, 9), record)


@pytest.mark.slow
def test_a_row_equals_its_ancestors_under_every_recipe():
    recipes = [
        recipe for recipe in RECIPES if not isinstance(recipe, KeepLikely)
    ]  # a kernel of no width has no density

    def make(index: Any) -> Chain:
        recipe = Select(tuple(recipes), index)
        return chain_of(KERNELS, 12, source=Truth(Gaussian(2)), recipe=recipe, probes=PROBES, fresh=10, rows=30)

    found = ensemble(make, jnp.arange(len(recipes)), KEY[None], 4)
    chain = make(0)
    real = served(chain, KEY, 4)
    for i in range(len(recipes)):
        check_lines(chain, real, jax.tree.map(lambda a, i=i: a[i, 0], found))


# Laws.


@pytest.mark.quick("kde")
@pytest.mark.parametrize(
    "model, source",
    [
        (KDE(1, 0.3, size=10), Gaussian(1)),
        (Categorical(4), Categorical(4)),
        (Mixture(1, 1, steps=1), Gaussian(1)),
    ],
    ids=["kde", "categorical", "mixture"],
)
def test_ancestry_under_replace_is_wright_fisher(model: Any, source: Any):
    """Each row is made from a row of the diet, any of the n alike, whatever else the model does to it."""
    n, generations, follows = 5, 8, 4
    found = many(chain_of(model, n, source=Truth(source)), generations)
    alike = np.full(n, 1 / n)
    assert_mean(found["samples.survivors"], theory.expected_support(alike, n, generations))
    assert_mean(1 - 1 / found["samples.effective"], theory.replace_heterozygosity(n, generations, 1 - 1 / n))
    assert_mean(found["diet.survivors"][:, 1:], theory.expected_support(alike, n, generations - 1))
    assert (found["samples.real"] == 1).all() and (found["diet.effective"][:, 0] == n).all()
    fixed = np.concatenate([[0], theory.fixation(alike, n, generations)])  # after 0, 1, ... draws
    later = [sum(1 - fixed[min(g, t + 1)] for g in range(follows)) for t in range(generations)]  # Σ_g P(time > g)
    assert_mean(found["samples.time"][:, 1:], later[1:])
    assert np.array_equal(found["diet.time"][:, 1:], found["samples.time"][:, :-1])


def test_time_to_one_real_ancestor():
    n = 6
    survivors = many(copies(n), 70, seed=1)["samples.survivors"]
    assert (np.diff(survivors) <= 0).all() and (survivors[:, -1] == 1).mean() > 0.999
    assert_mean(1 + (survivors > 1).sum(1), theory.mean_fixation_time(np.full(n, 1 / n), n))


def two(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return {"apart": view.ancestors[0, 1:] != view.ancestors[1, 1:]}


def test_two_rows_meet_once_in_n_generations():
    """Kingman: two lines stay apart for g fits with probability (1 - 1/n)^g."""
    n, follows = 7, 6
    found = many(copies(n, probes={"lineage": Lineage(follows=follows), "two": two}), 9, seed=2)["two.apart"]
    assert (found[..., 0] == 1).all()
    assert_mean(found[:, -1, 1:], (1 - 1 / n) ** np.arange(1, follows))


@pytest.mark.slow
def test_ancestry_when_all_is_kept():
    """The chance that two rows of the diet have different ancestors is a heterozygosity."""
    found = many(chain_of(Categorical(3), 5, recipe=Accumulate()), 7)
    assert_mean((1 - 1 / found["diet.effective"])[:, 1:], theory.accumulate_heterozygosity(5, 7)[1:])


def test_fresh_rows_are_ancestors():
    n, generations = 5, 8
    probes = {"lineage": Lineage(shares=n + 2 * (generations - 1))}
    found = many(
        chain_of(Categorical(3), n, recipe=Mix(real=0.4, size=n, fresh=True), fresh=2, probes=probes), generations
    )
    assert_mean((1 - 1 / found["diet.effective"])[:, 1:], theory.fresh_heterozygosity(n, 0.4, generations)[1:])
    share = found["diet.share"]
    assert np.allclose(share.sum(-1), 1, atol=1e-6)
    born = share[:, 1:, n : n + 2].sum(-1)  # of the rows served at generation 1, [chains, generations - 1]
    assert np.allclose(born[:, 0], 0.4)
    assert_mean(born[:, 1:], 0.4 * 0.6 ** np.arange(1, generations - 1))


def test_smoothing_has_no_parents():
    n, size, smoothing = 6, 4, 0.5
    found = many(chain_of(Categorical(size, smoothing=smoothing), n), 6)
    assert_mean(found["samples.real"], (n / (n + size * smoothing)) ** np.arange(1, 7))


WEIGHT = jnp.array([0.5, 2, 0, 1, 1, 0.25, 0, 3, 1.25], jnp.float32)


@pytest.mark.quick("kde")
@pytest.mark.parametrize("model", [KDE(1, 0.2, size=7), Categorical(3, temperature=1.0)], ids=["kde", "categorical"])
def test_parents_are_drawn_in_proportion_to_weight(model: Any):
    source = Gaussian(1) if isinstance(model, KDE) else model
    pool = Pool.of(Truth(source).draw(KEY, 9)).weighed(WEIGHT)

    def parents(key: jax.Array) -> jax.Array:
        own, fit, sample = jax.random.split(key, 3)
        params, _ = model.fit(fit, model.init(key), pool)
        rows = model.sample(sample, params, 20)
        found = model.parents(own, params, pool, rows, fit, sample)  # [20]
        assert found.dtype == jnp.int32
        if not isinstance(model, KDE):
            found = jnp.where(rows == pool.rows[found], found, -1)
        return (found[:, None] == jnp.arange(9)).mean(0)

    found = jax.jit(jax.vmap(parents))(jax.random.split(KEY, 8000))
    eaten = np.asarray(WEIGHT) > 0
    assert (found[:, ~eaten] == 0).all()
    assert_mean(found[:, eaten], (WEIGHT / WEIGHT.sum())[eaten])


def test_parents_of_a_mixture_share_its_responsibilities():
    model = Mixture(1, 2, steps=3)
    x = jnp.array([-2.0, -1.5, 0.1, -0.2, 1.0, 2.5, 9.0, 0.4, 1.7])[:, None]
    pool = Pool.of(x).weighed(WEIGHT)
    params, _ = model.fit(KEY, model.init(KEY), pool)
    params = params._replace(weights=jnp.array([0.7, 0.3]))  # not what the diet has
    joint = np.stack(
        [
            np.asarray(params.weights[k]) * np.exp(-((x[:, 0] - params.means[k, 0]) ** 2) / (2 * params.covs[k, 0, 0]))
            / np.sqrt(params.covs[k, 0, 0])
            for k in range(2)
        ],
        1,
    )  # fmt: skip
    member = np.asarray(WEIGHT)[:, None] * joint / joint.sum(1, keepdims=True)  # [n, k]
    expected = (member / member.sum(0)) @ np.asarray(params.weights)  # [n]

    def parents(key: jax.Array) -> jax.Array:
        own, sample = jax.random.split(key)
        found = model.parents(own, params, pool, model.sample(sample, params, 20), key, sample)
        return (found[:, None] == jnp.arange(9)).mean(0)

    found = jax.jit(jax.vmap(parents))(jax.random.split(KEY, 8000))
    eaten = np.asarray(WEIGHT) > 0
    assert (found[:, ~eaten] == 0).all()
    assert_mean(found[:, eaten], expected[eaten])


@pytest.mark.slow
def test_parents_of_a_mixture_are_of_the_same_mode():
    """Modes far apart: nobody descends from another mode."""
    truth = Mixture(2, 4, floor=1e-6).init(KEY)._replace(covs=jnp.full((4, 1, 1), 1e-4) * jnp.eye(2))
    chain = chain_of(Mixture(2, 4, steps=5, floor=1e-6), 40, source=Truth(Mixture(2, 4), truth), probes=PROBES)
    found = simulate(chain, KEY, 6)
    real = np.asarray(chain.init(KEY, 6).pool.rows)[np.asarray(found["said.lines"][..., 0], int)]  # [6, 40, 2]
    rows = np.asarray(found["said.rows"])
    assert np.abs(real - rows).max() < 0.1 and not np.array_equal(real, rows)


# Driven in pieces, stopped, forked.


def stored(recipe: Any, fresh: int = 0) -> Chain:
    probes = {"lineage": Lineage(follows=5, shares=12), "said": said}
    return chain_of(Categorical(50), 12, probes=probes, recipe=recipe, fresh=fresh)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe, fresh, every",
    [
        pytest.param(Replace(), 0, 3, marks=pytest.mark.slow, id="replace"),
        pytest.param(Window(3), 3, 4, id="window"),
        pytest.param(Accumulate(), 2, 1, marks=pytest.mark.slow, id="accumulate"),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(recipe: Any, fresh: int, every: int, tmp_path: Path):
    chain, whole, cut = stored(recipe, fresh), Store(tmp_path / "whole"), Store(tmp_path / "cut")
    record = run(chain, KEY, 8, whole, replicates=2, every=every)
    shutil.copytree(whole.path, cut.path)
    for step in whole.steps():
        if step > 3:
            shutil.rmtree(cut.path / "checkpoints" / str(step))
    assert same(run(chain, KEY, 8, cut, replicates=2, every=every), record)
    with whole.opened(whole.about()["run"], 1), cut.opened(cut.about()["run"], 1):
        assert same(contents(whole), contents(cut))
    check_lines(chain, served(chain, jax.random.fold_in(KEY, 1), 8), jax.tree.map(lambda a: a[1], record))
    assert whole.ceiling()["lineage.samples.survivors"] == 12


@pytest.mark.slow
def test_more_generations_and_forks_keep_the_lines(tmp_path: Path):
    chain, parent = stored(Replace()), Store(tmp_path / "parent")
    run(chain, KEY, 3, parent)
    record = run(chain, KEY, 5, parent)
    real = served(chain, KEY, 5)
    check_lines(chain, real, record)
    for name, recipe in (("all", Accumulate()), ("mix", Mix(real=0.5, size=12))):  # pools of other shapes
        other = spec.override(chain, {"recipe": recipe})
        forked = run(other, KEY, 5, parent.fork(2, tmp_path / name, other))
        check_lines(other, real, forked)
        assert not same(forked["lineage"], record["lineage"])


class Fitted(NamedTuple):
    params: Any
    loss: jax.Array


class Driven(Categorical):
    """Fitted from the host, as networks are."""

    calls = 1

    def begin(self, key: Any, params: Any, pool: Pool) -> Fitted:
        return Fitted(self.fit(key, params, pool)[0], jnp.float32(0))

    def advance(self, pool: Pool, training: Fitted) -> Fitted:
        return training

    def finish(self, training: Fitted) -> tuple[Any, dict[str, jax.Array]]:
        return training.params, {}


@pytest.mark.slow
def test_host_loop_equals_scan():
    chain = chain_of(Driven(50), 12, recipe=Mix(real=0.5, size=10))
    assert same(run(chain, KEY, 4)["lineage"], simulate(chain, KEY, 4)["lineage"])


def test_who_does_not_ask_pays_nothing():
    plain, traced = (copies(9, probes={"last": last, **more}) for more in ({}, {"lineage": Lineage()}))
    assert plain.follows is None and traced.follows == 10
    pool = plain.init(KEY, 3).pool
    assert pool.ancestors is None and len(jax.tree.leaves(pool)) == 4
    assert same(simulate(plain, KEY, 3)["last"], simulate(traced, KEY, 3)["last"])


def last(key: jax.Array, view: Any) -> jax.Array:
    return view.synthetic


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(GenlossError, match="Gaussian does not say which rows its own come from"):
        gaussian_chain(probes={"lineage": Lineage(), "moments": moments})
    for bad in ({"follows": 0}, {"shares": -1}):
        with pytest.raises(GenlossError, match="must"):
            Lineage(**bad)
