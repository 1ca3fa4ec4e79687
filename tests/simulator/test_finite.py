"""NaN in is NaN out, in every measure: one row that is not finite is never told as a collapse, nor as nothing."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixed_tables import mixed

from generators import VAE, Categorical, Gaussian, Linear, Mixture, Ngram, Poisson
from generators.nets.affine import Affine as Layer
from generators.nets.captions import Captioner, TextTower
from generators.nets.masked import MaskedAutoencoder
from generators.nets.mlp import MLP
from simulator import Pool, Truth, View, probes
from simulator.probes.detection import auroc, tpr_at
from simulator.probes.features import flat
from simulator.probes.fidelity import energy, frechet, mmd
from simulator.probes.neighbours import manifold, nearest
from simulator.probes.points import sliced

CHANCE = np.random.default_rng(0)
N = 24


def points(n: int = N, d: int = 3) -> jax.Array:
    return jnp.asarray(CHANCE.normal(size=(n, d)), jnp.float32)


def images(n: int = N, side: int = 8) -> dict[str, jax.Array]:
    pixels = jnp.asarray(CHANCE.random((n, side, side, 1)), jnp.float32)
    return {
        "image": pixels,
        "label": jnp.arange(n) % 3,
        "caption": jnp.tile(jnp.arange(4), (n, 1)) + jnp.arange(n)[:, None] % 3,
    }


class Case(NamedTuple):
    probe: Any
    rows: Any  # samples, and the diet
    reference: Any
    generator: Any = Gaussian(3)
    params: Any = None
    prepared: Any = None  # of the probe
    features: Any = None  # what is prepared of its features
    infinite: bool = True  # whether an infinite number in what is read is none of its values


def _case(probe: Any, rows: Any = None, reference: Any = None, **more: Any) -> Case:
    return Case(probe, points() if rows is None else rows, points() if reference is None else reference, **more)


POINTS, IMAGES, TABLE = points(), images(), {"x": points(), "y": points()[:, 0], "label": jnp.arange(N) % 3}
CODER = VAE(shape=(8, 8, 1), classes=3, latent=2, hidden=(4,))
MODES, TEXTS = Truth(Mixture(2, 3)), jnp.asarray(CHANCE.integers(0, 5, (N, 6)), jnp.int32)
NET, WORDS = partial(MLP, hidden=(4,)), 8
EYES = partial(Captioner, patch=4, width=8, depth=1, length=4)
MIXED = mixed(N)
SPACE = (probes.Mixed(), {"mean": jnp.ones(3), "scale": jnp.ones(3)})
of_image = partial(_case, rows=IMAGES, reference=images())
of_table = partial(_case, rows=TABLE, reference={**TABLE, "x": points()})


def _learned() -> tuple[Any, dict[str, Any]]:
    from simulator.probes.classifier import started

    space = probes.Learned(NET, steps=1)
    return space, {"network": started(NET, (8, 8, 1), 3, jax.random.key(0))[1], "labels": jnp.arange(3)}


CASES: dict[str, Any] = {
    "Fidelity": lambda: _case(probes.Fidelity()),
    "Manifold": lambda: _case(probes.Manifold()),
    "Frechet": lambda: _case(probes.Frechet()),
    "Kid": lambda: _case(probes.Kid()),
    "Diversity": lambda: of_image(probes.Diversity()),
    "Vendi": lambda: _case(probes.Vendi()),
    "Vendi, rbf": lambda: _case(probes.Vendi(kernel="rbf")),
    "Modes": lambda: of_image(probes.Modes(_learned()[0]), features=_learned()),
    "Spectrum": lambda: of_image(probes.Spectrum()),
    "Memorisation": lambda: _case(probes.Memorisation(), prepared=points()),
    "DietEntropy": lambda: _case(probes.DietEntropy()),
    "Points": lambda: _case(probes.Points(projections=5)),
    "ExactWasserstein": lambda: _case(probes.ExactWasserstein()),
    "Centres": lambda: _case(probes.Centres(), points(d=2), points(d=2), prepared=probes.Centres().prepare(KEY, MODES)),
    "TrueLikelihood": lambda: _case(
        probes.TrueLikelihood(Gaussian(3)),
        prepared=Gaussian(3).init(KEY),
        params=Gaussian(3).init(KEY),
    ),
    "Likelihood": lambda: _case(probes.Likelihood(), params=Gaussian(3).init(KEY), infinite=False),
    "Latents": lambda: of_image(probes.Latents(), generator=CODER, params=CODER.init(KEY)),
    "Evidence": lambda: of_image(probes.Evidence(3), generator=CODER, params=CODER.init(KEY)),
    "Moments": lambda: _case(probes.Moments(), params=Gaussian(3).init(KEY)),
    "LogDet": lambda: _case(probes.LogDet(), params=Gaussian(3).init(KEY)),
    "Wasserstein": lambda: _case(probes.Wasserstein(), params=Gaussian(3).init(KEY)),
    "Categories": lambda: _case(probes.Categories(), params=Categorical(4).init(KEY)),
    "Rate": lambda: _case(probes.Rate(), params=Poisson(2.0).init(KEY)),
    "LogRate": lambda: _case(probes.LogRate(), params=Poisson(2.0).init(KEY)),
    "Risk": lambda: _case(probes.Risk(), generator=Linear(3), params=Linear(3).init(KEY)),
    "Tails": lambda: _case(probes.Tails(0.9)),
    "Stylised": lambda: _case(probes.Stylised()),
    "Regression": lambda: of_table(probes.Regression(), generator=Linear(3), params=Linear(3).init(KEY)),
    "Tabular": lambda: of_table(probes.Tabular()),
    "Marginals": lambda: _case(probes.Marginals(), MIXED, mixed(N, 1)),
    "Associations": lambda: _case(probes.Associations(), MIXED, mixed(N, 1)),
    "RareKinds": lambda: _case(
        probes.RareKinds(), MIXED, mixed(N, 1), prepared={"label": jnp.ones(2) / 2, "kinds": jnp.ones(5) / 20}
    ),
    "Utility": lambda: _case(probes.Utility("linear"), MIXED, mixed(N, 1), features=SPACE),
    "Detection": lambda: of_image(probes.Detection(NET, steps=1, batch=1)),
    "Downstream": lambda: of_image(probes.Downstream(NET, steps=1, batch=1)),
    "Downstream, features": lambda: of_image(probes.Downstream(Layer, steps=1, batch=1, features=flat)),
    "Robustness": lambda: of_image(probes.Robustness(NET, steps=1, batch=1, corruptions=("contrast",))),
    "Masked": lambda: of_image(
        probes.Masked(partial(MaskedAutoencoder, patch=4, width=8, depth=1), steps=2, batch=1),
        prepared=images(),
    ),
    "Generative": lambda: _case(probes.Generative(Gaussian(3))),
    "Retrieval": lambda: of_image(
        probes.Retrieval(NET, partial(TextTower, vocabulary=WORDS, width=8), width=4, ks=(1,), steps=1, batch=2)
    ),
    "Captioning": lambda: of_image(probes.Captioning(EYES, WORDS, steps=1, batch=1)),
    "Perplexity": lambda: _case(
        probes.Perplexity(),
        TEXTS,
        TEXTS,
        generator=Ngram(5, length=6),
        params=Ngram(5, length=6).init(KEY),
        infinite=False,
    ),
    "ReferencePerplexity": lambda: _case(
        probes.ReferencePerplexity(Ngram(5, length=6)),
        TEXTS,
        TEXTS,
        prepared=Ngram(5, length=6).init(KEY),
        infinite=False,
    ),
    "TextLoss": lambda: _case(
        probes.TextLoss(),
        TEXTS,
        TEXTS,
        generator=Ngram(5, length=6),
        params=Ngram(5, length=6).init(KEY),
        prepared={"counts": jnp.arange(1.0, 6.0), "bytes": jnp.ones(5, jnp.int32)},
        infinite=False,
    ),
    "Mauve": lambda: _case(probes.Mauve(flat, 2, 2, draws=2), prepared=points(4).reshape(2, 2, 3)),
}
KEY = jax.random.key(0)
LONG = {"Masked", "Retrieval", "Captioning"}  # which compile for long
NO_FLOATS = {
    "TextDiversity",
    "Compression",
    "Lexicon",
    "Verbatim",
    "FreshPerplexity",
    "Exposure",
}  # of tokens and numbers
BY_A_READER = {"SequencePerplexity"}  # whose numbers are the reader's: with its own test
WEIGHTS = {"Diet", "Lineage"}  # of what rows weigh, which is never NaN (`Chain` refuses it)
SPACES = {"Pca", "Learned", "Stored", "Reader", "HashedNgrams", "Mixed"}
# What a probe says of the number of rows, of labels, and of nothing but real rows.
APART = {
    "rows",
    "reference_rows",
    "diet.rows",
    "training.rows",
    "error",
    "labels",
    "label_entropy",
    "untrained",
    "kinds",
}


def test_every_probe_is_held_to_it():
    assert {name.partition(",")[0] for name in CASES} == set(
        probes.__all__
    ) - NO_FLOATS - BY_A_READER - WEIGHTS - SPACES


def spoiled(tree: Any, value: float, row: int = 3) -> Any:
    """The first number of a row of each leaf of floats is the value."""

    def one(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf.reshape(-1).at[leaf.size // N * row].set(value).reshape(leaf.shape)

    return jax.tree.map(one, tree)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]
)
def test_a_row_that_is_not_finite_is_told_by_every_measure(name: str):
    case: Case = CASES[name]()
    reads_model = case.params is not None or (case.prepared is not None and name == "ReferencePerplexity")

    @jax.jit
    def measured(rows: Any, params: Any, prepared: Any, weight: Any) -> dict[str, Any]:
        learned = {case.probe: prepared} | ({} if case.features is None else dict([case.features]))
        diet = Pool.of(rows).weighed(weight)
        view = View(jnp.int32(0), params, diet, rows, case.reference, case.generator, None, learned)
        found = case.probe(KEY, view)
        return found if isinstance(found, dict) else {"value": found}

    def flat_of(value: float | None) -> dict[str, np.ndarray]:
        spoil = (lambda tree: tree) if value is None else partial(spoiled, value=value)
        of_model = (lambda tree: tree) if value is None else partial(spoiled, value=value, row=0)
        prepared = of_model(case.prepared) if name == "ReferencePerplexity" else case.prepared
        found = measured(spoil(case.rows), of_model(case.params) if reads_model else case.params, prepared, jnp.ones(N))
        leaves = jax.tree_util.tree_leaves_with_path(found)
        return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}

    whole = flat_of(None)
    assert all(np.isfinite(value).all() for value in whole.values()), whole
    of_nan = {part: value for part, value in flat_of(np.nan).items() if part not in APART}
    assert of_nan and all(np.isnan(value).all() for value in of_nan.values()), of_nan
    if case.infinite:
        of_inf = {part: value for part, value in flat_of(np.inf).items() if part not in APART}
        assert not any(np.isfinite(value).any() for value in of_inf.values()), of_inf


@pytest.mark.parametrize("name", ["DietEntropy", "Memorisation", "Regression", "Tabular", "Downstream"])
def test_a_row_without_weight_may_hold_anything(name: str):
    case: Case = CASES[name]()
    weight = jnp.ones(N).at[3].set(0.0)  # the row that `spoiled` spoils

    @jax.jit
    def measured(rows: Any) -> Any:
        view = View(jnp.int32(0), case.params, Pool.of(rows).weighed(weight), case.rows, case.reference, case.generator)
        found = case.probe(KEY, view._replace(prepared={case.probe: case.prepared}))
        return found.get("diet", found)

    for other in jax.tree.leaves(
        jax.tree.map(lambda a, b: a - b, measured(spoiled(case.rows, np.nan)), measured(case.rows))
    ):
        assert np.abs(other).max() < 1e-5


MEASURES = {
    "manifold": lambda a, b: manifold(a, b, 3),
    "frechet": frechet,
    "energy": energy,
    "mmd": lambda a, b: mmd(lambda x, y: x @ y.T, a, b),
    "sliced": lambda a, b: sliced(a, b, jnp.eye(a.shape[1], dtype=a.dtype)),
    "nearest": lambda a, b: nearest(a, b, 3)[0],
    "auroc": lambda a, b: auroc(a[:, 0], b[:, 0]),
    "tpr_at": lambda a, b: tpr_at(a[:, 0], b[:, 0], 0.1),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_measured_as_float32_is(name: str, kind: Any):
    a, b = (points(40, 4).astype(kind) for _ in range(2))
    half = MEASURES[name](a, b)
    single = MEASURES[name](a.astype(jnp.float32), b.astype(jnp.float32))
    for x, y in zip(jax.tree.leaves(half), jax.tree.leaves(single), strict=True):
        assert np.isfinite(np.asarray(y)).all()
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Fidelity", "Memorisation", "Points", "Tabular", "Regression"])
def test_rows_and_features_of_half_precision_give_what_they_give_as_float32(name: str):
    case: Case = CASES[name]()
    halved = lambda tree: jax.tree.map(  # noqa: E731
        lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
    again = lambda tree: jax.tree.map(  # noqa: E731
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, tree
    )

    def measured(rows: Any, reference: Any, prepared: Any) -> Any:
        def call(rows: Any, reference: Any, prepared: Any) -> Any:
            learned = {case.probe: prepared}
            view = View(jnp.int32(0), case.params, Pool.of(rows), rows, reference, case.generator, None, learned)
            return case.probe(KEY, view)

        if isinstance(reference, dict):  # how many labels there are must be known when it is compiled
            return call(rows, reference, prepared)
        return jax.jit(call)(rows, reference, prepared)

    given = tuple(map(halved, (case.rows, case.reference, case.prepared)))
    for x, y in zip(jax.tree.leaves(measured(*given)), jax.tree.leaves(measured(*map(again, given))), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y), rtol=1e-4, atol=1e-5)


def in_half(rows: Any) -> jax.Array:
    """A feature space of half precision, as a network that computes in it gives."""
    return flat(rows).astype(jnp.bfloat16)


def rectified(rows: Any) -> jax.Array:
    """A feature space that swallows what is no number."""
    x = flat(rows)
    return jnp.where(x > 0, x, 0.0)


def test_a_feature_space_of_half_precision_is_embedded_as_float32_and_one_that_swallows_nan_does_not_hide_it():
    rows = points()
    view = View(jnp.int32(0), None, Pool.of(rows), rows, rows, Gaussian(3))
    assert view.embed(in_half, rows).dtype == jnp.float32
    assert np.array_equal(view.embed(in_half, rows), np.asarray(rows.astype(jnp.bfloat16), np.float32))
    found = np.asarray(view.embed(rectified, rows.at[2, 1].set(jnp.nan)))
    assert np.isnan(found[2]).all() and np.isfinite(np.delete(found, 2, 0)).all()
