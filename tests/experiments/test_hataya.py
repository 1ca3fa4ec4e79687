"""The contamination experiment on real images, scaled down: pairing, and no harm from what covers everything."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from generators.nets.mlp import MLP
from simulator import Pool
from simulator.analysis.harm import excess
from simulator.probes import Diet, Downstream

pytestmark = [pytest.mark.data, pytest.mark.slow]


def test_kernels_say_training_images_with_noise(real_data: Path):
    from experiments.contamination.hataya_contamination import FASHION, Kernels

    rows = jax.tree.map(np.asarray, FASHION.draw(jax.random.key(0), 50))
    model = Kernels(0.02)
    params, _ = model.fit(jax.random.key(0), None, Pool.of(rows))
    said = jax.tree.map(np.asarray, model.sample(jax.random.key(1), params, 200))
    gap = np.abs(said["image"][:, None].astype(float) - rows["image"]).max((2, 3, 4))  # [200, 50]
    nearest = gap.argmin(1)
    assert gap.min(1).max() < 255 * 0.02 * 6 and (gap > 60).mean() > 0.9
    assert np.array_equal(said["label"], rows["label"][nearest])


def test_what_covers_everything_does_no_harm(real_data: Path):
    """With full coverage generated rows are as good as other real ones."""
    from experiments.contamination import hataya_contamination as hataya

    judge = Downstream(partial(MLP, hidden=(32,)), steps=200)
    chain = hataya.contaminated(hataya.FASHION, hataya.Kernels(), judge, rows=500, held_out=2000)
    found = hataya.judged(chain, tuple(hataya.ARMS), seeds=4)
    assert all(np.array_equal(found["generated"]["accuracy"][0], found[arm]["accuracy"][0]) for arm in hataya.ARMS)
    harm = excess(found["other real"]["accuracy"], found["generated"]["accuracy"])
    assert (np.abs(harm.mean[1:]) < 0.02).all()
    assert len(found["drop"]["accuracy"]) == len(harm.mean) - 1  # at 100 % nothing is left to learn from


def test_a_perfect_filter_is_knowing_and_a_clean_set_is_left_alone(real_data: Path):
    """Of the treated diets: what is left of generated rows, and that equal diets have equal scores."""
    from experiments.contamination import contamination_mitigations as mitigations

    judge = {"downstream": Downstream(partial(MLP, hidden=(16,)), steps=30), "diet": Diet()}
    names = ("nothing", "drop by watermark", "drop by detector", "drop by knowing")
    chain = mitigations.treated(mitigations.MARKED, judge, names, rows=400)
    found = mitigations.judged(chain, names, seeds=3, ratios=(0.0, 0.8))
    accuracy = {name: said["downstream"]["diet"]["accuracy"] for name, said in found.items()}  # [2, seeds]
    rows = {name: said["diet"]["rows"] for name, said in found.items()}
    share = {name: said["diet"]["birth"].sum(-1) for name, said in found.items()}
    assert np.array_equal(accuracy["nothing"][0], accuracy["drop by knowing"][0])
    assert (rows["nothing"] == 400).all() and np.allclose(share["nothing"], [[0], [0.8]], atol=0.01)
    assert np.abs(rows["drop by knowing"][1] - 80).max() <= 10 and not share["drop by knowing"].any()
    assert (rows["drop by watermark"][0] >= 390).all() and (share["drop by watermark"][1] < 0.02).all()
    exact = rows["drop by watermark"] == rows["drop by knowing"]  # nobody wrongly accused, nobody missed
    exact &= share["drop by watermark"] == 0
    assert exact.any()
    assert np.array_equal(accuracy["drop by watermark"][exact], accuracy["drop by knowing"][exact])
    assert (share["drop by detector"][1] < 0.2).all()
