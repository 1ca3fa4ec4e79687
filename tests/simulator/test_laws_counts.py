"""Thousands of chains that count against closed forms (simulator/theory/counts.py), and fits against references."""

from collections import Counter
from itertools import pairwise, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from conftest import assert_mean
from sklearn.naive_bayes import CategoricalNB

from generators.bernoulli import Bernoulli
from generators.categorical import Categorical
from generators.exponential import Exponential
from generators.ngram import Ngram, NgramParams
from generators.poisson import Poisson
from simulator import Chain, GenlossError, Pool, Recipe, Truth, ensemble, simulate, theory
from simulator.recipe import Accumulate, Mix, Replace, Select, Subsample, Then
from simulator.sources.text import Text

CHAINS = 3000


def learned(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return view.params._asdict()


def run(
    generator: Any,
    n: int,
    generations: int,
    recipe: Recipe | None = None,
    truth: Any = None,
    chains: int = CHAINS,
    **fields: Any,
) -> dict[str, np.ndarray]:
    """Fitted parameters of many chains that start on n real rows, leaves [chains, generations, ...]."""
    fields = {"real": n, "rows": n, "recipe": recipe or Replace(), **fields}
    chain = Chain(source=Truth(truth or generator), generator=generator, probes={"learned": learned}, **fields)
    keys = jax.random.split(jax.random.key(0), chains)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys)["learned"]
    return {name: np.asarray(value) for name, value in found.items()}


def shares(generator: Categorical) -> np.ndarray:
    """The true probabilities [size]."""
    mass = np.arange(1, generator.size + 1) ** -float(generator.zipf)
    return mass / mass.sum()


def heterozygosity(probs: np.ndarray) -> Any:
    return 1 - (probs.astype(np.float64) ** 2).sum(-1)


@pytest.mark.quick("generator1-6")
@pytest.mark.parametrize(("generator", "n"), [(Categorical(4, zipf=1.0), 9), (Categorical(11, zipf=0.3), 6)])
def test_loss_survival_and_heterozygosity_are_those_of_wright_and_fisher(generator: Categorical, n: int):
    truth = shares(generator)
    long = run(generator, n, 160)["probs"]  # [chains, generations, size]
    found, alive = long[:, :15], long[:, :15] > 0
    assert_mean(~alive[:, 0], theory.category_loss(truth, n))
    assert_mean(alive[:, 0].sum(1), theory.expected_distinct(truth, n))
    assert_mean((~alive[:, 0] * truth).sum(1), theory.missing_mass(truth, n))
    assert_mean(heterozygosity(found), theory.replace_heterozygosity(n, 15, heterozygosity(truth)))
    assert_mean(alive, np.stack([theory.category_survival(p, n, 15) for p in truth], -1))
    assert_mean(alive.sum(-1), theory.expected_support(truth, n, 15))
    assert_mean((found == 1).any(-1)[:, 5:], theory.fixation(truth, n, 15)[5:])
    assert_mean(1 + (long.max(-1) < 1).sum(-1), theory.mean_fixation_time(truth, n))
    assert (long[:, -1] == 1).any(-1).all()
    assert ((long[:, 1:] > 0) <= (long[:, :-1] > 0)).all(), "a lost category came back"


@pytest.mark.quick("generator1-12")
@pytest.mark.parametrize(("generator", "n"), [(Categorical(4, zipf=0.5), 3), (Categorical(9), 12)])
def test_accumulated_counts_lose_a_bounded_share_of_heterozygosity(generator: Categorical, n: int):
    found = heterozygosity(run(generator, n, 15, Accumulate())["probs"])
    assert_mean(found, theory.accumulate_heterozygosity(n, 15, heterozygosity(shares(generator))))


@pytest.mark.quick("generator1-8-0.5")
@pytest.mark.parametrize(("generator", "n", "share"), [(Categorical(4), 10, 0.3), (Categorical(7, zipf=1.0), 8, 0.5)])
def test_a_fresh_share_holds_heterozygosity(generator: Categorical, n: int, share: float):
    recipe = Mix(real=share, size=n, fresh=True)
    found = heterozygosity(run(generator, n, 10, recipe, fresh=round(share * n))["probs"])
    start = heterozygosity(shares(generator))
    assert_mean(found, theory.fresh_heterozygosity(n, share, 10, start))
    limit = theory.fresh_heterozygosity_limit(n, share, start)
    assert theory.fresh_heterozygosity(n, share, 300, start)[-1] == pytest.approx(limit)


def test_heterozygosity_obeys_the_gaussian_law_of_subsampling():
    generator = Categorical(5)
    found = heterozygosity(run(generator, 6, 10, Then(Accumulate(), Subsample(6)))["probs"])
    assert_mean(found, 0.8 * theory.subsample_variance(6, 10))


@pytest.mark.quick("6-15-0.25")
@pytest.mark.parametrize(("size", "n", "smoothing"), [(6, 15, 0.25), (12, 8, 1.5)])
def test_smoothed_concentration_follows_its_recursion(size: int, n: int, smoothing: float):
    found = 1 - heterozygosity(run(Categorical(size, smoothing), n, 12, truth=Categorical(size, zipf=1.0))["probs"])
    start = 1 - heterozygosity(shares(Categorical(size, zipf=1.0)))
    assert_mean(found, theory.smoothed_concentration(size, n, smoothing, 12, start))
    limit = theory.smoothed_concentration_limit(size, n, smoothing)
    assert theory.smoothed_concentration(size, n, smoothing, 2000, start)[-1] == pytest.approx(limit)


def test_smoothed_concentration_ends_where_it_stays():
    assert theory.smoothed_concentration_limit(10, 30, 0.1) == pytest.approx(0.396703, abs=5e-7)


@pytest.mark.parametrize("exponent", [1.6, 2.0, 3.0])
def test_missing_mass_of_zipf_tends_to_its_power_law(exponent: float):
    size = 10**6
    mass = np.arange(1, size + 1) ** -exponent
    tail = size ** (1 - exponent) / (exponent - 1)  # categories beyond, all missed
    draws = np.array([100, 1000, 10_000])
    whole = mass.sum() + tail
    exact = np.array([theory.missing_mass(mass / whole, n) + tail / whole for n in draws])
    error = np.abs(theory.zipf_missing_mass(exponent, draws) / exact - 1)
    assert (np.diff(error) < 0).all() and error[-1] < 0.005


def test_missing_mass_of_a_long_tail_is_its_sum():
    """Categories beyond 4,096 are drawn in two steps; the law is the same."""
    generator = Categorical(5000, zipf=1.3)
    lost = run(generator, 300, 1, chains=500)["probs"][:, 0] == 0
    assert_mean(lost @ shares(generator), theory.missing_mass(shares(generator), 300))


def test_time_to_fixation_is_that_of_the_chain_of_counts():
    assert theory.mean_fixation_time(np.array([0.5, 0.5]), 20) == pytest.approx(26.2295, abs=5e-5)
    for n in (10, 20, 50, 100):
        assert theory.mean_fixation_time(np.full(10_000, 1e-4), n) == pytest.approx(2 * n * (1 - 1 / n), rel=0.05)
    # Two categories: (I - Q)^-1 1 of the textbook, from the transition matrix of another implementation.
    n, inner = 12, np.arange(1, 12)
    stay = scipy.stats.binom.pmf(inner, n, inner[:, None] / n)
    times = np.linalg.solve(np.eye(n - 1) - stay, np.ones(n - 1))
    for x in inner:
        assert theory.mean_fixation_time(np.array([x, n - x]) / n, n) == pytest.approx(times[x - 1])


@pytest.mark.quick("0.4-6")
@pytest.mark.parametrize(("p", "n"), [(0.07, 15), (0.4, 6)])
def test_a_coin_lands_on_one_side_at_the_rate_of_the_chain_of_counts(p: float, n: int):
    found = run(Bernoulli(p), n, 20)["prob"]
    assert_mean(found, np.full(20, p))
    assert_mean(2 * found * (1 - found), theory.replace_heterozygosity(n, 20, 2 * p * (1 - p)))
    assert_mean(found > 0, theory.category_survival(p, n, 20))
    assert_mean((found == 0) | (found == 1), theory.fixation(np.array([p, 1 - p]), n, 20))


def test_a_rare_side_survives_as_the_chain_of_counts_says():
    survival = theory.category_survival(0.01, 100, 50)
    assert survival[[0, 9, 49]] == pytest.approx([0.63397, 0.16139, 0.04112], abs=5e-6)


@pytest.mark.quick("7-0.5")
@pytest.mark.parametrize(("n", "rate"), [(5, 0.6), (7, 0.5)])
def test_a_rate_dies_out_as_a_branching_process(n: int, rate: float):
    found = run(Poisson(rate), n, 15)["rate"]
    assert_mean(found > 0, theory.poisson_survival(n, rate, 15))
    assert_mean(found[:, :6], np.full(6, rate))
    assert_mean((found[:, :6] - rate) ** 2, np.arange(1, 7) * rate / n)
    assert ((found[:, 1:] > 0) <= (found[:, :-1] > 0)).all()


def test_survival_of_a_rate_follows_its_recursion():
    assert theory.poisson_survival(10, 1.0, 100)[[9, 99]] == pytest.approx([0.82139, 0.17752], abs=5e-6)


@pytest.mark.quick("30")
@pytest.mark.parametrize("n", [4, 30])
def test_the_mean_of_exponentials_stays_while_its_logarithm_falls(n: int):
    found = run(Exponential(), n, 20)["mean"].astype(np.float64)
    drift, spread = theory.exponential_log_mean(n, 20)
    assert_mean(np.log(found), drift)
    assert_mean((np.log(found) - drift) ** 2, spread)
    few = 3 if n < 10 else 10  # products have heavy tails
    assert_mean(found[:, :few], np.ones(few))
    assert_mean(found[:, :few] ** 2, theory.exponential_second_moment(n, few))


@pytest.mark.quick("15")
@pytest.mark.parametrize("n", [6, 15])
def test_accumulated_exponentials_keep_their_mean(n: int):
    found = run(Exponential(), n, 20, Accumulate())["mean"].astype(np.float64)
    assert_mean(found, np.ones(20))
    assert_mean(found**2, theory.exponential_second_moment(n, 20, accumulate=True))
    root = np.pi / np.sqrt(n)
    assert theory.exponential_second_moment(n, 10**6, True)[-1] == pytest.approx(np.sinh(root) / root, rel=1e-5)


@pytest.mark.quick("0.8")
@pytest.mark.parametrize("temperature", [0.8, 1.5])
def test_temperature_raises_probabilities_to_a_power_each_time(temperature: float):
    truth = Categorical(5, zipf=0.7)
    found = run(Categorical(5, temperature=temperature), 20_000, 4, truth=truth, chains=64)["probs"]
    assert_mean(found, theory.tempered(shares(truth), temperature, 4))


# Samples and fits.


@pytest.mark.quick("1", "7", "5000")
@pytest.mark.parametrize("size", [1, 7, 4096, 5000])
def test_a_category_of_probability_zero_is_never_drawn(size: int):
    weight = np.random.default_rng(0).uniform(1e-6, 1, size) * (np.arange(size) % 3 == 0)
    probs = jnp.asarray(weight / weight.sum(), jnp.float32)
    generator = Categorical(size)
    rows = np.asarray(generator.sample(jax.random.key(0), type(generator.init(jax.random.key(0)))(probs), 400_000))
    assert rows.min() == 0 and rows.max() < size and (weight[rows] > 0).all()
    counts, expected = np.bincount(rows, minlength=size)[weight > 0], 400_000 * np.asarray(probs)[weight > 0]
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert size == 1 or scipy.stats.chi2.sf(chi2, (weight > 0).sum() - 1) > 1e-4


@pytest.mark.parametrize("smoothing", [0.3, 2.0])
def test_categorical_fit_against_sklearn(smoothing: float):
    random = np.random.default_rng(1)
    rows, weight = random.integers(0, 9, 60), random.uniform(0, 3, 60)
    reference: Any = CategoricalNB(alpha=smoothing, min_categories=12)
    reference.fit(rows[:, None], np.zeros(60), sample_weight=weight)
    found = fit(Categorical(12, smoothing), rows, weight)
    assert np.allclose(np.log(found.probs), reference.feature_log_prob_[0][0], rtol=1e-5)


def fit(generator: Any, rows: np.ndarray, weight: np.ndarray) -> Any:
    pool = Pool.of(jnp.asarray(rows)).weighed(jnp.asarray(weight))
    return jax.jit(generator.fit)(jax.random.key(0), generator.init(jax.random.key(0)), pool)[0]


@pytest.mark.parametrize(
    ("generator", "reference", "rows"),
    [
        (Categorical(4, zipf=1.0), scipy.stats.rv_discrete(values=(range(4), [0.48, 0.24, 0.16, 0.12])), range(4)),
        (Bernoulli(0.3), scipy.stats.bernoulli(0.3), (0, 1)),
        (Poisson(2.5), scipy.stats.poisson(2.5), range(9)),
        (Exponential(), scipy.stats.expon(), (0.01, 0.5, 3.0)),
    ],
)
def test_log_prob_against_scipy(generator: Any, reference: Any, rows: Any):
    found = generator.log_prob(generator.init(jax.random.key(0)), jnp.array(rows))
    expected = reference.logpdf(rows) if isinstance(generator, Exponential) else reference.logpmf(rows)
    assert np.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("generator", [Bernoulli(), Poisson(), Exponential(), Categorical(3)])
def test_one_value_under_any_weights_is_learned_exactly(generator: Any):
    """What is fixed stays fixed: no rounding gives the others a chance."""
    rows = np.ones(1000, np.float32 if isinstance(generator, Exponential) else np.int32)
    weight = np.random.default_rng(2).uniform(0, 1, 1000)
    assert 1 in np.asarray(fit(generator, rows, weight)[0])


# Text.


ENGLISH = Text(length=24, vocabulary=50)
LETTERS = len(ENGLISH.alphabet)


def joint(found: dict[str, np.ndarray]) -> np.ndarray:
    """The probability of every n-gram at the beginning of a window, [chains, generations, vocabulary^order]."""
    table = found["start"][..., None].astype(np.float64) * found["next"]
    return table.reshape(*table.shape[:2], -1)


@pytest.mark.quick("2-3-20")
@pytest.mark.parametrize(
    ("vocabulary", "order", "n"),
    [pytest.param(6, 1, 14, marks=pytest.mark.slow), (4, 2, 9), pytest.param(2, 3, 20, marks=pytest.mark.slow)],
)
def test_windows_as_long_as_the_order_are_categories(vocabulary: int, order: int, n: int):
    found = run(Ngram(vocabulary, order, length=order), n, 8)
    start = 1 - 1 / vocabulary**order
    assert_mean(heterozygosity(joint(found)), theory.replace_heterozygosity(n, 8, start))


def test_a_unigram_counts_every_token():
    found = run(Ngram(5, 1, length=4), 3, 8)
    assert_mean(heterozygosity(found["next"][:, :, 0]), theory.replace_heterozygosity(12, 8, 0.8))


def test_the_start_counts_every_window():
    found = run(Ngram(3, 3, length=5), 10, 6)
    assert_mean(heterozygosity(found["start"]), theory.replace_heterozygosity(10, 6, 1 - 1 / 9))


@pytest.mark.quick("2")
@pytest.mark.parametrize("order", [1, 2, 3])
def test_samples_of_an_ngram_have_the_probability_it_gives_them(order: int):
    random = np.random.default_rng(3)
    following = random.dirichlet(np.ones(3), 3 ** (order - 1))
    following[0] = [0.0, 0.4, 0.6]
    params = NgramParams(jnp.asarray(random.dirichlet(np.ones(len(following))), jnp.float32), jnp.asarray(following))
    generator = Ngram(3, order, length=4)
    every = np.array(list(product(range(3), repeat=4)), np.int32)  # [81, 4]
    expected = np.exp(np.asarray(jax.jit(generator.log_prob)(params, jnp.asarray(every)), np.float64))
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    rows = np.asarray(generator.sample(jax.random.key(0), params, 30_000))
    said = (rows @ [27, 9, 3, 1])[:, None] == np.arange(81)
    assert not said[:, expected == 0].any() and (expected == 0).any()
    assert_mean(said[:, expected > 1e-4], expected[expected > 1e-4])


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_ngrams_of_a_text_against_counting(order: int, smoothing: float):
    rows = np.asarray(ENGLISH.draw(jax.random.key(0), 50))
    weight = np.random.default_rng(4).uniform(0, 2, 50).astype(np.float32)
    generator = Ngram(LETTERS, order, smoothing, length=24)
    found = fit(generator, rows, weight)
    grams: Counter[tuple[int, ...]] = Counter()
    starts: Counter[tuple[int, ...]] = Counter()
    for row, w in zip(rows.tolist(), weight.tolist(), strict=True):
        starts[tuple(row[: order - 1])] += w  # pyright: ignore[reportArgumentType]
        for i in range(24 - order + 1):
            grams[tuple(row[i : i + order])] += w  # pyright: ignore[reportArgumentType]
    contexts: Counter[tuple[int, ...]] = Counter()
    for gram, count in grams.items():
        contexts[gram[:-1]] += count
    following = np.asarray(found.next).reshape((LETTERS,) * order)
    for gram, count in grams.items():
        assert following[gram] == pytest.approx((count + smoothing) / (contexts[gram[:-1]] + LETTERS * smoothing), 1e-4)
    start = np.asarray(found.start).reshape((LETTERS,) * (order - 1))
    assert all(start[begin] == pytest.approx(w / weight.sum(), 1e-4) for begin, w in starts.items())
    assert np.allclose(following.sum(-1), 1, atol=1e-5) and start.sum() == pytest.approx(1, abs=1e-5)


def test_a_context_that_nothing_followed_is_followed_by_what_there_is():
    found = fit(Ngram(4, 2, length=3), np.array([[0, 1, 2], [0, 0, 2]]), np.array([1.0, 3.0]))
    assert np.allclose(found.next[2], [3 / 8, 1 / 8, 4 / 8, 0])  # 2 only ends windows; 3 is never said
    assert np.allclose(found.next[0], [3 / 7, 1 / 7, 3 / 7, 0])


def test_a_text_forgets_its_rare_ngrams():
    """Under replace no letter comes back and bigrams get fewer every generation; held-out text is never as likely again
    as it is to the model of real text, and accumulating forgets less.
    """

    def make(index: Any) -> Chain:
        return Chain(
            source=ENGLISH,
            generator=Ngram(LETTERS, 2),  # the length of windows comes from the source
            recipe=Select((Replace(), Accumulate()), index),
            probes={"text": remembered},
            real=200,
            rows=200,
        )

    found = ensemble(make, np.arange(2), jax.random.split(jax.random.key(0), 6), 8)["text"]
    replace, accumulate = ({name: np.asarray(value[i]) for name, value in found.items()} for i in range(2))
    said = replace["letters"]  # [chains, generations, vocabulary]
    assert (said[:, 1:] <= said[:, :-1]).all() and said[:, -1].sum() < said[:, 0].sum()
    assert all((after < before).all() for before, after in pairwise(replace["bigrams"].T))
    assert (accumulate["bigrams"][:, -1] > replace["bigrams"][:, -1]).all()
    assert (replace["held_out"][:, -1] < replace["held_out"][:, 0]).all()


def remembered(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """Which letters the samples have, how many different bigrams, and the share of held-out windows of 3 letters that
    are possible at all.
    """
    rows = view.synthetic  # [n, length]
    pairs = jnp.zeros((LETTERS, LETTERS)).at[rows[:, :-1], rows[:, 1:]].set(1.0)
    return {
        "letters": jnp.zeros(LETTERS).at[rows].set(1.0),
        "bigrams": pairs.sum(),
        "held_out": jnp.isfinite(view.generator.log_prob(view.params, view.reference[:, :3])).mean(),
    }


@pytest.mark.parametrize(
    "build",
    [
        lambda: Categorical(0),
        lambda: Categorical(3, smoothing=-1),
        lambda: Categorical(3, temperature=0),
        lambda: Bernoulli(1.5),
        lambda: Poisson(-1),
        lambda: Ngram(0),
        lambda: Ngram(256, 5),
        lambda: Ngram(4, 3, length=2),
        lambda: Ngram(4, smoothing=-0.1),
        lambda: Ngram(4).sample(jax.random.key(0), Ngram(4).init(jax.random.key(0)), 3),
        lambda: Ngram(LETTERS, 3).shaped(jnp.zeros((5, 2), jnp.int32)),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
