"""Contamination: exact counts, labels kept, one mask for all arms, and the one-step setting as a chain."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import VAE, Archive, Gaussian
from generators.nets.mlp import MLP
from simulator import Chain, Dataset, GenlossError, Pool, Truth, run, schedule, simulate
from simulator.chain import key_for
from simulator.numerics.chance import words
from simulator.pool import take
from simulator.probes import Downstream
from simulator.recipe import Select
from simulator.recipe.contamination import RATIOS, Contaminate
from simulator.sources.split import Split

ARMS = ("generated", "real", "nothing")
SIZES = (10, 25, 3)  # rows of each class among the first ones


def pool(t: int = 2, rows: tuple[int, ...] = SIZES, fresh: tuple[int, ...] = SIZES, older: int = 5) -> Pool:
    """The first rows, `older` ones a class of the generation before the last, written and fresh, then the last
    generation's and this one's fresh ones, in a random order each."""
    chance = np.random.default_rng(t)
    old = (older,) * 3
    blocks = [(SIZES, 0, 0), (old, 1, t - 2), (old, 0, t - 1 if t > 1 else -1), (rows, 1, t - 1), (fresh, 0, t)]
    label = np.concatenate([chance.permutation(np.repeat(np.arange(3), sizes)) for sizes, *_ in blocks])
    count = [sum(sizes) for sizes, *_ in blocks]
    origin, birth = (np.repeat([block[i] for block in blocks], count) for i in (1, 2))
    label, origin, birth = (np.append(a, [b, b]) for a, b in ((label, 0), (origin, 0), (birth, -1)))  # empty slots
    n = len(label)
    table = Pool(
        {"x": jnp.arange(n), "label": jnp.asarray(7 * label - 3)}, jnp.asarray(origin), jnp.asarray(birth), jnp.ones(n)
    )
    return table.weighed(jnp.ones(n))


def weights(recipe: Contaminate, shown: Pool, t: int = 2, seed: int = 0) -> np.ndarray:
    return np.asarray(shown.weighed(recipe(jax.random.key(seed), jnp.int32(t), shown)).weight)


def by_class(weight: np.ndarray, shown: Pool, there: Any = True) -> list[float]:
    label = np.asarray(shown.rows["label"])
    return [float(weight[(label == 7 * c - 3) & np.asarray(there)].sum()) for c in range(3)]


def masked(weight: np.ndarray) -> frozenset[int]:
    """Which of the first rows were replaced."""
    return frozenset(np.flatnonzero(weight[: sum(SIZES)] == 0).tolist())


@pytest.mark.parametrize("ratio", [*RATIOS, 0.5])
@pytest.mark.parametrize("by", ARMS)
def test_counts_are_exact_and_labels_are_kept(by: str, ratio: float):
    shown = pool()
    weight = weights(Contaminate(ratio, by=by), shown)  # pyright: ignore[reportArgumentType]
    replaced = [round(ratio * n) for n in SIZES]
    first = shown.real & (shown.birth == 0)
    others = {
        "generated": shown.synthetic & (shown.birth == 1),
        "real": shown.real & (shown.birth == 2),
        "nothing": shown.birth > 9,
    }
    assert by_class(weight, shown, first) == [n - q for n, q in zip(SIZES, replaced, strict=True)]
    assert by_class(weight, shown, others[by]) == ([0, 0, 0] if by == "nothing" else replaced)
    assert weight[~np.asarray(first | others[by])].sum() == 0 and set(weight) <= {0, 1}


@pytest.mark.parametrize("nested", [True, False])
def test_all_arms_have_one_mask(nested: bool):
    for ratio in RATIOS:
        masks = {masked(weights(Contaminate(ratio, nested=nested, by=by), pool())) for by in ARMS}  # pyright: ignore
        assert len(masks) == 1


def test_masks_are_nested_whatever_the_generation_and_the_room():
    masks = [masked(weights(Contaminate(ratio), pool())) for ratio in RATIOS]
    assert all(a < b for a, b in itertools.pairwise(masks))
    shown = pool()
    later = shown.replace(birth=jnp.where((shown.birth == 0) & shown.real, 0, shown.birth + 2))
    assert masked(weights(Contaminate(0.4), later, t=4, seed=5)) == masks[2]
    room = jax.tree.map(lambda a: jnp.concatenate([a, jnp.zeros_like(a[:9])]), shown)
    room = room.replace(birth=room.birth.at[-9:].set(-1))
    assert masked(weights(Contaminate(0.4), room)) == masks[2]


def test_what_replaces_is_nested_too():
    kept = [frozenset(np.flatnonzero(weights(Contaminate(r), pool())[sum(SIZES) :]).tolist()) for r in RATIOS]
    assert all(a < b for a, b in itertools.pairwise(kept))


def test_masks_that_are_not_nested_are_drawn_anew():
    recipe = functools.partial(Contaminate, nested=False)
    small, large = (masked(weights(recipe(ratio), pool())) for ratio in (0.4, 0.8))
    assert not small < large
    assert masked(weights(recipe(0.4), pool(), seed=1)) != small  # generations have keys of their own


def test_a_share_of_all_rows_keeps_labels_too():
    shown, uneven = pool(rows=(40, 40, 40)), 0
    for ratio in (0.3, 0.5, 0.7):
        weight = weights(Contaminate(ratio, stratified=False), shown)
        assert len(masked(weight)) == round(ratio * sum(SIZES)) and by_class(weight, shown) == list(SIZES)
        uneven += by_class(weight, shown, shown.real) != [n - round(ratio * n) for n in SIZES]
    assert uneven  # no class by class
    assert weights(Contaminate(1.0, stratified=False), shown)[: sum(SIZES)].sum() == 0


def test_too_few_replacements_weigh_more():
    shown = pool(rows=(2, 25, 0), older=0)
    weight = weights(Contaminate(0.8), shown)
    assert by_class(weight, shown) == [10, 25, 1]  # nobody wrote the last class: its two rows are lost
    assert sorted(set(weight)) == [0, 1, 4]
    half = shown.weighed(shown.weight * jnp.where(shown.real, 0.5, 3.0))  # weights that were shown are kept as mass
    assert by_class(weights(Contaminate(0.8), half), half) == [5, 12.5, 0.5]


def test_the_first_fit_eats_real_rows_and_ratios_may_change():
    rows = schedule("table", 0.9, 0.2, 0.0, 1.0)
    shown = pool(older=0)
    assert weights(Contaminate(0.8), shown.replace(birth=jnp.where(shown.birth > 0, -1, shown.birth)), t=0)[
        : sum(SIZES)
    ].all()
    found = [len(masked(weights(Contaminate(rows), pool(t), t=t))) for t in (1, 2, 3)]
    assert found == [sum(round(r * n) for n in SIZES) for r in (0.2, 0.0, 1.0)]
    traced = jax.vmap(lambda r: Contaminate(r)(jax.random.key(0), jnp.int32(2), shown))(jnp.array(RATIOS))
    assert np.array_equal(traced, np.stack([weights(Contaminate(r), shown) for r in RATIOS]))


def test_rows_without_labels_are_of_one_class():
    chain = Chain(
        source=Truth(Gaussian(2)), generator=Gaussian(2), recipe=Contaminate(0.3), real=20, rows=20, held_out=0
    )
    state, _ = chain.step(jax.random.key(0), chain.init(jax.random.key(1), 3))
    _, diet = chain.eat(jax.random.key(2), state, None)
    assert diet.capacity == 20 and diet.weight.sum() == 20 and int(diet.synthetic.sum()) == 6


def test_what_cannot_be_contaminated_is_said():
    with pytest.raises(GenlossError, match="between 0 and 1"):
        Chain(source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=Contaminate(40))
    with pytest.raises(GenlossError, match="set `fresh`"):
        Chain(source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=Contaminate(0.4, by="real"))
    with pytest.raises(GenlossError, match="generated, real or nothing"):
        wrong = Contaminate(0.4, by="others")  # pyright: ignore[reportArgumentType]
        Chain(source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=wrong)


# The one-step setting.


@dataclass(frozen=True)
class Negatives:
    """The digits with black and white exchanged, as a stored synthetic set."""

    @property
    def split(self) -> Split:
        real = Dataset.digits().split
        train = {**real.train, "image": 255 - real.train["image"]}
        return Split(train, real.test, real.classes, self.fingerprint)

    @property
    def fingerprint(self) -> str:
        return f"not {Dataset.digits().fingerprint}"


ROWS, RATIO = 100, 0.4


def one_step(generator: Any, by: str, fresh: int = ROWS) -> Chain:
    return Chain(
        source=Dataset.digits(),
        generator=generator,
        recipe=Contaminate(RATIO, by=by),  # pyright: ignore[reportArgumentType]
        probes={"downstream": Downstream(functools.partial(MLP, hidden=(16,)), steps=40)},
        real=ROWS,
        rows=ROWS,
        fresh=fresh,
    )


def mixed_by_hand(real: Any, others: Any, first_slot: int) -> Any:
    """Of each class the first real rows in a fixed order are exchanged for as many others: plain loops."""
    order = np.asarray(words(jax.random.key(0), (3 * ROWS,)))
    label, theirs = np.asarray(real["label"]), np.asarray(others["label"])
    kept, taken = list(range(ROWS)), []
    for c in range(10):
        mine = sorted(np.flatnonzero(label == c), key=lambda i: order[i])
        gone = mine[: round(RATIO * len(mine))]
        kept = [i for i in kept if i not in gone]
        taken += sorted(np.flatnonzero(theirs == c), key=lambda i: order[first_slot + i])[: len(gone)]
    parts = take(real, jnp.array(kept)), take(others, jnp.array(sorted(taken)))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *parts)


@pytest.mark.quick("real")
@pytest.mark.parametrize("by", ["generated", pytest.param("real", marks=pytest.mark.slow)])
def test_one_generation_of_a_frozen_generator_is_the_one_step_experiment(by: str):
    """To the bit: simulated, run, and mixed by hand."""
    chain, key = one_step(Archive(Negatives()), by), jax.random.key(3)
    stream = chain.init(key, 1).key
    real, fresh = chain.source.draw(stream, ROWS), chain.serve(stream, jnp.int32(1))
    mass = jnp.bincount(real["label"], length=10).astype(jnp.float32)
    keys = [jax.random.fold_in(key, t) for t in range(2)]
    said = [chain.model.sample(key_for(k, "sample"), mass, ROWS) for k in keys]
    slot = {"generated": ROWS, "real": 2 * ROWS}[by]
    mixed = mixed_by_hand(real, {"generated": said[0], "real": fresh}[by], slot)
    assert (np.bincount(mixed["label"]) == np.asarray(mass)).all()

    measure = jax.jit(lambda diet, said: chain.measure(keys[1], jnp.int32(1), mass, diet, said))
    by_hand = measure(Pool.of(mixed), said[1])
    for found in (simulate(chain, key, 2), run(chain, key, 2)):
        for name in ("accuracy", "class", "nll"):
            assert np.array_equal(found[f"downstream.diet.{name}"][1], by_hand[f"downstream.diet.{name}"])


@pytest.mark.slow
def test_the_loop_is_the_same_chain_with_a_live_generator():
    live = VAE(steps=10, chunk=10, batch=16, hidden=(16,), latent=3)
    chain, key = one_step(live, "generated", fresh=0), jax.random.key(3)
    state, step, eat = chain.init(key, 3), jax.jit(chain.step), jax.jit(lambda k, state: chain.eat(k, state, None))
    for t in range(2):
        state, _ = step(jax.random.fold_in(key, t), state)
        rows = take(state.pool.rows, jnp.arange(ROWS, 2 * ROWS))
        real = take(state.pool.rows, jnp.arange(ROWS))
        _, diet = eat(jax.random.fold_in(key, t + 1), state)
        enough = np.bincount(rows["label"], minlength=10) >= np.round(RATIO * np.bincount(real["label"], minlength=10))
        assert enough.all()
        mixed = mixed_by_hand(real, rows, ROWS)
        assert jax.tree.all(jax.tree.map(np.array_equal, diet.rows, mixed)) and (diet.weight == 1).all()


def test_arms_and_ratios_are_one_program():
    arms = tuple(Contaminate(RATIO, by=by) for by in ARMS)  # pyright: ignore[reportArgumentType]
    shown = pool()
    both = jax.jit(jax.vmap(lambda i: Select(arms, i)(jax.random.key(0), jnp.int32(2), shown)))(jnp.arange(3))
    assert np.array_equal(both, np.stack([weights(arm, shown) for arm in arms]))
