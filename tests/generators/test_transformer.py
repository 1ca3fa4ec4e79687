"""A language model: what it thinks of rows, what it says, and what its training moves."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_decoding import reference

from generators import Transformer
from generators.nets.decoder import gpt2
from simulator import Chain, GenlossError, Pool, Truth, run, schedule, simulate
from simulator.recipe import Replace
from simulator.sources.given import Prompts
from simulator.sources.text import Text

KEY = jax.random.key(0)
TINY = Transformer(
    vocabulary=4, length=3, network=gpt2(width=8, depth=1, heads=2), steps=4, chunk=2, batch=8, sample_batch=20_000
)
EVERY = np.array(list(itertools.product(range(4), repeat=3)), np.int32)  # all rows
ROWS = jnp.asarray(EVERY[np.random.default_rng(0).integers(0, 64, 40)])


@pytest.fixture(scope="module")
def params() -> Any:
    """Of a network that is sure of itself."""
    large = lambda path, a: a * (15 if path[-1].key in ("kernel", "embedding") else 1)  # noqa: E731
    return jax.tree_util.tree_map_with_path(large, jax.jit(TINY.init)(KEY))


def law(model: Transformer, params: Any) -> np.ndarray:
    """The probability of each of EVERY, a token at a time and without a cache."""
    begun = jnp.pad(jnp.asarray(EVERY[:, :2]), ((0, 0), (1, 0)), constant_values=4)
    logits = np.asarray(jax.jit(lambda params: model.merged(params)(begun))(params))[..., :4]
    found, penalty = np.ones(len(EVERY)), cast(float, model.repetition)
    for row, (said, p) in enumerate(zip(logits, found, strict=True)):
        for t in range(3):
            own = said[t].astype(np.float64)
            for token in set(EVERY[row, :t].tolist()):
                own[token] *= 1 / penalty if own[token] > 0 else penalty
            over = model.eos is not None and model.eos in EVERY[row, :t]
            cut: Any = (model.temperature, model.top_k, model.top_p, model.min_p)
            p *= EVERY[row, t] == model.eos if over else reference(own, *cut)[EVERY[row, t]]
        found[row] = p
    return found


SAID = {
    "plain": TINY,
    "ending": dataclasses.replace(TINY, eos=2),
    "cut": dataclasses.replace(TINY, temperature=1.5, top_k=3, top_p=0.95, min_p=0.1, repetition=1.3),
}


@pytest.mark.parametrize(("case", "given"), [("plain", True), ("ending", False), ("cut", False)])
def test_rows_are_said_by_the_law_of_the_network_and_its_cuts(case: str, given: bool, params: Any):
    """By the χ² statistic over all 64 rows, and over the 16 that begin so where the first token is given."""
    model, expected = SAID[case], law(SAID[case], params)
    first = jnp.full((20_000, 1), 3, jnp.int32) if given else None
    expected *= (EVERY[:, 0] == 3) if given else 1
    expected *= 20_000 / expected.sum()
    found = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, params, 20_000, first))
    assert found.dtype == np.int32
    counts = np.bincount(found @ np.array([16, 4, 1]), minlength=64)
    assert (counts[expected == 0] == 0).all()
    likely = expected > 5
    square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert likely.sum() > 5 and square < likely.sum() + 5 * np.sqrt(2 * likely.sum())


def test_log_prob_is_the_law_of_all_rows(params: Any):
    for case in ("plain", "ending"):
        model, expected = SAID[case], law(SAID[case], params)
        found = np.exp(jax.jit(model.log_prob)(params, jnp.asarray(EVERY)))
        padded = expected > 0  # of a row that has ended only what is padded can be asked
        assert np.allclose(found[padded], expected[padded], rtol=1e-4)
        assert found[padded].sum() == pytest.approx(1, abs=1e-5)
    blocks = jax.jit(dataclasses.replace(TINY, sample_batch=7).log_prob)(params, jnp.asarray(EVERY))
    assert np.allclose(np.exp(blocks), law(TINY, params), rtol=1e-4)


def test_every_token_is_foretold_from_the_states_of_those_before(params: Any):
    rows = jnp.asarray(EVERY)
    own, following, hidden = jax.jit(
        lambda p: (TINY.token_log_prob(p, rows), TINY.next_log_prob(p, rows), TINY.hidden(p, rows))
    )(params)
    following, hidden = np.asarray(following), np.asarray(hidden)
    assert np.allclose(np.exp(following).sum(2), 1, atol=1e-5) and hidden.shape == (64, 3, 8)
    assert np.allclose(np.take_along_axis(following, EVERY[..., None], 2)[..., 0], own, atol=1e-5)
    for i in range(3):  # of rows that begin alike, the same, and of others another
        known = (EVERY[:, :i] * 4 ** np.arange(i)).sum(1)
        for value in np.unique(known):
            assert np.ptp(hidden[known == value, i], axis=0).max() < 1e-5
        assert len(np.unique(hidden[:, i].round(4), axis=0)) == 4**i


def test_a_row_is_the_same_beside_any_others(params: Any):
    model = dataclasses.replace(TINY, temperature=0.9)
    whole = jax.jit(model.sample, static_argnums=2)(KEY, params, 30)
    part = dataclasses.replace(model, sample_batch=4)
    assert np.array_equal(jax.jit(part.sample, static_argnums=2)(KEY, params, 14), whole[:14])
    assert len({tuple(row) for row in whole.tolist()}) > 10


def test_numbers_of_sampling_are_swept_in_one_program(params: Any):
    def said(temperature: Any, top_p: Any) -> jax.Array:
        return dataclasses.replace(TINY, temperature=temperature, top_p=top_p).sample(KEY, params, 30)

    grid = jnp.array([[1.0, 1.0], [0.5, 1.0], [1.0, 0.7], [0.0, 1.0]])
    found = jax.jit(jax.vmap(lambda g: said(g[0], g[1])))(grid)
    assert np.array_equal(found[0], TINY.sample(KEY, params, 30))
    assert len({found[i].tobytes() for i in range(4)}) == 4
    assert len(np.unique(found[3], axis=0)) == 1  # the likeliest, always


def spoken(key: Any, view: Any) -> jax.Array:
    return view.synthetic


def test_a_schedule_of_sampling_is_its_number_in_each_generation(params: Any):
    """To the bit, in one program for all generations."""
    temperature, top_p = schedule("table", 1.0, 1.7, 0.0), schedule("step", 1.0, 0.9, 1)

    def chain(**fields: Any) -> Chain:
        model = dataclasses.replace(TINY, **fields)
        return Chain(source=Truth(TINY), generator=model, recipe=Replace(), real=40, rows=40, held_out=0)

    speak = jax.jit(chain(temperature=temperature, top_p=top_p).speak)
    for t, fields in enumerate([{"temperature": 1.0}, {"temperature": 1.7, "top_p": 0.9}, {"temperature": 0.0}]):
        said = speak(KEY, jnp.int32(t), params)
        assert np.array_equal(said, jax.jit(chain(**fields).speak)(KEY, jnp.int32(0), params))
        assert (len(np.unique(said, axis=0)) == 1) == (t == 2)
    with pytest.raises(GenlossError, match="in a chain alone"):
        dataclasses.replace(TINY, temperature=temperature).sample(KEY, params, 3)


@pytest.mark.slow
def test_a_schedule_is_followed_in_a_scan_and_from_the_host():
    """The likeliest row from generation 1 on, and all kinds of rows before it and at the end."""
    model = dataclasses.replace(TINY, temperature=schedule("table", 1.0, 0.0, 0.0, 1.0), sample_batch=16)
    chain = Chain(
        source=Truth(TINY), generator=model, recipe=Replace(), probes={"said": spoken}, real=40, rows=40, held_out=0,
    )  # fmt: skip
    said = simulate(chain, KEY, 4)["said"]
    assert np.array_equal(said, run(chain, KEY, 4)["said"])
    assert [len(np.unique(rows, axis=0)) == 1 for rows in said] == [False, True, True, False]


def test_beams_say_the_likeliest_row(params: Any):
    expected = law(TINY, params)
    assert EVERY[expected.argmax()].tolist() == dataclasses.replace(TINY, beams=64).sample(KEY, params, 1)[0].tolist()
    told = dataclasses.replace(TINY, beams=16).sample(KEY, params, 4, jnp.arange(4, dtype=jnp.int32)[:, None])
    for first, row in enumerate(told.tolist()):
        assert EVERY[np.where(EVERY[:, 0] == first, expected, 0).argmax()].tolist() == row


def test_the_loss_is_of_the_last_tokens_and_of_none_that_pads(params: Any):
    last, ending = dataclasses.replace(TINY, continuation=2), SAID["ending"]
    short = dataclasses.replace(ending, continuation=1)
    rows = jnp.array([[0, 2, 2], [1, 3, 0], [2, 2, 2]])
    text = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0]])

    @jax.jit
    def thought(params: Any) -> Any:
        each = {name: model.losses(KEY, params, rows) for name, model in models.items()}
        mean = {name: model.loss(KEY, params, rows) for name, model in models.items()}
        return each, mean, short.loss(KEY, params, rows[2:])

    models = {"plain": TINY, "last": last, "ending": ending, "short": short}
    each, mean, none = thought(params)
    plain = np.asarray(each["plain"])  # [3, 3]
    assert np.allclose(np.exp(-plain.sum(1)), law(TINY, params)[np.asarray(rows) @ np.array([16, 4, 1])], rtol=1e-4)
    assert np.allclose(each["last"], plain[:, 1:], atol=1e-5)
    assert float(mean["last"]) == pytest.approx(float(plain[:, 1:].mean()), abs=1e-5)
    assert np.allclose(each["ending"], plain * text, atol=1e-5)
    assert float(mean["ending"]) == pytest.approx((plain * text).sum() / text.sum(), abs=1e-5)
    assert float(mean["short"]) == pytest.approx(plain[1, 2], abs=1e-5)
    assert float(none) == 0  # and not 0 / 0


def test_weights_decay_where_they_are_matrices():
    """AdamW's step without a gradient is -rate·decay·W, and of biases and norms nothing."""
    params = jax.jit(TINY.init)(KEY)
    rule = dataclasses.replace(TINY, decay=0.5).rule(lambda _: jnp.float32(0.1))
    step, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    kinds = set()
    for (path, moved), leaf in zip(jax.tree_util.tree_leaves_with_path(step), jax.tree.leaves(params), strict=True):
        kind = path[-1].key  # pyright: ignore
        kinds.add(kind)
        assert np.allclose(moved, -0.1 * 0.5 * leaf if kind in ("kernel", "embedding") else 0.0, atol=1e-9), path
    assert kinds == {"kernel", "embedding", "bias", "scale"}


def test_adapters_begin_as_the_network_and_leave_it_as_it_is(params: Any):
    """And they learn: of a pool of one row the loss falls."""
    model = dataclasses.replace(TINY, adapters=8, steps=60, chunk=20, learning_rate=0.05, decay=0.0)
    begun, plain = jax.jit(model.log_prob), jax.jit(TINY.log_prob)(params, ROWS)
    params = {**jax.jit(model.init)(KEY), **params}
    assert np.allclose(begun(params, ROWS), plain, atol=1e-5)
    pool = Pool.of(jnp.tile(jnp.array([[3, 1, 0]], jnp.int32), (8, 1)))
    fitted, report = jax.jit(model.fit)(KEY, params, pool)
    assert jax.tree.all(jax.tree.map(np.array_equal, fitted["net"], params["net"]))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), fitted["adapters"], params["adapters"])
    assert jax.tree.all(moved)
    assert float(report["loss"]) < 0.7 * float(-begun(params, pool.rows).mean() / 3)
    moments = [
        leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(model.begin, KEY, params, pool).optimizer) if leaf.ndim
    ]
    assert len(moments) == 2 * len(jax.tree.leaves(params["adapters"]))  # none are kept for the network


def test_a_fit_that_stops_after_a_call_and_goes_on_is_the_same_to_the_bit():
    """What lies between two calls is written down as numbers and read again."""
    pool, params = Pool.of(ROWS), jax.jit(TINY.init)(KEY)
    advance = jax.jit(TINY.advance)
    whole = stopped = jax.jit(TINY.begin)(KEY, params, pool)
    for _ in range(TINY.calls):
        whole = advance(pool, whole)
        stopped = advance(pool, stopped)
        leaves, tree = jax.tree.flatten(stopped.replace(key=jax.random.key_data(stopped.key)))
        again = jax.tree.unflatten(
            tree, [jnp.asarray(np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)) for a in map(np.asarray, leaves)]
        )
        stopped = again.replace(key=jax.random.wrap_key_data(again.key))
    assert jax.tree.all(jax.tree.map(np.array_equal, TINY.finish(whole), TINY.finish(stopped)))
    assert not np.array_equal(TINY.finish(whole)[0]["net"]["norm"]["scale"], params["net"]["norm"]["scale"])


@pytest.mark.parametrize(
    ("fields", "mend"),
    [
        ({"bos": 4}, "one of the 4 tokens"),
        ({"eos": 9}, "one of the 4 tokens"),
        ({"beams": 2, "top_k": 3}, "leave out `top_k`"),
        ({"beams": 2, "temperature": 0.5}, "leave out `temperature`"),
        ({"beams": 2, "top_p": schedule("linear", 1, 0.5, 3)}, "leave out `top_p`"),
        ({"temperature": schedule("linear", 1, -1, 4)}, "temperature"),
        ({"continuation": 4}, "lower it"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], mend: str):
    with pytest.raises(GenlossError, match=mend):
        dataclasses.replace(TINY, **fields)


def test_rows_that_are_no_windows_of_its_tokens_are_refused(params: Any):
    open_ended = dataclasses.replace(TINY, length=None)
    assert open_ended.shaped(ROWS) == TINY
    for rows, mend in (
        (ROWS + 3, "raise `vocabulary`"),
        (ROWS * 0.5, "source of texts"),
        (ROWS[:, 0], "source of texts"),
    ):
        with pytest.raises(GenlossError, match=mend):
            open_ended.shaped(rows)
    with pytest.raises(GenlossError, match="leave `length` open"):
        TINY.shaped(ROWS[:, :2])
    # Rows of a compiled program have a shape and no values.
    assert jax.eval_shape(lambda rows: open_ended.shaped(rows).log_prob(params, rows), ROWS).shape == (40,)
    with pytest.raises(GenlossError, match="no length"):
        open_ended.init(KEY)
    with pytest.raises(GenlossError, match="can be given the first tokens"):
        TINY.sample(KEY, params, 3, jnp.zeros((2, 1), jnp.int32))


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["fit", "sampling"])
def test_a_chain_that_is_stopped_and_goes_on_says_the_same_text(doing: str, tmp_path: Path):
    """Of documents kept apart, each generation going on with first tokens of its diet; by adapters, from the base."""
    (tmp_path / "text.txt").write_text("\n\n".join(f"{a} and {b}" for a in "abcde" for b in "xyzuvw"))
    text = Text(str(tmp_path / "text.txt"), length=9, documents="apart")
    model = Transformer(
        vocabulary=len(text.alphabet), eos=text.eos, network=gpt2(8, 1, 2), adapters=2, steps=4, chunk=2, batch=8,
        sample_batch=8,
    )  # fmt: skip
    chain = Chain(
        source=text, generator=model, given=Prompts(2), start="base", probes={"said": spoken},
        real=24, rows=20, held_out=5,
    )  # fmt: skip

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 1 and (doing == "fit") == (progress.part < 1) and progress.part >= 0.5:
            raise Stopped

    whole = run(chain, KEY, 3)
    with pytest.raises(Stopped):
        run(chain, KEY, 3, tmp_path / "run", report=stop)
    again = run(chain, KEY, 3, tmp_path / "run")
    assert np.array_equal(whole["said"], again["said"])
    firsts = {tuple(row) for row in np.asarray(text.split.train)[:, :2].tolist()}
    assert {tuple(row) for row in whole["said"][..., :2].reshape(-1, 2).tolist()} <= firsts
