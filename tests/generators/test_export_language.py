"""A generation of a language model as a folder of transformers, and chains that begin at one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_transformer
from conftest import SHARED, scattered
from equality import close, same
from flax import nnx
from tiny_transformer import chain, text

from experiments.cli import main
from experiments.command.export import _write_language
from generators.hub import transformers as hub
from generators.nets.decoder import llama
from simulator import GenlossError, Store, Text, run
from simulator.running.files import shaped

ROWS = text.split.test[:4]  # [4, 12]
OWN = 40  # the token that begins every row, after the 40 of the text
MODEL: Any = chain.model


def begun(model: Any) -> Any:
    """Parameters that no library draws, large enough for every token to be heard."""
    like = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    made = [0.5 * scattered(*leaf.shape, seed=i) for i, leaf in enumerate(jax.tree.leaves(like))]
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaf, jnp.float32) for leaf in made])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    _write_language(folder, MODEL, begun(MODEL), text, None)
    return folder


def export(run: Path, to: Path, *more: str) -> int:
    return main(["export", str(run), "--to", str(to), "--cache", "off", *more])


def trained(run: Path, generation: int) -> Any:
    return shaped(Store(run).params(generation), jax.eval_shape(lambda: MODEL.init(jax.random.key(0))))


@pytest.mark.slow
def test_what_is_exported_is_what_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    finished, file = tmp_path / "run", str(SHARED / "tiny_transformer.py")
    assert main(["run", file, "--out", str(finished), "--cache", "off"]) == 0
    for t in (0, 1):
        assert export(finished, tmp_path / str(t), "--generation", str(t)) == 0
        found = hub.load(str(tmp_path / str(t)))
        assert same(found.params, trained(finished, t)["net"])
        assert not same(found.params, trained(finished, 1 - t)["net"])
    assert found.tokenizer is not None and found.tokenizer.read_text() == text.json(begins=True)
    assert export(finished, tmp_path / "out", "--label", "1") == 2
    assert "leave --label out" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_its_sizes_and_the_token_that_begins_rows_are_written(exported: Path):
    found = hub.load(str(exported))
    assert same(found.params, begun(MODEL)["net"])
    assert (found.vocabulary, found.length, found.bos, found.eos) == (OWN + 1, 12, OWN, None)


def test_adapters_are_added_in(tmp_path: Path):
    model = dataclasses.replace(MODEL, adapters=2, network=llama(16, 1, 2, 1, hidden=8))
    params = begun(model)
    _write_language(tmp_path, model, params, None, None)
    found = hub.load(str(tmp_path))
    net: Any = nnx.merge(hub.skeleton(found.network, found.vocabulary, found.length)[0], found.params)
    both = jax.jit(lambda: (net(ROWS), model.merged(params)(ROWS)))()
    assert np.abs(both[0]).max() > 1 and close(*both, atol=1e-5)
    assert not same(found.params, params["net"]) and found.tokenizer is None


TEXTS: dict[str, Text] = {
    "characters": text,
    "bytes": Text(length=12, tokenizer="bytes"),
    "words": Text(length=12, tokenizer="words", vocabulary=300),
    "byte pairs": Text(length=12, tokenizer="bpe:300"),
    "documents apart": Text(length=12, documents="apart"),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_tokenizer_is_the_same_in_its_file(text: Text):
    """Of any text, in both directions; and one that begins texts is one token more."""
    from tokenizers import Tokenizer

    stored, begun = (Tokenizer.from_str(text.json(begins)) for begins in (False, True))
    size = len(text.alphabet)
    assert (stored.get_vocab_size(), begun.get_vocab_size()) == (size, size + 1)
    rows = [row if text.eos is None else row[row != text.eos] for row in text.split.test[:40]]
    for row, said in zip(rows, text.decode(text.split.test[:40]), strict=True):
        assert stored.decode(row.tolist()) == said
        assert begun.encode(said).ids == [size, *stored.encode(said).ids]
        if "�" not in said:
            assert stored.encode(said).ids == row.tolist()
    if text.level == "character" and text.tokenizer is None:
        assert stored.encode("a☃").ids[1] == stored.encode("☃").ids[0]  # what the vocabulary lacks is one token
    if text.eos is not None:
        assert stored.decode([text.eos], skip_special_tokens=False) == "<|endoftext|>"


@pytest.mark.torch
def test_transformers_opens_it_and_thinks_and_says_the_same(exported: Path):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # pyright: ignore[reportAttributeAccessIssue]
    net: Any = transformers.AutoModelForCausalLM.from_pretrained(exported).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    said = text.decode(ROWS)
    given = tokenizer(said, return_tensors="pt")
    assert given["input_ids"][:, 1:].tolist() == ROWS.tolist() and (given["input_ids"][:, 0] == OWN).all()
    assert tokenizer.batch_decode(given["input_ids"], skip_special_tokens=True) == said
    params = begun(MODEL)
    with torch.no_grad():
        logits = net(given["input_ids"][:, :-1]).logits[..., :OWN]
    share = logits.log_softmax(-1).numpy()
    expected = np.take_along_axis(share, ROWS[..., None].astype(np.int64), -1)[..., 0]
    greedy = dataclasses.replace(MODEL, temperature=0.0)

    @jax.jit
    def ours(params: Any) -> Any:  # and the likeliest text, after the first four tokens of each row
        said = greedy.sample(jax.random.key(0), params, 4, jnp.asarray(ROWS[:, :4]))
        return MODEL.token_log_prob(params, jnp.asarray(ROWS)), said

    thought, found = ours(params)
    assert np.abs(np.asarray(thought) - expected).max() < 1e-4
    short = {name: value[:, :5] for name, value in given.items() if name != "token_type_ids"}
    text_there = net.generate(**short, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert text_there[:, 1:].tolist() == found.tolist()
    config = json.loads((exported / "generation_config.json").read_text())
    assert config["suppress_tokens"] == [OWN] and net.generation_config.suppress_tokens == [OWN]


def test_a_model_begins_at_what_was_exported(exported: Path):
    stored = dataclasses.replace(MODEL, network=hub.Stored(str(exported)), vocabulary=OWN + 1, bos=OWN)
    assert same(jax.jit(stored.init)(jax.random.key(5))["net"], hub.load(str(exported)).params)
    with pytest.raises(GenlossError, match="give `vocabulary=41` and one of them as `bos`, such as 40"):
        dataclasses.replace(stored, vocabulary=30, bos=1).init(jax.random.key(0))
    with pytest.raises(GenlossError, match="reads 12 tokens, and 13 are too many; lower"):
        dataclasses.replace(stored, length=13).init(jax.random.key(0))


@pytest.mark.slow
def test_each_generation_of_a_chain_begins_there(exported: Path, tmp_path: Path):
    """With a rate of nearly zero every generation is the stored model; and it can be exported again."""
    model = dataclasses.replace(
        tiny_transformer.chain.generator,  # pyright: ignore
        network=hub.Stored(str(exported)),
        vocabulary=OWN + 1,
        bos=OWN,
        learning_rate=1e-12,
        decay=0.0,
    )
    whole = dataclasses.replace(chain, generator=model, start="base")
    run(whole, jax.random.key(0), 2, tmp_path / "run")
    stored = hub.load(str(exported)).params
    for t in range(2):
        leaves = Store(tmp_path / "run").params(t)
        found = shaped(leaves, jax.eval_shape(lambda: whole.model.init(jax.random.key(0))))  # pyright: ignore
        assert close(found["net"], stored, atol=1e-6)
    assert export(tmp_path / "run", tmp_path / "again") == 0
    assert close(hub.load(str(tmp_path / "again")).params, stored, atol=1e-6)
