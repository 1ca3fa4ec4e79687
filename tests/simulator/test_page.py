"""What the page of runs is told: lines, bands, laws, diets, what generations say, and results beside the runs."""

import base64
import http.client
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from conftest import gaussian_chain

from experiments.cli import main
from experiments.command.serving import Live, Server
from simulator import Store, Sweep, run
from simulator.analysis import verdicts
from simulator.analysis.verdicts import Verdict
from simulator.probes import Moments
from simulator.recipe import Accumulate, Mix, Replace, Select
from simulator.report import page
from simulator.report.web import filled, told
from simulator.report.web.curves import curves, fields, law_of, numbered, onsets
from simulator.report.web.results import results
from simulator.report.web.said import sprite
from simulator.sources.images import decode, sheet


def tidy(values: Any, **columns: Any) -> pandas.DataFrame:
    """Records of one setting: values [replicates, generations] of the metric."""
    values = np.asarray(values, float)
    replicate, t = np.indices(values.shape).reshape(2, -1)
    own = {"setting": "chain", "metric": "mine", **columns}
    return pandas.DataFrame({**own, "replicate": replicate, "generation": t, "value": values.ravel()})


# What is told.


def drawn(records: Any, laws: Any = None) -> Any:
    lined, lines = numbered(records)
    law = None if laws is None else law_of(lined, laws)
    return pandas.read_csv(io.StringIO(curves(lined, lines, law).csv))


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
    assert fields(a.assign(run=a["recipe.real"].map(str) + a["generator.latent"].map(str))) == fields(a)
    assert fields(a.assign(run="x", setting=a["generator.latent"])) == ["recipe.real", "generator.latent"]
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
    found = curves(*numbered(tidy(np.arange(1001.0)[None])), most=11)
    table = pandas.read_csv(io.StringIO(found.csv))
    assert table["generation"].tolist() == list(range(0, 1001, 100)) and found.left == 990
    many = pandas.concat([tidy(np.arange(101.0)[None], metric=f"m.{chr(97 + i)}x{i}") for i in range(800)])
    found = curves(*numbered(many))
    assert found.csv.count("\n") == 1 + 800 * 50 and len(found.measures) == 800


def test_the_law_stands_beside_the_setting_that_has_it():
    records = pandas.concat([tidy([[1, 2, 3]], setting="a"), tidy([[1, 2, 3]], setting="b")])
    law = pandas.DataFrame({"setting": "b", "generation": [0, 1], "metric": "mine", "value": [5.0, 6.0]})
    table = drawn(records, laws=law)
    assert table[table["line"] == 0]["theory"].isna().all()
    assert table[table["line"] == 1]["theory"].tolist()[:2] == [5, 6]


def test_an_onset_is_marked_on_the_curve_of_its_run_and_setting():
    falls = [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0]]  # mean 4, 3, 2
    a = pandas.concat([tidy(falls, setting=s, run=r) for r in ("x", "y") for s in ("kept", "lost")])
    lined, lines = numbered(a)
    known = curves(lined, lines).measures
    holds = Verdict("variance", "lost", True, "", "kept", "mine", 2.0, 4.0, 1, 1, 2)
    other = holds._replace(setting="kept", onset=None, holds=False)
    marks = onsets(lined, known, {"x": [other], "y": [other, holds, holds._replace(metric="not drawn")]})
    expected = next(i for i, line in enumerate(lines) if line["fields"] == {"run": "y", "setting": "lost"})
    assert marks == [{"measure": 0, "line": expected, "generation": 1, "mean": 3.0, "definition": "variance"}]
    assert onsets(lined, known, {"": [holds]})[0]["line"] != onsets(lined, known, {"": [holds]})[1]["line"]


def test_a_run_that_collapses_has_the_onsets_of_its_table(tmp_path: Path):
    chain = gaussian_chain(1, real=20, rows=20, recipe=Mix(0.0, size=20), probes={"moments": Moments()})
    sweep = Sweep(chain, "recipe.real", {"real only": 1.0, "replace": 0.0})
    run(sweep, jax.random.key(0), 60, tmp_path / "run", replicates=8)
    store = Store(tmp_path / "run")
    found = told.of_runs([store])
    verdict = [one for one in verdicts.of_run(store) if one.onset is not None]
    assert verdict and [one["generation"] for one in found["onsets"]] == [one.onset for one in verdict]
    assert {found["lines"][one["line"]]["name"] for one in found["onsets"]} == {"replace"}


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


# Runs.


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two settings of a Gaussian of two dimensions, two replicates, three generations of 30 rows."""
    recipe = Select((Replace(), Accumulate()), 0)
    chain = gaussian_chain(2, real=30, rows=30, recipe=recipe, probes={"moments": Moments()})
    folder = tmp_path_factory.mktemp("page") / "run"
    run(Sweep(chain, "recipe.index", {"replace": 0, "</script>": 1}), jax.random.key(0), 3, folder, replicates=2)
    return Store(folder)


def test_points_are_those_that_generations_said_over_the_truth(stored: Store):
    (said,) = told.of_runs([stored])["said"]
    assert said["kind"] == "points" and said["names"] == ["replace", "</script>"] and said["generations"] == [0, 1, 2]
    shown = pandas.read_csv(io.StringIO(said["csv"])).groupby(["generation", "line"])[["x", "y"]]
    for chunk in stored.chunks():
        for line, rows in enumerate(chunk.rows[-1]["0"][:, 0]):  # [30, 2] of the first replicate
            assert np.allclose(shown.get_group((chunk.last, line)), rows, rtol=1e-3, atol=1e-3)
    assert np.abs(np.mean(said["truth"], 0)).max() < 5 * len(said["truth"]) ** -0.5  # a standard normal


def test_nothing_is_drawn_of_a_truth_that_is_somebody_elses(stored: Store, monkeypatch: pytest.MonkeyPatch):
    about = stored.about()
    about["run"]["chain"]["source"]["generator"]["$type"] = "os:getcwd"
    monkeypatch.setattr(stored, "about", lambda: about)
    (said,) = told.of_runs([stored], [{}])["said"]
    assert said["truth"] == [] and len(said["generations"]) == 3


def test_sheets_lie_one_above_the_other():
    pictures = {t: sheet(np.full((2, 3, 8, 8, 1), 40 * t % 256, np.uint8), 1) for t in (0, 5, 9)}
    said = sprite(pictures, 2)
    png = decode(base64.b64decode(said["sprite"].partition(",")[2]), "it")
    assert said["generations"] == [0, 5, 9] and png.shape[0] == 3 * 2 * said["height"]
    assert [int(part[5, 5, 0]) for part in np.split(png, 3)] == [0, 200, 104]


def test_what_is_told_ends_no_script(stored: Store):
    text = filled.page(told.of_runs([stored]))
    assert text.count("</script>") == 1 + len(filled.SCRIPTS) and "default-src 'none'" in text


def test_runs_beside_each_other_are_lines_of_one_page(
    stored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    chain = gaussian_chain(2, real=30, rows=30, recipe=Replace(), probes={"moments": Moments()})
    run(chain, jax.random.key(0), 3, tmp_path / "alone", replicates=2)
    runs = [str(stored.path), str(tmp_path / "alone")]
    assert main(["report", *runs, "--to", str(tmp_path / "both.html")]) == 0
    text = (tmp_path / "both.html").read_text()
    found = json.loads(text.partition('id="told">')[2].partition("</script>")[0])
    assert [line["name"] for line in found["lines"]] == ["run: replace", "run: </script>", "alone: chain"]
    assert found["tables"][0]["title"] == "runs beside run, generation 2" and len(found["said"]) == 2
    assert found["command"].startswith("genloss report /")
    assert main(["report", runs[0], runs[0]]) == 2
    assert "given twice" in capsys.readouterr().err


LEAGUE = {
    "metric": "recall",
    "better": "higher",
    "baseline": "replace",
    "entries": [
        {"entry": "<b>mine", "value": 0.9, "difference": 0.2, "low": 0.1, "high": 0.3, "ranks": [1.0, 0.0]},
        {"entry": "replace", "value": 0.7, "difference": 0.0, "low": None, "high": None, "ranks": [0.0, 1.0]},
    ],
}
PLAN = {"keep": "recall >= 0.9", "value": 0.1, "low": 0.05, "high": 0.2, "confidence": 0.9, "side": "least"}
PLAN |= {"evaluated": {"values": [0.0, 0.1, 0.2], "margins": [-1.0, 0.0, float("inf")]}}


def test_leagues_and_plans_above_a_run_are_shown(tmp_path: Path):
    folder = tmp_path / "world" / "run"
    folder.mkdir(parents=True)
    (tmp_path / "league.json").write_text(json.dumps({"digits": LEAGUE}))
    (folder / "plan.json").write_text(json.dumps(PLAN))
    plan, league, ranks = results(folder)
    assert plan["said"] == "least 0.1, 90% interval 0.05 to 0.2" and len(plan["data"]["rows"]) == 2
    assert league["said"] == "<b>mine +0.2 [0.1, 0.3]" and league["data"]["rows"][0]["sure"] == "better"
    assert [row["chance"] for row in ranks["data"]["rows"]] == [1.0, 0.0, 0.0, 1.0]
    assert ranks["said"] == "most likely first: <b>mine, with chance 1"
    json.dumps([plan, league, ranks], allow_nan=False)


def test_a_leagues_folder_has_a_page_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "league.json").write_text(json.dumps({"digits": LEAGUE}))
    assert main(["report", str(tmp_path)]) == 0
    text = Path(capsys.readouterr().out.strip()).read_text()
    found = json.loads(text.partition('id="told">')[2].partition("</script>")[0])
    assert [one["title"] for one in found["results"]] == [
        "league, digits: recall, higher is better",
        "digits: chance of each rank",
    ]
    (tmp_path / "league.json").unlink()
    assert main(["report", str(tmp_path)]) == 2 and "genloss: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"digits": 3}', '{"plans": []}', "[" * 100_000, '{"a": {"entries": [1]}}']
)
def test_other_files_of_such_names_are_not_read(text: str, tmp_path: Path):
    for name in ("league.json", "plan.json"):
        (tmp_path / name).write_text(text)
    assert results(tmp_path) == []


# While a run goes on.


@pytest.fixture
def served(stored: Store) -> Iterator[Server]:
    with Server(Live([stored], "genloss report run --live")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def asked(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_a_live_page_is_told_what_is_new_and_only_that(served: Server, stored: Store):
    assert served.server_address[0] == "127.0.0.1"
    status, _, text = asked(served, "/")
    assert status == 200 and b"connect-src 'self'" in text and b'data-live="live"' in text
    status, headers, text = asked(served, "/told.json")
    assert status == 200 and json.loads(text)["state"] == "3 generations so far"
    assert asked(served, "/told.json", **{"If-None-Match": headers["ETag"]})[0] == 304
    (stored.path / "samples").mkdir(exist_ok=True)
    (stored.path / "samples" / f"{time.time_ns()}.txt").touch()
    assert asked(served, "/told.json", **{"If-None-Match": headers["ETag"]})[0] == 200


@pytest.mark.parametrize(("path", "host", "status"), [("/../chain.json", None, 404), ("/", "evil.example", 403)])
def test_a_live_page_gives_nobody_else_anything(path: str, host: str | None, status: int, served: Server):
    found, _, text = asked(served, path, **({"Host": host} if host else {}))
    assert found == status and text == b""


def test_before_its_first_generation_a_run_is_waited_for(stored: Store, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "chain.json").write_text((stored.path / "chain.json").read_text())
    _, found = Live([Store(tmp_path / "run")], "").told()
    assert "has no records" in found["state"] and found["lines"] == ()
    filled.page(found, live=True)


def test_a_port_that_is_taken_is_one_sentence(served: Server, stored: Store, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(stored.path), "--live", "--port", str(served.server_port)]) == 2
    assert f"Port {served.server_port} cannot be used" in capsys.readouterr().err


def test_a_page_needs_no_run():
    text = page.of_records(tidy([[1, 2, 3]], **{"recipe.real": 0.5}), "a sweep")
    assert "<title>a sweep</title>" in text and '"name":"recipe.real=0.5"' in text
