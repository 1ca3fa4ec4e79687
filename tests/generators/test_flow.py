"""Normalising flows: densities against Jacobians, integrals and another library, and samples against densities."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import OPTIMISED, assert_mean, scattered
from equality import close, same
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from generators.coupling import Affine, Spline
from generators.flow import Flow
from generators.gaussian import Gaussian
from simulator import Chain, Dataset, GenlossError, Pool, Truth, ensemble, run, simulate
from simulator.recipe import Mix

KEY = jax.random.key(0)
COUPLINGS = {"affine": Affine(limit=1.5), "spline": Spline(bins=5, bound=3.0)}
SMALL = Flow(pairs=2, hidden=(8,), shape=(2,))


def known(model: Flow, scale: float = 0.3) -> Any:
    """Parameters that are all different, none near 0; a new flow is the identity."""
    params = jax.eval_shape(model.init, KEY)
    leaves, tree = jax.tree.flatten(params["layers"])
    layers = [jnp.asarray(scale * scattered(*a.shape, seed=i), jnp.float32) for i, a in enumerate(leaves)]
    mean, sizes = jnp.arange(model._size) / 3 - 0.2, 1 + jnp.arange(model._size) / 4
    labels = (
        {}
        if model.classes is None
        else {"labels": jnp.arange(1.0, model.classes + 1) / sum(range(1, model.classes + 1))}
    )
    return {"layers": jax.tree.unflatten(tree, layers), "mean": mean, "scale": sizes, **labels}


def said(key: Any, view: Any) -> jax.Array:
    """The mean of all numbers that are said."""
    return jnp.mean(view.synthetic["image"] / 255 if isinstance(view.synthetic, dict) else view.synthetic)


def pieces(told: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(a) for a in Spline(bins=5, bound=3.0).knots(jnp.asarray(told)))


@pytest.fixture(scope="module")
def spline() -> tuple[Spline, np.ndarray, Any, Any]:
    """A spline, what was told of each of some numbers, and both its ways compiled."""
    coupling = Spline(bins=5, bound=3.0)
    told = scattered(300, coupling.numbers).astype(np.float32)
    return coupling, told, jax.jit(coupling.forward), jax.jit(coupling.inverse)


def test_a_spline_goes_through_its_knots_with_their_slopes_and_is_the_identity_outside(spline: Any):
    _, told, forward, _ = spline
    x, y, slopes = pieces(told)  # [300, 6] each
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all() and (slopes > 0).all()
    assert (x[:, 0] == -3).all() and (x[:, -1] == 3).all() and (slopes[:, [0, -1]] == 1).all()
    for i in range(1, 5):
        found, log_slope = forward(told, x[:, i])
        assert np.allclose(found, y[:, i], atol=1e-5) and np.allclose(np.exp(log_slope), slopes[:, i], rtol=1e-3)
    far = 10 * scattered(300).astype(np.float32)
    found, log_slope = forward(told, far)
    outside = np.abs(far) >= 3
    assert (np.asarray(found) == far)[outside].all() and (np.asarray(log_slope) == 0)[outside].all()
    assert not np.allclose(found, far) and 50 < outside.sum() < 290


def test_a_spline_is_a_quotient_of_quadratics_in_each_bin(spline: Any):
    """Six points of one bin leave no room for another curve: y·(a + bx + cx²) = d + ex + fx² has a solution."""
    _, told, forward, _ = spline
    x, *_ = pieces(told[:20])
    for left, right in ((x[:, 1], x[:, 2]), (x[:, 3], x[:, 4])):
        u = np.linspace(0.02, 0.98, 9)
        at = (left[:, None] + u * (right - left)[:, None]).astype(np.float32)  # [20, 9]
        y = np.asarray(forward(np.repeat(told[:20, None], 9, 1), at)[0], np.float64)
        columns = np.stack(
            [y, y * u, y * u * u, -np.ones_like(y), *(-np.broadcast_to(u**k, y.shape) for k in (1, 2))], -1
        )
        columns /= np.linalg.norm(columns, axis=1, keepdims=True)
        assert (np.linalg.svd(columns)[1][:, -1] < 1e-5).all()


@pytest.mark.parametrize("name", COUPLINGS)
def test_a_coupling_is_undone_and_its_slope_is_its_derivative(name: str):
    coupling = COUPLINGS[name]
    told, x = (a.astype(np.float32) for a in (scattered(400, coupling.numbers), 2 * scattered(400, seed=1)))
    y, log_slope = jax.jit(coupling.forward)(told, x)
    assert np.allclose(jax.jit(coupling.inverse)(told, y), x, atol=2e-5)
    slope = jax.jit(jax.vmap(jax.grad(lambda x, told: coupling.forward(told, x)[0]), (0, 0)))(x, told)
    assert np.allclose(np.log(slope), log_slope, atol=1e-4) and np.std(log_slope) > 0.2
    same = jax.jit(coupling.forward)(jnp.zeros_like(told), x)
    assert np.allclose(same[0], x, atol=1e-6) and np.allclose(same[1], 0, atol=1e-6)


@pytest.mark.extra("flowjax")
def test_a_spline_is_that_of_flowjax(spline: Any):
    import equinox as eqx
    from flowjax.bijections import RationalQuadraticSpline

    _, told, forward, inverse = spline
    x = (1.8 * scattered(300, seed=2)).astype(np.float32)
    empty = RationalQuadraticSpline(knots=4, interval=3.0)

    def theirs(knots: Any, x: Any) -> Any:
        filled = eqx.tree_at(lambda s: (s.x_pos, s.y_pos, s.derivatives), empty, knots)
        y, log_det = filled.transform_and_log_det(x)
        return y, log_det, filled.inverse_and_log_det(x)[0]

    y, log_det, back = jax.jit(jax.vmap(theirs))(pieces(told), x)
    found, log_slope = forward(told, x)
    assert (np.abs(x) >= 3).any() and np.allclose(found, y, atol=2e-5) and np.allclose(log_slope, log_det, atol=2e-4)
    assert np.allclose(inverse(told, x), back, atol=2e-5)


@pytest.mark.parametrize(("name", "d"), [("affine", 2), ("spline", 5), ("affine", 3)])
def test_a_density_is_that_of_the_base_times_the_jacobian(name: str, d: int):
    """Row by row, the determinant of the whole map's derivatives."""
    model = dataclasses.replace(SMALL, coupling=COUPLINGS[name], shape=(d,), classes=3)
    params, x, label = known(model), 1.5 * scattered(20, d).astype(np.float32), np.arange(20) % 3

    def base(x: Any, label: Any) -> Any:
        y = jax.nn.one_hot(label, 3)[None]
        return model._to_base(params["layers"], ((x - params["mean"]) / params["scale"])[None], y)[0][0]

    z, slopes = jax.jit(jax.vmap(lambda x, y: (base(x, y), jax.jacfwd(base)(x, y))))(x, label)
    determinant = np.linalg.slogdet(np.asarray(slopes, np.float64))[1]
    expected = norm.logpdf(np.asarray(z)).sum(1) + determinant + np.log((1 + label) / 6)
    found = jax.jit(model.log_prob)(params, {"x": x, "label": label})
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4) and np.std(determinant) > 0.2
    assert (np.abs(slopes) > 1e-3).any((0, 1)).all()  # every number of a row moves the base
    back = jax.jit(model._from_base)(params["layers"], z, jax.nn.one_hot(label, 3))
    assert np.allclose(back * params["scale"] + params["mean"], x, atol=1e-4)


@pytest.mark.parametrize("name", COUPLINGS)
def test_a_density_is_one_over_the_plane(name: str):
    model = dataclasses.replace(SMALL, coupling=COUPLINGS[name])
    params, axis = known(model), np.linspace(-12, 12, 301)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    density = np.exp(np.asarray(jax.jit(model.log_prob)(params, plane), np.float64)).reshape(301, 301)
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_samples_at_a_temperature_are_normal_at_the_base_each_by_its_label():
    model, temperature = dataclasses.replace(SMALL, shape=(3,), classes=2, temperature=0.7), 0.7
    params = known(model)
    rows = jax.jit(model.sample, static_argnums=2)(KEY, params, 20_000)
    x = (rows["x"] - params["mean"]) / params["scale"]
    z = np.asarray(jax.jit(model._to_base)(params["layers"], x, jax.nn.one_hot(rows["label"], 2))[0])
    i, j = np.triu_indices(3)
    assert_mean(z, np.zeros(3))
    assert_mean(z[:, i] * z[:, j], temperature**2 * np.eye(3)[i, j])
    assert_mean(rows["label"] == 1, 2 / 3)
    other = np.asarray(jax.jit(model._to_base)(params["layers"], x, jax.nn.one_hot(1 - rows["label"], 2))[0])
    assert np.abs(other - z).mean() > 0.05  # a label is told


OF_IMAGES = dataclasses.replace(SMALL, shape=(1, 2, 1), levels=8, classes=1)
GREY = np.round(np.arange(8) * 255 / 7).astype(np.uint8)


def pictures() -> Any:
    """Every image of two pixels of 8 levels, [64, 1, 2, 1]."""
    shown = np.stack(np.meshgrid(GREY, GREY, indexing="ij"), -1).reshape(64, 1, 2, 1)
    return {"image": jnp.asarray(shown), "label": jnp.zeros(64, jnp.int32)}


def squeezed(level: Any) -> Any:
    return logit(0.05 + 0.9 * level / 8)


def test_a_new_flow_says_images_as_often_as_logits_of_a_normal_fall_into_their_levels():
    """The law in closed form; what is beyond the first and last level is counted to them."""
    params = OF_IMAGES.init(KEY)
    image = np.asarray(jax.jit(OF_IMAGES.sample, static_argnums=2)(KEY, params, 20_000)["image"]).reshape(-1, 2)
    assert set(np.unique(image)) <= set(GREY)
    edges = norm.cdf(squeezed(np.arange(9)))
    edges[[0, -1]] = 0, 1
    assert_mean((image[:, :, None] == GREY).reshape(-1, 16), np.tile(np.diff(edges), 2))


def test_bits_of_an_image_are_the_mean_over_its_level():
    """-∫ log₂ p(l + u) du, for p of a new flow by quadrature, within standard errors of 16 draws of u."""
    found = np.asarray(jax.jit(OF_IMAGES.bits_per_dim)(OF_IMAGES.init(KEY), pictures())).reshape(8, 8)

    def bits(at: float) -> float:
        share = 0.05 + 0.9 * at / 8
        return -(norm.logpdf(logit(share)) + np.log(0.9 / 8 / (share * (1 - share)))) / np.log(2)

    mean = np.array([quad(bits, i, i + 1)[0] for i in range(8)])
    error = np.sqrt([quad(lambda u, i=i: (bits(u) - mean[i]) ** 2, i, i + 1)[0] / 16 for i in range(8)])
    assert (np.abs(found - (mean[:, None] + mean) / 2) < 5 * np.hypot(error[:, None], error) / 2).all()
    assert mean.mean() == pytest.approx(3, abs=0.5)  # eight levels are three bits


def test_masses_of_all_images_are_one_but_for_what_lies_beyond():
    """Of a flow that is not the identity; the bound is below the mass, and near it."""
    params = {**known(OF_IMAGES, 0.2), "mean": jnp.zeros(2), "scale": jnp.ones(2)}
    grid = (np.arange(12) + 0.5) / 12
    cells = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2).astype(np.float32)  # [144, 2]
    each = np.asarray(jax.jit(jax.vmap(lambda u: OF_IMAGES._density(params, pictures(), u)))(cells))  # [144, 64]
    mass = np.exp(each).mean(0)  # [64]
    z = np.asarray(
        jax.jit(OF_IMAGES._from_base)(params["layers"], jax.random.normal(KEY, (20_000, 2)), jnp.ones((20_000, 1)))
    )
    inside = (np.abs(expit(z) - 0.5) < 0.45).all(1)
    assert_mean(inside, mass.sum())
    found = np.asarray(jax.jit(OF_IMAGES.image_log_prob)(params, pictures()))
    assert (np.abs(found - each.mean(0)) < 5 * each.std(0) / 4 + 1e-4).all()
    assert np.exp(found).sum() < mass.sum() and np.exp(found).sum() > 0.8


def test_a_flow_told_no_label_says_the_same_for_all():
    model = dataclasses.replace(SMALL, classes=2, conditional=False)
    params, x = known(model), scattered(6, 2).astype(np.float32)
    log_prob, sample = jax.jit(model.log_prob), jax.jit(model.sample, static_argnums=2)
    zero, one = (log_prob(params, {"x": x, "label": jnp.full(6, label)}) for label in (0, 1))
    assert np.allclose(one - zero, np.log(2), atol=1e-5)  # shares of labels are 1/3 and 2/3
    given = {"label": jnp.array([0, 1] * 3)}
    rows = [sample(KEY, params, 6, {"label": label}) for label in (given["label"], 1 - given["label"])]
    assert np.array_equal(rows[0]["x"], rows[1]["x"]) and np.array_equal(rows[0]["label"], given["label"])


def test_points_are_taken_in_standard_deviations_of_their_weighted_diet():
    x = scattered(50, 2).astype(np.float32) * [3, 0.1] + [5, -1]
    weight = np.arange(50) % 3
    params = SMALL.closed_form(
        SMALL.init(KEY), Pool.of(jnp.asarray(x, jnp.float32)).weighed(jnp.asarray(weight, jnp.float32))
    )
    assert np.allclose(params["mean"], np.average(x, 0, weight), rtol=1e-4)
    assert np.allclose(params["scale"] ** 2, np.cov(x.T, aweights=weight, ddof=0).diagonal(), rtol=1e-3)


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True])
def test_a_chain_of_flows_resumes_to_the_bit_and_is_that_of_many_side_by_side(images: bool, tmp_path: Path):
    """Stopped in the middle of a fit."""
    small = Flow(steps=30, chunk=10, batch=16, pairs=1, hidden=(8,))
    source = Dataset.digits() if images else Truth(Gaussian(2))
    chain = Chain(
        source=source, generator=small, recipe=Mix(real=0.5, size=40), real=40, rows=40, probes={"what": said}
    )

    def stop(progress: Any) -> None:
        if progress.done == 1 and progress.part >= 0.3:
            raise Stopped

    whole = run(chain, KEY, 3)
    with pytest.raises(Stopped):
        run(chain, KEY, 3, tmp_path / "run", save_seconds=0, report=stop)
    assert same(run(chain, KEY, 3, tmp_path / "run", save_seconds=0), whole)
    keys = jax.random.split(KEY, 2)
    many = ensemble(lambda _: chain, jnp.zeros(1), keys, 2)
    alone = simulate(chain, keys[1], 2)
    assert close(jax.tree.map(lambda a: a[0, 1], many.flat()), alone.flat(), 1e-3, 1e-3)
    assert len(np.unique(np.asarray(many["what"]))) == 4  # two chains, two generations


@pytest.mark.slow
@pytest.mark.parametrize("name", COUPLINGS)
def test_a_flow_learns_a_wave(name: str):
    """KL from a truth whose density is known: x ~ N(0, 1), y = sin 2x + N(0, 0.2²)."""
    x, noise = jax.random.normal(KEY, (2, 12_000))
    rows = jnp.stack([x, jnp.sin(2 * x) + 0.2 * noise], -1)
    model = Flow(coupling=COUPLINGS[name], shape=(2,), pairs=3, hidden=(32, 32), steps=500)
    params = jax.jit(model.fit, compiler_options=OPTIMISED)(KEY, model.init(KEY), Pool.of(rows[:10_000]))[0]
    truth = norm.logpdf(x[10_000:]) + norm.logpdf(noise[10_000:]) - np.log(0.2)
    assert (truth - jax.jit(model.log_prob)(params, rows[10_000:])).mean() < 0.08  # 1.2 for the best Gaussian


@pytest.mark.parametrize(
    ("fields", "rows", "named"),
    [
        ({}, jnp.zeros((3, 1)), "at least two"),
        ({}, {"text": jnp.zeros((3, 2))}, "A? ?Flow needs points"),
        ({"classes": 2}, jnp.zeros((3, 2)), "leave `classes` open"),
        ({"shape": (4,)}, jnp.zeros((3, 2)), "leave `shape` open"),
    ],
)
def test_rows_that_no_flow_makes_are_refused(fields: Any, rows: Any, named: str):
    with pytest.raises(GenlossError, match=named):
        Flow(**fields).shaped(rows)


def test_splines_without_room_are_refused():
    with pytest.raises(GenlossError, match="lower `least`"):
        Spline(bins=200, least=0.01)
