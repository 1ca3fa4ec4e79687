"""Random numbers against their distributions, and what makes a chain reproducible."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import OPTIMISED, assert_mean
from scipy import stats

from simulator.numerics import chance, compiling, selection
from simulator.numerics.selection import summed, until
from simulator.pool import Pool

KEY = jax.random.key(3)
choose = jax.jit(selection.choose, static_argnums=2)
draw = jax.jit(selection.draw, static_argnums=2)
nth = jax.jit(selection.nth)


@pytest.mark.parametrize(
    ("drawn", "law"), [(chance.normal, "norm"), (chance.uniform, "uniform"), (chance.exponential, "expon")]
)
def test_distributions(drawn, law: str):
    found = np.asarray(drawn(KEY, (500, 401)), np.float64).ravel()
    assert stats.kstest(found, law).pvalue > 1e-3
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / np.sqrt(len(found))
    half = len(found) // 2  # the two words of a block
    assert abs(np.corrcoef(found[:half], found[half : 2 * half])[0, 1]) < 5 / np.sqrt(half)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 40, 999])
def test_chi_square(freedom: int):
    found = np.asarray(chance.chi_square(KEY, jnp.full(200_000, freedom)), np.float64)
    assert stats.kstest(found, "chi2", (freedom,)).pvalue > 1e-3
    assert_mean(found, freedom)
    assert_mean((found - freedom) ** 2, 2 * freedom)


def test_no_degree_of_freedom_is_nothing():
    assert (chance.chi_square(KEY, jnp.zeros(4)) == 0).all()


@pytest.mark.parametrize("probs", [[0.5, 0.0, 0.2, 0.3], [0.1, 0.9], [0.2] * 5, [1.0, 0.0, 0.0]])
def test_multinomial(probs: list[float]):
    keys = jax.random.split(KEY, 20_000)
    found = np.asarray(jax.jit(jax.vmap(lambda k: chance.multinomial(k, 9, jnp.array(probs))))(keys))
    p = np.array(probs)
    assert (found.sum(1) == 9).all() and (found == np.round(found)).all() and (found[:, p == 0] == 0).all()
    some = (p > 0) & (p < 1)
    if some.any():
        assert_mean(found[:, some], 9 * p[some])
        centred = found - 9 * p
        second = centred[:, :, None] * centred[:, None, :]  # [draws, size, size]
        assert_mean(second[:, some][:, :, some], (9 * (np.diag(p) - np.outer(p, p)))[some][:, some])


def test_rare_cells_have_their_share_of_a_multinomial():
    """One less a share of 2^-26 is 1, so that of two sides the rarer has to be drawn, on the left and on the right."""
    p = np.array([1.0, 2.0**-14, 2.0**-26, 0.0], np.float64)
    for probs in (p, p[::-1]):
        many = jax.jit(jax.vmap(lambda k, probs=probs: chance.multinomial(k, 2**20, jnp.array(probs, jnp.float32))))
        found = np.asarray(many(jax.random.split(KEY, 20_000)), np.float64)
        assert (found.sum(1) == 2**20).all() and not found[:, probs == 0].any()
        rare = (probs > 0) & (probs < 1)
        assert_mean(found[:, rare], (2**20 * probs / probs.sum())[rare])


def test_numbers_do_not_depend_on_how_they_are_drawn():
    keys = jax.random.split(KEY, 5)
    for drawn in (
        lambda k: chance.normal(k, (7,)),
        lambda k: chance.chi_square(k, jnp.arange(1, 9)),
        lambda k: chance.multinomial(k, 30, jnp.full(6, 1 / 6)),
    ):
        one = jax.jit(drawn)
        alone = jnp.stack([one(k) for k in keys])
        assert np.allclose(jax.jit(jax.vmap(drawn))(keys), alone, rtol=1e-6)
        assert np.allclose(jax.lax.map(drawn, keys), alone, rtol=1e-6)
        assert not np.allclose(alone[0], alone[1])


@pytest.mark.parametrize("drawn", [chance.uniform, chance.exponential, chance.normal], ids=lambda f: f.__name__)
def test_bits_are_the_same_outside_a_program_and_in_a_loop_of_one(drawn: Callable[..., jax.Array]):
    """Real rows are served from outside, and their copies are compared with them."""
    keys = jax.random.split(KEY, 20)
    alone = np.stack([drawn(k, (50, 2)) for k in keys])
    assert np.array_equal(jax.jit(lambda: jax.lax.map(lambda k: drawn(k, (50, 2)), keys))(), alone)
    assert np.array_equal(jax.jit(jax.vmap(lambda k: drawn(k, (50, 2))))(keys), alone)


@pytest.mark.parametrize("size", [1, 7, 16, 33])
def test_exponentials_made_block_by_block_are_those_made_at_once(size: int):
    keys = jax.random.split(KEY, 3)
    once = np.stack([chance.exponential(k, (size,)) for k in keys])
    assert np.array_equal(jax.vmap(lambda k: chance.exponentials(k, size, block=8))(keys), once)
    most = jnp.array([0, size // 2, size])  # another one in each chain
    first = jax.vmap(lambda k, most: chance.exponentials(k, size, 8, most))(keys, most)
    there = jnp.arange(size) < most[:, None]
    assert np.array_equal(first[there], once[there]) and (first >= 0).all()


def test_keys_are_those_of_the_library():
    folded = [jax.random.fold_in(KEY, i) for i in range(3)]
    data = jax.random.key_data
    for i, key in enumerate(folded):
        assert np.array_equal(data(chance.fold_in(KEY, i)), data(key))
    for n in (2, 3):
        assert np.array_equal(data(chance.split(KEY, n)), data(jax.random.split(KEY, n)))


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_other_kinds_give_the_same_numbers_however_they_are_mapped(kind: str):
    keys = jax.vmap(lambda i: jax.random.key(i, impl=kind))(jnp.arange(3))
    drawn = lambda k: chance.normal(chance.fold_in(k, 4), (1000,))  # noqa: E731
    alone = np.stack([drawn(k) for k in keys])
    assert np.allclose(jax.vmap(drawn)(keys), alone, rtol=1e-6)
    assert stats.kstest(alone.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(np.asarray(chance.uniform(keys[0], (1000,))), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(alone) - np.eye(3)).max() < 5 / np.sqrt(1000)
    plain = chance.multinomial(keys[0], 50, jnp.full(4, 0.25))
    assert plain.sum() == 50


@pytest.mark.parametrize("drawn", [chance.words, chance.uniform, chance.exponential, chance.normal, chance.pairs])
def test_few_numbers_are_the_first_of_many(drawn: Any):
    for kind in (None, "rbg"):
        key = jax.random.key(5, impl=kind)
        many = np.asarray(drawn(key, (99,)))
        for n in (1, 2, 7, 50):
            few = np.asarray(drawn(key, (n,)))  # a logarithm may differ in its last bit with the length of a vector
            assert (
                np.allclose(few, many[..., :n], rtol=3e-7) if few.dtype == np.float32 else (few == many[..., :n]).all()
            )


ENDS = np.r_[0:40, 2**10, 2**20, 2**31 - 5 : 2**31 + 5, 2**32 - 40 : 2**32].astype(np.uint32)


def test_normals_follow_their_law_to_the_ends_of_32_bits():
    """Word w is the quantile (w + 1/2) / 2^32, of w as a signed number from the middle."""
    word = np.r_[ENDS, np.random.default_rng(0).integers(0, 2**32, 100_000)].astype(np.uint32)
    signed = word.astype(np.int32).astype(np.int64)
    step = np.where(signed < 0, ~signed, signed)  # from the middle
    tail = (2**31 - step - 0.5) / 2**32
    expected = np.where(signed < 0, -1, 1) * stats.norm.isf(tail)
    found = np.asarray(chance._normal(jnp.asarray(word)), np.float64)
    assert np.allclose(found, expected, rtol=1e-6, atol=0) and found.max() > 6.3 and found.min() < -6.3


def test_exponentials_follow_their_law_to_the_ends_of_64_bits():
    x, y = (a.ravel() for a in np.meshgrid(ENDS, np.r_[ENDS[:5], ENDS[-5:], 12345].astype(np.uint32)))
    half = ((x >> 1).astype(np.float64) + ((y >> 1) | 1) * 2.0**-32) * 2.0**-32  # of the mass
    expected = np.where(x & 1, -np.log(half), -np.log1p(-half))
    found = np.asarray(chance._exponential(jnp.asarray(x), jnp.asarray(y)), np.float64)
    assert np.allclose(found, expected, rtol=1e-6, atol=0) and found.min() < 1e-18 and found.max() > 43


def test_rare_tosses_come_as_often_as_they_should():
    p = jnp.array([0.0, 2.0**-27, 2.0**-20, 1.0])
    tosses = lambda key: jax.vmap(lambda p: chance.bernoulli(key, p, (2**20,)).sum())(p)  # noqa: E731
    counts = jax.jit(lambda keys: jax.lax.map(tosses, keys).sum(0), compiler_options=OPTIMISED)(
        jax.random.split(jax.random.key(0), 64)
    )
    assert counts[0] == 0 and counts[-1] == 2**26
    assert counts[1] <= 5  # 0.5 expected, where a uniform float with steps of 2^-23 gives 8
    assert abs(counts[2] - 64) < 4 * 8


def test_nth_finds_the_set_bits_in_order():
    chosen = np.random.default_rng(0)
    for size in (1, 31, 32, 33, 1000):
        for share in (0.0, 0.03, 0.5, 1.0):
            mask = chosen.random(size) < share
            found = np.asarray(nth(jnp.asarray(mask), jnp.arange(40)))
            expected = np.nonzero(mask)[0][:40]
            assert (found[: len(expected)] == expected).all() and (found[len(expected) :] == size).all()


def test_chosen_rows_are_drawn_in_proportion_without_replacement():
    weight = np.array([1.0, 2.0, 3.0, 0.0, 4.0])
    keys = jax.random.split(KEY, 100_000)
    found = np.asarray(jax.jit(jax.vmap(lambda k: choose(k, jnp.asarray(weight, jnp.float32), 2)))(keys))
    assert (found.sum(1) == 2).all() and not found[:, 3].any()
    first = weight / weight.sum()
    second = [sum(first[j] * weight[i] / (weight.sum() - weight[j]) for j in range(5) if j != i) for i in range(5)]
    kept = weight > 0
    assert_mean(found[:, kept], (first + second)[kept])


def test_bartlett_draws_a_scatter_that_knows_nothing_of_the_mean_beside_it():
    """All entries below the diagonal, squares on it and normals beside it are independent, and so are their squares."""
    keys = jax.random.split(KEY, 40_000)
    freedom = jnp.array([9.0, 8.0, 7.0])
    below, square, z = jax.vmap(lambda k: chance.bartlett(k, freedom))(keys)
    low = below[:, *np.tril_indices(3, -1)]  # [draws, 3]
    for power in (1, 2):
        parts = np.concatenate([np.asarray(low) ** power, np.asarray(square), np.asarray(z) ** power], 1)  # [draws, 9]
        parts = (parts - parts.mean(0)) / parts.std(0)
        pairs = np.triu_indices(9, 1)
        assert_mean(parts[:, pairs[0]] * parts[:, pairs[1]], np.zeros(36))


def test_chosen_are_those_that_wait_least():
    weight = jnp.where(jnp.arange(70) % 7 == 0, 0.0, jnp.arange(70) / 30.0)  # 60 weigh something
    some = jax.jit(lambda key, n: selection.choose(key, weight, n))
    for key in jax.random.split(KEY, 5):
        waits = np.asarray(chance.exponential(chance.fold_in(key, 0), (70,)) / (weight / weight.max()))
        order = np.argsort(np.where(weight > 0, waits, np.inf))
        for n in (0, 1, 2, 30, 59, 60):
            assert sorted(order[:n]) == np.flatnonzero(some(key, n)).tolist()
        assert np.array_equal(some(key, 69), weight > 0)


def test_rows_of_tiny_weight_are_chosen_as_rarely_as_they_weigh():
    """Among rows a billion times heavier none is expected; waits of 23 bits would be 0 for eight of them."""
    weight = jnp.where(jnp.arange(2**16) % 1024 == 0, 1.0, 1e-9)  # 64 heavy rows
    count = jax.jit(lambda k: (choose(k, weight, 32) & (weight < 1)).sum(), compiler_options=OPTIMISED)
    assert sum(int(count(k)) for k in jax.random.split(KEY, 1000)) <= 2  # 0.05 expected


@pytest.mark.parametrize("scale", [1e-4, 1e-12, 1e-30])
def test_light_rows_are_chosen_in_proportion_once_heavy_ones_are_gone(scale: float):
    light = np.array([1.0, 2.0, 3.0, 4.0])
    weight = jnp.asarray(np.r_[np.ones(8), scale * light, 0.0], jnp.float32)
    found = np.asarray(jax.jit(jax.vmap(lambda k: choose(k, weight, 9)))(jax.random.split(KEY, 50_000)))
    assert (found.sum(1) == 9).all() and not found[:, -1].any()
    if scale < 1e-6:
        assert found[:, :8].all()
        assert_mean(found[:, 8:12], light / light.sum())


def test_of_rows_that_wait_equally_long_none_is_favoured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(selection, "exponentials", lambda key, size, most: jnp.ones(size))
    weight = jnp.where(jnp.arange(90) % 9 < 7, 2.0, 0.0)  # 70 rows
    for n in (1, 20, 69):
        chosen = jax.jit(jax.vmap(lambda k, n=n: selection.choose(k, weight, n)))
        found = np.asarray(chosen(jax.random.split(KEY, 20_000)))
        assert (found.sum(1) == n).all() and not found[:, np.asarray(weight) == 0].any()
        assert_mean(found[:, np.asarray(weight) > 0], np.full(70, n / 70))


@pytest.mark.parametrize("size", [2500, 9000])
def test_rare_rows_are_drawn_as_often_as_they_weigh(size: int):
    """Of rows of 10^-8 of the mass each, which no float of a running sum tells from nothing."""
    weight = np.ones(size)
    rare = np.arange(1, 2001, 2)  # each beside a common one
    weight[rare] = 1e-8 * size
    mass = jnp.asarray(weight, jnp.float32)
    some = jax.jit(lambda k: jnp.zeros(size).at[draw(k, mass, (2**20,))].add(1), compiler_options=OPTIMISED)
    count = np.sum([some(k) for k in jax.random.split(KEY, 16)], 0)[rare]
    mean = 16 * 2**20 * weight[rare] / weight.sum()  # 0.17 of each
    assert abs(count.sum() - mean.sum()) < 5 * np.sqrt(mean.sum())
    # Were some lost and others drawn in their place, more rows would be drawn twice.
    twice, expected = (count * (count - 1)).sum() / 2, (mean**2).sum() / 2  # 14
    assert abs(twice - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("size", [5, 300, 5000])
def test_every_row_is_found_on_its_stretch_of_the_mass(size: int):
    """Of 64-bit sums, to a fiftieth of the stretch at both ends, down to 10^-11 of the mass."""
    random = np.random.default_rng(0)
    weight = (10.0 ** random.uniform(-9, 0, size) * (random.random(size) < 0.8)).astype(np.float32)
    weight[-1] = 1.0
    high, low = selection.tree(jnp.asarray(weight))
    end = np.cumsum(weight.astype(np.float64))
    sharp = np.flatnonzero(weight > 1e-11 * end[-1])
    assert len(sharp) > 0.7 * size and abs(float(high[0]) + float(low[0]) - end[-1]) < 1e-13 * end[-1]
    for inside in (0.02, 0.5, 0.98):
        aim = (end - (1 - inside) * weight)[sharp]
        top = aim.astype(np.float32)
        found = selection.locate(
            lambda i: (high[i], low[i]), size, (jnp.asarray(top), jnp.asarray(aim - top, jnp.float32))
        )
        assert np.array_equal(found, sharp)


def test_a_part_of_a_mass_has_48_bits():
    part, mass = selection.fraction(KEY, (1000,)), (jnp.float32(1234.567), jnp.float32(3.1e-5))
    found = selection.times(part, mass)
    exact = [np.asarray(pair[0], np.longdouble) + np.asarray(pair[1], np.longdouble) for pair in (part, mass, found)]
    assert np.abs(exact[2] - exact[0] * exact[1]).max() < 2.0**-45 * 1234.567


def test_room_at_the_end_changes_no_draw():
    weight = jax.random.uniform(KEY, (77,)) * (jnp.arange(77) % 5 > 0)
    for room in (78, 128, 129, 1000):
        wide = jnp.pad(weight, (0, room - 77))
        assert np.array_equal(draw(KEY, wide, (500,)), draw(KEY, weight, (500,)))
        assert np.array_equal(choose(KEY, wide, 20)[:77], choose(KEY, weight, 20))


def test_sums_in_blocks_leave_nothing_out():
    rows = jax.random.normal(KEY, (9000, 2))
    for weight in (
        jnp.ones(9000),
        jnp.where(jnp.arange(9000) < 2100, 0.5, 0.0),
        jnp.where(jnp.arange(9000) > 8990, 1.0, 0.0),
    ):
        found = summed(lambda w, x: (w.sum(), w @ x), weight, rows)
        assert np.allclose(found[0], weight.sum()) and np.allclose(found[1], weight @ rows, atol=1e-3)


@pytest.mark.parametrize("size", [1, 1025, 2048, 5000, 1 << 15, (1 << 15) + 1, 100_000])
def test_the_last_slot_that_weighs_something(size: int):
    for end in {0, 1, size // 2, size - 1, size, min(size, 1 << 15), max(0, size - (1 << 15))}:
        weight = jnp.where(jnp.arange(size) % 3 == (end - 1) % 3, jnp.arange(size) < end, False).astype(jnp.float32)
        assert until(weight) == end
        both = jax.vmap(until)(jnp.stack([weight, jnp.ones(size)]))
        assert both.tolist() == [end, size]


@pytest.mark.parametrize("n", [0, 1, 7, 300, 500])
def test_as_many_are_chosen_as_asked_even_where_waits_tie(n: int):
    weight = jnp.where(jnp.arange(400) % 4 > 0, 1.0, 0.0)  # 300 rows
    assert choose(KEY, weight, n).sum() == min(n, 300)
    tied = choose(KEY, weight * jnp.finfo(jnp.float32).max, n)  # every wait underflows to 0
    assert tied.sum() == min(n, 300) and not tied[::4].any()


def test_a_compact_pool_holds_what_weighs_something():
    whole = Pool.of(jnp.arange(100.0)).weighed(jnp.where(jnp.arange(100) % 9 == 0, 2.0, 0.0))
    compact = whole.compact(15)
    held = np.asarray(compact.filled)
    assert held.sum() == 12 and np.asarray(compact.rows)[held].tolist() == list(range(0, 100, 9))
    assert compact.weight.sum() == whole.weight.sum() and (compact.weight[~held] == 0).all()


@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.gumbel, chance.normal, chance.exponential])
def test_numbers_do_not_depend_on_how_a_program_is_compiled(draw, monkeypatch: pytest.MonkeyPatch):
    keys = jax.random.split(jax.random.key(0), 3)
    draws = jax.vmap(lambda key: draw(key, (37, 5)))
    assert compiling.options() == {}, "a level that is named holds"
    monkeypatch.delenv("XLA_FLAGS")
    piece = jax.jit(draws, compiler_options=compiling.options())
    usual = jax.jit(lambda keys: draws(keys), compiler_options={"xla_backend_optimization_level": 3})
    # From jax 0.11 on, LLVM joins other products and sums at level 3 where vectors are of 512 bits: last digits.
    ulps = 0 if jax.__version_info__ < (0, 11) else 16
    np.testing.assert_array_max_ulp(np.asarray(piece(keys)), np.asarray(usual(keys)), ulps)
