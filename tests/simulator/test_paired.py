"""Captioned scenes, and models that pair pictures with words."""

import sys
import tomllib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, reference, scattered

from generators import Gaussian
from generators.nets.captions import Captioner, TextTower
from generators.nets.mlp import MLP
from simulator import Dataset, GenlossError, Pool, View
from simulator.probes.classifier import merged, started
from simulator.probes.paired import Captioning, Retrieval, _trained, bleu, cider, recall_at, spoken_of
from simulator.sources.scenes import Scenes

CHANCE = np.random.default_rng(0)
SCENES = Scenes(Dataset.digits(), most=2, margin=0)
DRAW = jax.jit(SCENES.draw, static_argnums=(1, 2))
TEXTS = partial(TextTower, vocabulary=len(SCENES.vocabulary), width=16)


def test_the_learning_rate_of_pairs_falls_to_nothing_along_a_cosine():
    """Of a gradient that stays the same Adam makes steps of the rate: in all lr Σ (1 + cos(πt/T))/2 = lr (T + 1)/2."""
    plan = Captioning(partial(Captioner, patch=4, width=8, depth=1, length=4), 8, steps=20, batch=2, learning_rate=1e-4)
    rows = {"image": jnp.zeros((4, 8, 8, 1)), "caption": jnp.zeros((4, 4), jnp.int32)}
    view = View(jnp.int32(0), None, Pool.of(rows), rows, rows, Gaussian(1))
    moved = _trained(plan, jax.random.key(0), lambda p, rows: p.sum(), jnp.zeros(2), view)
    assert np.asarray(moved) == pytest.approx(-1e-4 * 21 / 2 * np.ones(2), rel=1e-3)


# Scenes.


def test_a_caption_says_exactly_what_is_where():
    """Each named item is found, byte for byte, in its cell, and cells that are not named are empty."""
    rows = jax.tree.map(np.asarray, DRAW(jax.random.key(0), 300))
    train = SCENES.items.split.train
    known = {(image.tobytes(), int(label)) for image, label in zip(train["image"], train["label"], strict=True)}
    numbers = []
    for image, text in zip(rows["image"], SCENES.decode(rows["caption"]), strict=True):
        named = [part.split() for part in text.split(" and ")]
        numbers.append(len(named))
        left = image.copy()
        places = [(row == "bottom", column == "right") for _, row, column in named]
        assert places == sorted(set(places))  # in reading order, none twice
        for (digit, _, _), (row, column) in zip(named, places, strict=True):
            cell = np.s_[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert (image[cell].tobytes(), int(digit)) in known
            left[cell] = 0
        assert not left.any()
    assert abs(np.mean(numbers) - 1.5) < 5 * 0.5 / np.sqrt(300)  # one or two items as often


def test_margins_and_three_items():
    scenes = Scenes(Dataset.digits(), most=3, margin=3)
    rows = scenes.draw(jax.random.key(0), 50)
    assert rows["image"].shape == (50, 22, 22, 1) and rows["image"].dtype == jnp.uint8
    assert rows["caption"].shape == (50, 13) and set(map(len, map(str.split, scenes.decode(rows["caption"])))) == {
        3,
        7,
        11,
    }


@pytest.mark.slow
def test_streams_go_on_and_held_out_scenes_have_held_out_items():
    rows = DRAW(jax.random.key(0), 20)
    again = SCENES.draw(jax.random.key(0), 5, skip=15)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a[15:] == b).all()), rows, again))
    test = {image.tobytes() for image in SCENES.items.split.test["image"]}
    held_out = np.asarray(DRAW(jax.random.key(0), 100, True)["image"])
    cells = held_out.reshape(100, 2, 8, 2, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 8, 8)
    assert all(cell.tobytes() in test for cell in cells if cell.any())


# Scores.


def test_recall_by_hand():
    near = CHANCE.normal(size=(30, 40)).astype(np.float32)
    right = CHANCE.uniform(size=(30, 40)) < 0.1
    for k in (1, 5, 100):
        expected = np.mean([right[i, np.argsort(-near[i])[:k]].any() for i in range(30)])
        assert float(recall_at(jnp.asarray(near), jnp.asarray(right), k)) == pytest.approx(expected)


def sentences(n: int) -> list[str]:
    words = [f"w{i}" for i in range(12)]
    return [" ".join(CHANCE.choice(words, CHANCE.integers(2, 12))) for _ in range(n)]


def spoken_and_right() -> tuple[list[str], list[list[str]]]:
    """Forty sentences, and one to three for each that would have been right."""
    said = lambda i: " ".join(f"w{abs(v):.0f}" for v in 4 * scattered(2 + i * 7 % 10, seed=i))  # noqa: E731
    return [said(i) for i in range(40)], [[said(1000 + 3 * i + k) for k in range(1 + i % 3)] for i in range(40)]


def test_cider_is_what_pycocoevalcap_said():
    spoken, right = spoken_and_right()
    expected = reference("cider")
    assert cider(spoken, right) == pytest.approx(expected["mean"], rel=1e-9) and 0.05 < expected["mean"] < 5
    assert expected["mean"] == pytest.approx(np.mean(expected["each"]), rel=1e-6)


def test_cider_by_its_definition():
    """One n-gram: the cosine of vectors by hand; the same sentences 10, others 0, longer ones less."""
    right = [[text] for text in sentences(20)]
    assert cider([texts[0] for texts in right], right) == pytest.approx(
        10 * np.mean([min(4, len(t[0].split())) / 4 for t in right])
    )
    assert cider(["x y"] * 20, right) == 0
    # Every word weighs log 2: "a b b" against "a" has the cosine 1/√5 for single words, none for longer runs, and two
    # pairs of words too many; "c" against "b" has nothing.
    assert cider(["a b b", "c"], [["a"], ["b"]]) == pytest.approx(10 * np.exp(-(2**2) / 72) / np.sqrt(5) / 4 / 2)


def test_bleu_of_the_same_and_the_other():
    text = sentences(10)
    assert bleu(text, text) == pytest.approx(100)
    assert bleu(["x y z"] * 10, text) < 1


def test_without_sacrebleu_its_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(GenlossError, match=r"pip install 'genloss\[captions\]'"):
        bleu(["a b"], ["a b"])
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert [name.startswith("sacrebleu") for name in extras["captions"]] == [True]


# Networks.


def module(network: Any, inputs: tuple[int, ...], outputs: int) -> Any:
    params = jax.jit(lambda key: started(network, inputs, outputs, key)[1])(jax.random.key(0))
    return merged(network, inputs, outputs, params)


def test_a_captioner_does_not_look_ahead_and_a_tower_not_at_padding():
    net = module(partial(Captioner, patch=4, width=16, depth=2, length=9), (8, 8, 1), 11)
    x, words = CHANCE.uniform(size=(2, 8, 8, 1)).astype(np.float32), CHANCE.integers(1, 11, (2, 9))
    run = jax.jit(net)
    logits, changed = np.asarray(run(x, words)), words.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    other = np.asarray(run(x, changed))
    assert np.allclose(logits[:, :5], other[:, :5], atol=1e-5) and np.abs(logits[:, 5:] - other[:, 5:]).max() > 1e-3
    assert np.abs(np.asarray(run(1 - x, words)) - logits).max() > 1e-3
    spoken = np.asarray(jax.jit(lambda x: spoken_of(net, x, 9))(x))
    assert (spoken[:, 1:] == np.asarray(run(x, spoken)).argmax(-1)[:, :-1]).all()  # each the likeliest after the others
    params = jax.jit(lambda key: started(TEXTS, (9,), 5, key)[1])(jax.random.key(0))
    end = lambda path, leaf: leaf.at[4:].set(7.0) if "place" in jax.tree_util.keystr(path) else leaf  # noqa: E731
    other = jax.tree_util.tree_map_with_path(end, params)  # what stands where nothing is said
    short = np.where(np.arange(9) < 4, words, 0)
    assert np.allclose(*(jax.jit(merged(TEXTS, (9,), 5, p))(short) for p in (params, other)), atol=1e-5)


def view_of(n: int) -> View:
    diet = Pool.of(DRAW(jax.random.key(0), n))
    return View(jnp.int32(0), None, diet, diet.rows, DRAW(jax.random.key(1), 100, True), Gaussian(2))


@pytest.mark.slow  # half a minute
def test_two_towers_find_pairs():
    what = Retrieval(partial(MLP, hidden=(64,)), TEXTS, steps=300, learning_rate=5e-3)
    untrained = Retrieval(partial(MLP, hidden=(64,)), TEXTS, steps=1, learning_rate=1e-9)
    view = view_of(2000)
    found, before = (
        jax.jit(lambda diet, w=w: w(jax.random.key(0), view._replace(diet=diet)))(view.diet) for w in (what, untrained)
    )
    for way in ("caption_of_image", "image_of_caption"):
        recall = [float(found[way][k]) for k in ("1", "5", "10")]
        assert recall == sorted(recall) and recall[2] > 0.5  # 10 of 100 by chance
        assert recall[2] > float(before[way]["10"]) + 0.2


@pytest.mark.slow
def test_a_captioner_learns_to_say_what_it_sees():
    network = partial(Captioner, patch=4, width=32, depth=2, length=SCENES.length)
    what = Captioning(network, len(SCENES.vocabulary), steps=1500, learning_rate=4e-3)
    view = view_of(3000)
    found = jax.tree.map(float, jax.jit(lambda diet: what(jax.random.key(0), view._replace(diet=diet)))(view.diet))
    print(found)
    assert found["bleu"] > 50 and found["cider"] > 4 and found["exact"] > 0.2 and found["nll"] < 0.7


def test_what_is_no_pair_is_said():
    for make, word in (
        (lambda: Scenes(Dataset.digits(), most=5), "most"),
        (lambda: Scenes(Dataset.digits(), margin=-1), "margin"),
        (lambda: Retrieval(MLP, TEXTS, ks=(0,)), "ks"),
        (lambda: Captioning(Captioner, 0), "vocabulary"),
        (lambda: Captioning(Captioner, 9, learning_rate=0.0), "learning_rate"),
    ):
        with pytest.raises(GenlossError, match=word):
            make()
    rows = Dataset.digits().draw(jax.random.key(0), 5)
    view = View(jnp.int32(0), None, Pool.of(rows), rows, rows, Gaussian(2))
    with pytest.raises(GenlossError, match="Scenes"):
        Retrieval(MLP, TEXTS)(jax.random.key(0), view)
