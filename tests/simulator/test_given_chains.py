"""Chains that tell a generation part of its rows, and recipes that ask what the last model thinks."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain

from generators import KDE, VAE, Cohort, Gaussian, Ngram, PerClass
from simulator import Chain, Dataset, GenlossError, Pool, Sweep, Truth, run, simulate
from simulator.recipe import Accumulate, Curate, DropSuspects, KeepLikely, Mix, Replace, Select, Then, Verify
from simulator.recipe.likely import scores
from simulator.sources.given import Prompts

KEY = jax.random.key(0)
TINY = VAE(steps=4, chunk=2, batch=8, hidden=(3,), latent=2)


def spoken(key: Any, view: Any) -> Any:
    """Everything that is said, as numbers."""
    leaves = [jnp.asarray(a, jnp.float32).reshape(-1) for a in jax.tree.leaves(view.synthetic)]
    return (
        {"all": jnp.concatenate(leaves), "label": view.synthetic["label"]}
        if isinstance(view.synthetic, dict)
        else {"all": jnp.concatenate(leaves)}
    )


def digits(**fields: Any) -> Chain:
    fields = {"recipe": Replace(), "probes": {"said": spoken}, "real": 30, "rows": 20, "held_out": 10, **fields}
    return Chain(source=Dataset.digits(), generator=TINY, **fields)


class Stopped(Exception):
    pass


def stop(progress: Any) -> None:
    if progress.done == 1 and progress.part > 0.4:
        raise Stopped


def same(a: Any, b: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, a.metrics, b.metrics))


@pytest.mark.slow
def test_a_run_that_was_stopped_within_a_fit_is_the_run_to_the_bit(tmp_path: Path):
    chain = digits(given=Prompts(of="real"), recipe=Then(Accumulate(), KeepLikely(0.5)))
    with contextlib.suppress(Stopped):
        run(chain, KEY, 3, tmp_path, save_seconds=0, report=stop)
    resumed = run(chain, KEY, 3, tmp_path)
    assert same(resumed, run(chain, KEY, 3))
    real = chain.source.draw(chain.init(KEY, 3).key, 20)["label"]
    assert (np.asarray(resumed["said.label"]) == np.asarray(real)).all()
    assert resumed["fit.mass"].tolist() == [30, 40, 50]


def test_scan_and_host_loop_agree():
    """Tokens to the bit; what is computed with fractions as far as two compiled programs round alike."""
    text = Chain(
        source=Truth(Ngram(3, order=2, length=5)), generator=Ngram(3, order=2), recipe=Replace(), real=20, rows=20,
        probes={"said": spoken}, given=Prompts(2, "real"),
    )  # fmt: skip
    scanned = simulate(text, KEY, 4)
    assert same(scanned, run(text, KEY, 4, every=2))
    found = np.asarray(scanned["said.all"]).reshape(4, 20, 5)
    assert (found[:, :, :2] == found[0, :, :2]).all() and (found[0] != found[2]).any()
    kept = gaussian_chain(recipe=Then(Accumulate(), KeepLikely(0.5)), real=20, rows=20)
    found = [driven.flat() for driven in (simulate(kept, KEY, 4), run(kept, KEY, 4, every=2))]
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-6), *found))


def test_labels_that_are_given_do_not_drift_and_those_that_are_drawn_do():
    fields: dict[str, Any] = {"recipe": Replace(), "probes": {"said": spoken}, "real": 30, "rows": 30}
    generator = PerClass(Gaussian(1), 3)
    shares = {}
    for given in (None, Prompts(of="real"), Prompts(of="diet")):
        chain = Chain(source=Truth(generator), generator=generator, given=given, **fields)
        label = np.asarray(simulate(chain, KEY, 6)["said.label"])
        shares[given] = np.stack([np.bincount(row.astype(int), minlength=3) for row in label])
    assert (shares[Prompts(of="real")] == shares[Prompts(of="real")][0]).all()
    assert all((shares[given] != shares[given][0]).any() for given in (None, Prompts(of="diet")))


def test_what_cannot_be_asked_is_refused_when_the_chain_is_built():
    with pytest.raises(GenlossError, match="cannot be given part"):
        gaussian_chain(given=Prompts())
    with pytest.raises(GenlossError, match="neither `log_prob` nor `losses`"):
        cohort = Cohort(Gaussian(1), 9)
        Chain(source=Truth(cohort), generator=cohort, recipe=Select((Replace(), KeepLikely()), 0))
    with pytest.raises(GenlossError, match="wants_scores"):
        KeepLikely()(KEY, jnp.int32(1), Pool.of(jnp.zeros((3, 1))))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_likeliest_synthetic_rows_are_kept(share: float):
    """Beside NumPy: in a chain, of the rows of the pool under the parameters of the generation before."""
    chain = gaussian_chain(recipe=KeepLikely(share), real=12, rows=9)
    state = chain.init(KEY, 4)
    for t in range(3):
        last = state.params
        state, diet = chain.eat(jax.random.key(t), state, None)
        x = np.asarray(diet.rows, np.float64)
        mean, cov = np.asarray(last.mean, np.float64), np.asarray(last.cov, np.float64)
        density = -0.5 * np.einsum("ni,ij,nj->n", x - mean, np.linalg.inv(cov), x - mean)  # but for a constant
        synthetic = np.flatnonzero(diet.synthetic)
        likely = synthetic[np.argsort(-density[synthetic])[: round(share * len(synthetic))]]
        assert set(np.flatnonzero(np.asarray(diet.weight) * np.asarray(diet.synthetic))) == set(likely)
        assert (np.asarray(diet.weight)[np.asarray(diet.real)] == 1).all()
        params, _ = chain.model.fit(jax.random.key(t), last, diet)
        state = chain.remember(state, params, chain.speak(jax.random.key(t), state.t, params))


def test_verifier_curator_and_detector_can_ask_the_model():
    pool = Pool.of(jnp.arange(6.0)[:, None]).replace(
        origin=jnp.array([0, 0, 1, 1, 1, 1]), scores=jnp.array([0.0, -9.0, 1.0, -2.0, 3.0, -4.0])
    )
    at = lambda recipe: np.asarray(recipe(KEY, jnp.int32(1), pool)).tolist()  # noqa: E731
    assert at(Verify("model", -2.0)) == [1, 1, 1, 1, 1, 0]
    assert at(Curate("model", best_of=4, strength=1e6)) == [1, 1, 0, 0, 1, 0]
    assert at(DropSuspects("model", 0.5)) == [1, 1, 0, 1, 0, 1]
    assert Then(Mix(real=0.5, size=4), Verify("model")).wants_scores and not Verify(jnp.sum).wants_scores


def test_nothing_is_scored_where_no_recipe_asks():
    chain = gaussian_chain(recipe=Replace())
    assert chain.eat(KEY, chain.init(KEY, 2), None)[1].scores is None


def test_scores_are_densities_or_losses_with_the_same_noise_for_every_row():
    x = jnp.array([[0.0, 1.0], [2.0, -1.0], [0.0, 1.0]])
    model = Gaussian(2)
    assert np.array_equal(scores(model, KEY, model.init(KEY), x), model.log_prob(model.init(KEY), x))
    rows = {"image": jnp.array([[[[9]]], [[[200]]], [[[9]]]], jnp.uint8), "label": jnp.array([0, 1, 0])}
    model = VAE(latent=2, hidden=(3,)).shaped(rows)
    found = np.asarray(scores(model, KEY, model.init(KEY), rows))
    assert found[0] == found[2] != found[1]
    each = jax.jit(jax.vmap(lambda k: model.losses(k, model.init(KEY), rows)[1]))
    mean = np.mean(each(jax.random.split(KEY, 400)))
    assert abs(found[1] + mean) < 0.5


def test_what_is_asked_may_be_swept():
    chain = gaussian_chain(recipe=KeepLikely(0.5), real=10, rows=10)
    swept = Sweep(chain, "recipe.share", {"a": 0.2, "b": 1.0})
    mass = np.asarray(run(swept, KEY, 3, replicates=1)["fit.mass"])
    assert mass[:, 0].tolist() == [[10, 12, 14], [10, 20, 30]]


def test_a_kernel_estimate_is_asked_too():
    chain = Chain(source=Truth(Gaussian(1)), generator=KDE(1, 0.3, size=8), recipe=KeepLikely(0.5), real=8, rows=8)
    assert simulate(chain, KEY, 3)["fit.mass"].tolist() == [8, 12, 16]
