"""A generation of a run as a folder of diffusers."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_diffusion
from conftest import SHARED
from equality import close, same
from flax import nnx

from experiments.cli import main
from generators.hub import diffusers as hub
from simulator import GenlossError, Store, run
from simulator.recipe import Replace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "diffusion"
    assert main(["run", str(SHARED / "tiny_diffusion.py"), "--out", str(folder), "--cache", "off"]) == 0
    return folder


def export(run: Path, to: Path, *more: str) -> int:
    return main(["export", str(run), "--to", str(to), "--cache", "off", *more])


def test_what_is_exported_is_what_was_trained(finished: Path, tmp_path: Path):
    chosen = ("--generation", "1", "--setting", "accumulate", "--replicate", "1")
    assert export(finished, tmp_path / "dit", *chosen) == 0
    found = hub.load(str(tmp_path / "dit"), classes=10)
    leaves = Store(finished).params(1)
    model = tiny_diffusion.chain.model
    like = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    trained = jax.tree.unflatten(jax.tree.structure(like), [leaves[str(i)][1, 1] for i in range(len(leaves))])
    assert same(trained["net"], found.params)
    # Another generation, setting or replicate is another model.
    for other in (("--generation", "0"), ("--replicate", "0"), ("--setting", "replace", "--replicate", "1")):
        out = tmp_path / "-".join(other)
        assert export(finished, out, *other) == 0
        assert not same(trained["net"], hub.load(str(out), classes=10).params)
    scheduler = json.loads((tmp_path / "dit" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "DDPMScheduler" and scheduler["clip_sample"]
    net = nnx.merge(hub.skeleton(found.network, found.shape, found.classes)[0], found.params)
    assert np.isfinite(net(jax.numpy.zeros((1, 8, 8, 1)), jax.numpy.zeros(1), jax.numpy.zeros(1, int))).all()


@pytest.mark.parametrize(
    "more, why",
    [
        (("--generation", "7"), "it has: 0, 1"),
        (("--setting", "replaced"), "the nearest is 'replace'"),
        (("--replicate", "2"), "there are 0 to 1"),
        (("--label", "3"), "leave `label` out"),
    ],
)
def test_what_is_not_there_is_named(
    finished: Path, tmp_path: Path, more: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
):
    assert export(finished, tmp_path / "out", *more) == 2
    assert why in capsys.readouterr().err


def test_nothing_is_written_over(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").write_text("kept")
    assert export(finished, tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "kept"


@pytest.mark.mount
def test_an_export_that_fills_the_disk_says_so_and_leaves_nothing(
    finished: Path, small: Path, capsys: pytest.CaptureFixture[str]
):
    assert export(finished, small / "out") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the disk is full; mend that and give the same command again" in said
    assert not list(small.iterdir())


@pytest.mark.parametrize("place", ["file/out", "file", "n" * 300, "/proc/out"])
def test_a_place_that_no_export_can_be_in_is_named(
    place: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("kept")
    assert export(finished, tmp_path / place) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "choose a place that can be written" in said
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_other_generators_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "gaussian"
    assert (
        main(["run", str(SHARED / "tiny_gaussian.py"), "--generations", "2", "--out", str(run), "--cache", "off"]) == 0
    )
    assert export(run, tmp_path / "out") == 2
    assert "is a Gaussian; only Diffusion" in capsys.readouterr().err


@pytest.mark.slow
def test_a_chain_begins_with_a_stored_model(finished: Path, tmp_path: Path):
    assert export(finished, tmp_path / "dit", "--generation", "1") == 0
    stored = hub.load(str(tmp_path / "dit"), classes=10).params
    still = dataclasses.replace(
        tiny_diffusion.chain.generator,  # pyright: ignore
        network=hub.Stored(str(tmp_path / "dit")),
        learning_rate=1e-12,
        average=0.0,
    )
    chain = dataclasses.replace(tiny_diffusion.chain, generator=still, recipe=Replace())
    run(chain, jax.random.key(0), 2, tmp_path / "run", replicates=2)  # first read while a program is traced
    assert same(nnx.as_pure(chain.model.init(jax.random.key(5))["net"]), stored)
    leaves = Store(tmp_path / "run").params(1)
    like = jax.eval_shape(lambda: chain.model.init(jax.random.key(0)))
    for r in range(2):
        params = jax.tree.unflatten(jax.tree.structure(like), [leaves[str(i)][r] for i in range(len(leaves))])
        assert close(params["net"], stored, atol=1e-6)
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "again"), "--cache", "off"]) == 0
    assert close(hub.load(str(tmp_path / "again"), classes=10).params, stored, atol=1e-6)
    with pytest.raises(GenlossError, match="makes rows of"):
        dataclasses.replace(still, shape=(4, 4, 1)).init(jax.random.key(0))
