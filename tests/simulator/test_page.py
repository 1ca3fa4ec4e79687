"""The page of a run, in a browser: what is drawn, chosen, searched, slid through, saved, and said to who cannot see."""

import io
import re
from typing import Any

import numpy as np
import pandas
import pytest

from simulator.report.web import told
from simulator.report.web.curves import curves, fields, numbered


def tidy(values: Any, **columns: Any) -> pandas.DataFrame:
    """Records of one setting: values [replicates, generations] of the metric."""
    values = np.asarray(values, float)
    replicate, t = np.indices(values.shape).reshape(2, -1)
    own = {"setting": "chain", "metric": "mine", **columns}
    return pandas.DataFrame({**own, "replicate": replicate, "generation": t, "value": values.ravel()})


# What is told.


def drawn(records: Any, **more: Any) -> Any:
    return pandas.read_csv(io.StringIO(curves(records, **more).csv))


def test_a_band_is_two_standard_errors_about_the_mean():
    values = np.random.default_rng(0).normal(size=(5, 4))
    table = drawn(tidy(values))
    reach = 2 * values.std(0, ddof=1) / np.sqrt(5)
    assert np.allclose(table["mean"], values.mean(0), rtol=1e-4)
    assert np.allclose(table["high"] - table["low"], 2 * reach, rtol=1e-3)
    assert drawn(tidy(values[:1]))["low"].isna().all()


def test_lines_are_set_apart_by_the_fields_that_were_swept():
    a = pandas.concat(
        [
            tidy([[real, latent]], **{"recipe.real": real, "generator.latent": latent})
            for real in (0.0, 0.1)
            for latent in (2, 8)
        ]
    )
    assert fields(a) == ["recipe.real", "generator.latent"]  # a setting that says nothing more is no field
    _, lines = numbered(a)
    assert [line["fields"] for line in lines][1] == {"recipe.real": "0", "generator.latent": "8"}
    assert [line["name"] for line in lines][2] == "recipe.real=0.1: generator.latent=2"
    table = drawn(a)
    assert table.groupby("line")["mean"].agg(list).tolist() == [[0, 2], [0, 8], [0.1, 2], [0.1, 8]]
    both = [tidy([[1.0]], run=run, setting=s) for run in ("x", "y") for s in ("b", "c")]
    _, lines = numbered(pandas.concat(both))
    looks = [(line["colour"], line["dash"]) for line in lines]
    assert looks == [(0, 0), (1, 0), (0, 1), (1, 1)]  # a colour for each setting, dashes for each run


def test_long_runs_are_thinned_from_the_first_to_the_last():
    found = curves(tidy(np.arange(1001.0)[None]), most=11)
    table = pandas.read_csv(io.StringIO(found.csv))
    assert table["generation"].tolist() == list(range(0, 1001, 100)) and found.left == 990


def test_the_law_stands_beside_the_setting_that_has_it():
    records = pandas.concat([tidy([[1, 2, 3]], setting="a"), tidy([[1, 2, 3]], setting="b")])
    law = pandas.DataFrame({"setting": "b", "generation": [0, 1], "metric": "mine", "value": [5.0, 6.0]})
    table = drawn(records, laws=law)
    assert table[table["line"] == 0]["theory"].isna().all()
    assert table[table["line"] == 1]["theory"].tolist()[:2] == [5, 6]


def test_births_put_together_keep_the_whole():
    n = 40
    shares = {(t, b): 1 / (t + 1) for t in range(n) for b in range(-1, t)}
    rows = [("chain", 0, t, "diet.real" if b < 0 else f"diet.birth.{b}", v) for (t, b), v in shares.items()]
    records = pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])
    found = told.of_records(records, "diets")["diet"]
    table: Any = pandas.read_csv(io.StringIO(found["csv"]))
    assert np.allclose(table.groupby("generation")["share"].sum(), 1, atol=1e-3)
    assert len(found["parts"]) <= 13 and set(table["part"]) == set(range(len(found["parts"])))
    last = table[table["generation"] == n - 1].set_index("part")["share"]
    for part, name in enumerate(found["parts"][1:], 1):  # births that each is said to hold
        ends = [int(t) for t in re.findall(r"\d+", name)]
        assert last[part] == pytest.approx((ends[-1] - ends[0] + 1) / n, rel=1e-3)
