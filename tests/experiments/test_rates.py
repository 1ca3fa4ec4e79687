"""What --dry-run says of devices that a run was not timed on."""

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_gaussian
import tiny_vae

from experiments.command import rates
from generators import VAE


def test_where_no_accelerator_was_measured_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(rates, "RESULTS", tmp_path)
    said = rates.elsewhere(tiny_vae.chain, 8, 4)["on an accelerator"]
    assert "not run there, and no rate" in said
    operations, after, seconds = said.partition(" operations of training, ")
    assert after and float(operations) == pytest.approx(8 * 4 * rates.fit(tiny_vae.chain), rel=0.05)
    assert seconds.startswith("0 s at 40 %")
    monkeypatch.setattr(rates, "EXPECTED", 8 * 4 * rates.fit(tiny_vae.chain) / 7200)
    assert " 120 min at 40 %" in rates.elsewhere(tiny_vae.chain, 8, 4)["on an accelerator"]
    assert rates.elsewhere(tiny_gaussian.chain, 8, 4) == {}, "it does not train by steps"


def test_the_time_elsewhere_is_the_work_over_the_rate_measured_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Operations of a fit are steps x batch x those of its matmuls: forward, and twice that backward but for the first
    layer, whose input needs no gradient.  The VAE's are 64-24, 24-8 (two of 4), 4-24 and 24-64,
    the first and the third with ten labels beside.
    """
    monkeypatch.setattr(rates, "RESULTS", tmp_path)
    net = {"FLOP a row told": 1e9, "training, rows/s": 1000.0}
    (tmp_path / "H200-2026-12-01.json").write_text(json.dumps({"networks": {"DiT-B": net}}))
    (tmp_path / "H100-2026-12-01.json").write_text(json.dumps({"networks": {"error": "none"}}))
    model = tiny_vae.chain.generator
    assert isinstance(model, VAE)
    layers = 2 * (74 * 24 + 24 * 8 + 14 * 24 + 24 * 64)
    work = model.steps * model.batch * (3 * layers - 2 * 74 * 24)
    assert rates.fit(tiny_vae.chain) == pytest.approx(work, rel=1e-6)
    huge = dataclasses.replace(tiny_vae.chain, generator=dataclasses.replace(model, steps=60 * 10**6))
    hours = 8 * 4 * work * 10**6 / (3 * 1e9 * 1000) / 3600
    assert rates.elsewhere(huge, 8, 4) == {"on H200-2026-12-01": f"about {hours:.1f} h of training, not run"}
