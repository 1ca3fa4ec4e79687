"""The loss of a fit as an argument, and the step after training."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from points_on_a_line import Middle

from generators import VAE, Transformer
from generators.finish import Average, Extrapolate, Merge
from generators.nets.decoder import gpt2
from generators.objective import Plain, Truncated, TruncatedTokens
from simulator import GenlossError, Pool

KEY = jax.random.key(0)


PARAMS = {"at": jnp.float32(0.5), "share": jnp.zeros(2)}
ROWS = jnp.array([[0.0], [1.5], [-2.0], [0.4], [9.0], [0.6], [2.0], [-1.0]])
TINY = VAE(steps=4, chunk=2, batch=8, shape=(2, 2, 1), classes=2, latent=2, hidden=(3,))


def test_a_truncated_loss_that_drops_none_is_the_plain_loss_to_the_bit():
    for model, rows in (
        (Middle(), ROWS),
        (TINY, {"image": jnp.arange(28, dtype=jnp.uint8).reshape(7, 2, 2, 1), "label": jnp.arange(7) % 2}),
    ):
        params = model.init(KEY)
        found = [
            jax.jit(jax.value_and_grad(lambda p, m=m, rows=rows: m.loss(KEY, p, rows)))(params)
            for m in (model, replace(model, objective=Truncated(0.0)))
        ]
        assert jax.tree.all(jax.tree.map(np.array_equal, *found))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.99])
def test_the_rows_of_largest_loss_are_dropped_and_have_no_gradient(share: float):
    model = Middle(objective=Truncated(share))
    square = (np.asarray(ROWS)[:, 0] - 0.5) ** 2
    kept = np.argsort(square)[: max(8 - round(8 * share), 1)]
    loss, slope = jax.value_and_grad(lambda rows: model.loss(KEY, PARAMS, rows))(ROWS)
    assert float(loss) == pytest.approx(square[kept].mean(), rel=1e-6)
    assert set(np.flatnonzero(slope[:, 0])) == set(kept)
    # Of rows with several values it is the mean of a row that is compared.
    wide = jnp.stack([ROWS[:, 0], jnp.full(8, 0.5)], 1)
    assert float(model.loss(KEY, PARAMS, wide)) == pytest.approx(square[kept].mean() / 2, rel=1e-6)


def test_truncation_takes_the_influence_of_outliers_away():
    """A tenth of the rows lie at 20: the mean of all is 2, and that of those that are kept lies at 0."""
    outlier = np.arange(1000) < 100
    rows = np.where(outlier, 20.0, np.random.default_rng(0).standard_normal(1000))[:, None]
    pool = Pool.of(jnp.asarray(rows, jnp.float32))

    def fitted(share: jax.Array) -> jax.Array:
        model = Middle(steps=200, chunk=200, batch=100, learning_rate=0.2, objective=Truncated(share))
        ends = jax.vmap(lambda key: model.fit(key, PARAMS, pool)[0]["at"])(jax.random.split(KEY, 20))
        return ends  # [20]

    plain, truncated = jax.jit(jax.vmap(fitted))(jnp.array([0.0, 0.25]))
    assert_mean(plain, rows.mean())
    assert abs(float(truncated.mean()) - rows[~outlier].mean()) < 0.1 < 1 < float(plain.mean())


def test_a_loss_that_is_not_a_number_is_not_dropped():
    rows = ROWS.at[3].set(jnp.nan)
    assert np.isnan(Middle(objective=Truncated(0.5)).loss(KEY, PARAMS, rows))


@dataclass(frozen=True, kw_only=True)
class Mean(Middle):
    """Gives the mean of a batch alone."""

    def loss(self, key: Any, params: Any, rows: jax.Array) -> jax.Array:
        return self.losses(key, params, rows).mean()


def test_an_objective_that_would_not_be_asked_is_refused():
    Mean()
    with pytest.raises(GenlossError, match="give `losses`"):
        Mean(objective=Truncated(0.1))
    with pytest.raises(GenlossError, match="below 1"):
        Truncated(1.0)
    wrong: tuple[dict[str, Any], ...] = (
        {"objective": Truncated},
        {"finish": Merge},
        {"finish": jnp.sum},
        {"objective": 3},
    )
    for field in wrong:
        with pytest.raises(GenlossError, match="such as"):
            Middle(**field)
    with pytest.raises(GenlossError, match="was given a mean"):
        Middle(objective=Truncated(0.1, lambda *_: jnp.float32(1.0))).loss(KEY, PARAMS, ROWS)


# The step after training.


def ends(finish: Any) -> Any:
    """What a fit of rows about 3 ends with, from 0.5."""
    model = Middle(steps=20, chunk=10, batch=4, learning_rate=0.1, finish=finish)
    return jax.jit(model.fit)(KEY, model.init(KEY), Pool.of(jnp.linspace(2, 4, 50)[:, None]))


def test_strength_0_and_share_0_are_the_average_and_share_1_the_start_to_the_bit():
    same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))  # noqa: E731
    plain = ends(Average())
    assert float(plain[0]["at"]) > 0.6
    assert same(ends(Extrapolate(0.0)), plain) and same(ends(Merge(0.0)), plain)
    params, report = ends(Merge(1.0))
    assert float(params["at"]) == 0.5 and float(report["loss"]) == float(plain[1]["loss"])
    # Neon with w = 0 is where the fit began.
    assert float(ends(Extrapolate(-1.0))[0]["at"]) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("finish", "factor"), [(Extrapolate, 1), (Merge, -1)])
def test_where_a_fit_ends_is_linear_in_what_is_asked(finish: Any, factor: int):
    plain = float(ends(Average())[0]["at"])
    at = jax.jit(jax.vmap(lambda s: ends(finish(s))[0]["at"]))(jnp.array([0.1, 0.3, 0.9]))
    assert np.allclose(at, plain + factor * np.array([0.1, 0.3, 0.9]) * (plain - 0.5), rtol=1e-5)


def test_what_is_fitted_in_closed_form_is_not_moved():
    for finish in (Extrapolate(7.0), Merge(0.8)):
        assert np.allclose(ends(finish)[0]["share"], [0.25, 0.75], rtol=1e-6)


def test_the_start_is_kept_for_a_finish_that_looks_back_and_for_no_other():
    pool = Pool.of(ROWS)
    begun: list[Any] = [Middle(finish=f).begin(KEY, PARAMS, pool).start for f in (Average(), Merge(0.5))]
    assert begun[0] is None and float(begun[1]["at"]) == 0.5


def test_default_arguments_are_what_was_before():
    assert VAE().objective == Plain() and VAE().finish == Average()


TOKENS = jax.random.randint(KEY, (6, 5), 0, 4)
WRITER = Transformer(vocabulary=4, length=5, network=gpt2(width=8, depth=1, heads=2), steps=4, chunk=2, batch=6, eos=2)


def test_tokens_that_a_model_is_sure_of_have_no_gradient():
    """Truncated cross-entropy, and its slope in each logit: p - [token] where p(token) <= γ, and 0 elsewhere."""

    @dataclass(frozen=True, kw_only=True)
    class Table(Middle):
        def losses(self, key: Any, params: Any, rows: jax.Array) -> jax.Array:
            return -jnp.take_along_axis(jax.nn.log_softmax(params), rows[..., None], 2)[..., 0]

    logits = 3 * jax.random.normal(jax.random.key(1), (6, 5, 4))
    share = np.asarray(jax.nn.softmax(logits))
    own = np.take_along_axis(share, np.asarray(TOKENS)[..., None], 2)[..., 0]  # [6, 5]
    for threshold in (0.3, 0.8):
        model = Table(objective=TruncatedTokens(threshold))
        loss, slope = jax.value_and_grad(lambda p, m=model: m.loss(KEY, p, TOKENS))(logits)
        kept = own <= threshold
        assert 3 < kept.sum() < 30 and float(loss) == pytest.approx(-np.log(own[kept]).sum() / 30, rel=1e-5)
        expected = (share - np.eye(4)[np.asarray(TOKENS)]) * kept[..., None] / 30
        assert np.allclose(slope, expected, atol=1e-6)


def test_a_threshold_of_one_is_the_plain_loss_to_the_bit_and_thresholds_are_swept():
    params = jax.jit(WRITER.init)(KEY)

    def loss(threshold: Any) -> Any:
        return replace(WRITER, objective=TruncatedTokens(threshold)).loss(KEY, params, TOKENS)

    found = jax.jit(lambda values: (WRITER.loss(KEY, params, TOKENS), jax.vmap(loss)(values)))(jnp.array([1, 0.25, 0]))
    plain, swept = found
    assert float(swept[0]) == float(plain) and 0 == float(swept[2]) < float(swept[1]) < float(plain)
    with pytest.raises(GenlossError, match="Truncated, which leaves out rows"):
        replace(TINY, objective=TruncatedTokens()).fit(KEY, TINY.init(KEY), Pool.of(IMAGES))


IMAGES = {"image": jnp.zeros((7, 2, 2, 1), jnp.uint8), "label": jnp.arange(7) % 2}
