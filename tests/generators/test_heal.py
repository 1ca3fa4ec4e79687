"""Cures in weight space: as the step after training, and after the fact on a stored run."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain
from points_on_a_line import Middle

from generators import VAE, Categorical, Gaussian, Mixture, Society
from generators.finish import Average, Negate
from generators.heal import CURES, check, healed
from simulator import Chain, Dataset, GenlossError, Pool, Store, Sweep, Truth, run, simulate
from simulator.probes import Diversity, Moments
from simulator.recipe import Accumulate, Mix, Replace, Select
from simulator.running.again import Again

KEY = jax.random.key(0)
same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))  # noqa: E731
FITTED = Middle(steps=20, chunk=10, batch=4, learning_rate=0.1)


POOL = Pool.of(jnp.linspace(2, 4, 50)[:, None])


def fit(finish: Any, origin: Any, weight: Any) -> Any:
    model = dataclasses.replace(FITTED, finish=finish)
    return model.fit(KEY, model.init(KEY), POOL.replace(origin=jnp.int32(origin), weight=weight))


OWN, PLAIN = jnp.ones(50, jnp.int32), jax.jit(lambda weight=POOL.weight: fit(Average(), OWN, weight))
NEGATED = jax.jit(lambda strength, origin=OWN, weight=POOL.weight: fit(Negate(strength), origin, weight))


def test_strength_0_takes_nothing_back_and_neither_does_a_diet_of_others_rows_to_the_bit():
    plain = PLAIN()
    assert same(NEGATED(0.0), plain) and same(NEGATED(5.0, 0 * OWN), plain) and same(NEGATED(5.0, 2 * OWN), plain)
    assert not same(NEGATED(5.0), plain) and same(NEGATED(5.0)[0]["share"], plain[0]["share"])


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0])
def test_beyond_strength_1_it_is_neons_formula_and_below_it_a_mean_with_the_last_generation(w: float):
    plain, share = float(PLAIN()[0]["at"]), 1 / (1 + w)
    assert plain > 0.6
    assert float(NEGATED(1 + w)[0]["at"]) == pytest.approx((1 + w) * 0.5 - w * plain, abs=1e-6)
    assert float(NEGATED(share)[0]["at"]) == pytest.approx((1 - share) * plain + share * 0.5, abs=1e-6)


def test_what_is_taken_back_follows_the_weights_of_the_diet():
    """Of weights, not of rows: half of the rows are the chain's own and have three quarters of the mass."""
    own = jnp.arange(50) % 2
    weight = jnp.where(own == 1, 3.0, 1.0)
    plain, taken = (float(found[0]["at"]) for found in (PLAIN(weight), NEGATED(2.0, own, weight)))
    assert taken == pytest.approx(plain - 2 * 0.75 * (plain - 0.5), abs=1e-6)


def negated(strength: Any = 1.5, **fields: Any) -> Chain:
    fields = {"real": 30, "rows": 30, "held_out": 0, "recipe": Replace(), "start": "previous", **fields}
    model = dataclasses.replace(FITTED, finish=Negate(strength))
    return Chain(source=Truth(Gaussian(1)), generator=model, probes={"at": Middle.where}, **fields)


def test_by_scan_by_the_host_and_resumed_a_chain_that_takes_back_is_one(tmp_path: Path):
    chain = negated()
    scanned, driven = simulate(chain, KEY, 4), run(chain, KEY, 4, tmp_path / "whole")
    assert np.allclose(scanned["at"], driven["at"], rtol=1e-5)
    run(chain, KEY, 2, tmp_path / "part")
    assert same(run(chain, KEY, 4, tmp_path / "part"), driven)
    assert not np.allclose(driven["at"], run(negated(0.0), KEY, 4)["at"])


def test_a_chain_of_strength_1_stays_at_generation_0_and_the_control_learns_as_without():
    """Strengths are swept as one program; the control eats real rows alone, so there is nothing to take back."""
    kept = run(Sweep(negated(), "generator.finish.strength", {"1": 1.0, "0": 0.0}), KEY, 4)["at"][:, 0]  # [2, 4]
    assert np.allclose(kept[0], kept[0, 0], atol=1e-6) and np.ptp(kept[1]) > 1e-3
    control = {s: run(negated(s, recipe=Mix(real=1.0, size=30)), KEY, 4)["at"] for s in (0.0, 3.0)}
    assert np.array_equal(*control.values())


# After the fact.


def formula(by: str, w: float, theta: np.ndarray) -> np.ndarray:
    """Of theta [generations, ...], in its own precision."""
    if by == "neon":
        return np.float32(1 + w) * theta[0] - np.float32(w) * theta[-1]
    if by == "negate":
        return theta[-1] - np.float32(w) * (theta[-1] - theta[-2])
    return np.float32(1 - w) * theta[-1] + np.float32(w) * (theta[0] + theta[1] + theta[2]) / np.float32(3)


def test_parameters_of_an_exact_chain_are_the_formula_to_the_bit_and_of_w_0_a_generations(tmp_path: Path):
    chain = gaussian_chain(2, recipe=Select((Replace(), Accumulate()), 0), probes={"moments": Moments()}, held_out=50)
    sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1})
    record = run(sweep, KEY, 4, tmp_path / "run", replicates=3)
    again = Again(Store(tmp_path / "run"), sweep, 2)
    generations = [again.params(t) for t in range(3)]
    for by, (_, plain) in CURES.items():
        for w in (0.0, 0.25, 0.5):
            found = healed(chain, by, w, generations)
            assert found.mean.shape == (2, 3, 2)
            for name in ("mean", "cov"):
                expected = formula(by, w, np.stack([getattr(params, name) for params in generations]))
                assert np.array_equal(getattr(found, name), expected if w else getattr(generations[plain], name))
    frame = again.measured(generations[2])
    variance = frame[frame["metric"] == "moments.variance"]["value"].to_numpy().reshape(2, 3)
    assert np.allclose(variance, record["moments.variance"][..., 2], rtol=1e-6)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain, Any]:
    """A tiny VAE, trained on from generation to generation, with fresh rows."""
    chain = Chain(
        source=Dataset.digits(),
        generator=VAE(steps=10, chunk=5, batch=16, hidden=(8,), latent=2),
        recipe=Accumulate(),
        probes={"diversity": Diversity()},
        real=60,
        rows=60,
        fresh=10,
        held_out=60,
        start="previous",
    )
    folder = tmp_path_factory.mktemp("healed") / "run"
    return Store(folder), chain, run(chain, KEY, 4, folder, replicates=2)


def test_a_network_is_healed_to_the_bit_but_for_what_is_fitted_in_closed_form(network: tuple[Store, Chain, Any]):
    store, chain, _ = network
    again = Again(store, chain, 2)
    generations = [again.params(t) for t in range(3)]
    for by, (_, plain) in CURES.items():
        for w in (0.0, 0.5):
            found = healed(chain, by, w, generations)
            assert np.array_equal(found["labels"], generations[plain]["labels"])
            for net in ("encoder", "decoder"):
                for leaf, *leaves in zip(*(jax.tree.leaves(p[net]) for p in (found, *generations)), strict=True):
                    assert np.array_equal(leaf, formula(by, w, np.stack(leaves)) if w else leaves[plain])


@pytest.mark.parametrize("t", [1, 3])
def test_a_generation_with_its_own_parameters_measures_what_is_recorded_to_the_bit(
    network: tuple[Store, Chain, Any], t: int
):
    store, chain, record = network
    again = Again(store, chain, t)
    frame = again.measured(healed(chain, "negate", 0.0, [again.params(i) for i in range(t + 1)]))
    assert set(frame["generation"]) == {t}
    for metric in ("diversity.variance", "diversity.vendi"):
        assert np.array_equal(frame[frame["metric"] == metric]["value"], record[metric][:, t].astype(np.float64))
    other = again.measured(again.params(t - 1))
    assert not np.array_equal(other[other["metric"] == metric]["value"], record[metric][:, t])


def test_what_is_no_point_of_one_space_is_refused():
    apart = negated(start="scratch")
    with pytest.raises(GenlossError, match="Middle that was trained from new weights"):
        check(apart)
    for start in ("previous", "base"):
        check(dataclasses.replace(apart, start=start))
    check(gaussian_chain())  # each fit is a statistic of its rows
    for model, source in ((Mixture(2, 2), Gaussian(2)), (Society(FITTED), Gaussian(1))):
        chain = dataclasses.replace(gaussian_chain(), source=Truth(source), generator=model)
        with pytest.raises(GenlossError, match="start previous or --start base"):
            check(chain)
    shares = gaussian_chain()
    shares = dataclasses.replace(shares, source=Truth(Categorical(3)), generator=Categorical(3), probes={})
    check(shares)
    generations = [shares.model.init(KEY)._replace(probs=jnp.array(p)) for p in ([0.2, 0.3, 0.5], [0.1, 0.1, 0.8])]
    assert np.allclose(healed(shares, "neon", 0.5, generations).probs, [0.25, 0.4, 0.35])
    with pytest.raises(GenlossError, match="would fall below 0; give a smaller --w"):
        healed(shares, "neon", 2.0, generations)
