"""Editing the tokens that a model foresees, against the law it edits by."""

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import Edited, Gaussian, Ngram
from simulator import Chain, GenlossError, Pool, simulate
from simulator.probes.text import Perplexity
from simulator.recipe import Replace
from simulator.sources.given import Prompts
from simulator.sources.text import Text

KEY = jax.random.key(0)
MODEL = Ngram(4, 2, smoothing=0.2, length=12)
ROWS = np.random.default_rng(0).choice(4, (30, 12), p=[0.6, 0.2, 0.1, 0.1]).astype(np.int32)
PARAMS = MODEL.fit(KEY, MODEL.init(KEY), Pool.of(jnp.asarray(ROWS)))[0]


class Ending(Ngram):
    """A model of texts that end with token 3."""

    eos: ClassVar[int] = 3


def test_what_is_foreseen_is_drawn_anew_and_the_rest_is_left():
    """20,000 copies of one text: each place of high probability has the law of what may follow the token before."""
    threshold, n = 0.4, 20_000
    row = np.array([0, 0, 1, 0, 2, 3, 0, 0, 0, 1, 1, 0], np.int32)
    law = np.exp(np.asarray(MODEL.next_log_prob(PARAMS, jnp.asarray(row[None]))))[0]  # [12, 4]
    edit = jax.jit(lambda key: Edited(MODEL, threshold).sample(key, PARAMS, n, jnp.tile(row, (n, 1))))
    found = np.asarray(edit(KEY))
    foreseen = law[np.arange(12), row] >= threshold
    assert 3 < foreseen.sum() < 10 and (found[:, ~foreseen] == row[~foreseen]).all()
    for i in np.flatnonzero(foreseen):
        share = np.bincount(found[:, i], minlength=4) / n
        assert (np.abs(share - law[i]) < 5 * np.sqrt(law[i] * (1 - law[i]) / n)).all()
    both = np.flatnonzero(foreseen)[:2]  # places are drawn independently, from the text as it was
    x = (found[:, both] == 0).astype(float)
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / np.sqrt(n)


def test_a_threshold_above_all_leaves_the_text_and_what_pads_it_stays():
    rows = jnp.asarray(ROWS)
    for threshold, same in ((1.0, True), (0.0, False)):
        found = Edited(MODEL, threshold).sample(KEY, PARAMS, 30, rows)
        assert found.dtype == jnp.int32 and bool((found == rows).all()) == same
    padded = jnp.where(jnp.cumsum(rows == 3, 1) - (rows == 3) > 0, 3, rows)
    found = np.asarray(Edited(Ending(4, 2, length=12), 0.0).sample(KEY, PARAMS, 30, padded))
    over = np.cumsum(np.asarray(padded) == 3, 1) > 1
    assert over.sum() > 50 and (found[over] == 3).all() and (found != np.asarray(padded)).sum() > 50


def test_chains_edit_real_text_and_lose_less_than_chains_that_write():
    """Each generation is fitted to what the last one wrote, or to real text in which that one drew half of all anew."""
    text = Text(length=24)
    plain = Ngram(len(text.alphabet), smoothing=0.01)
    fields: dict[str, Any] = {"source": text, "recipe": Replace(), "real": 400, "rows": 400, "held_out": 100}
    fields["probes"] = {"real": Perplexity()}
    written = Chain(generator=plain, **fields)
    edited = Chain(generator=Edited(plain, 0.5), given=Prompts(24, of="real"), **fields)
    lost, kept = (np.asarray(simulate(chain, KEY, 3)["real.finite"]) for chain in (written, edited))
    assert lost[0] == kept[0] and kept[2] < lost[2] - 0.2


@pytest.mark.parametrize("build", [partial(Edited, Gaussian(2)), partial(Edited, MODEL, 1.5)])
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
