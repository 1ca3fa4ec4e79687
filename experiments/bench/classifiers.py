"""How well classifiers learn full real data sets in a fixed number of steps: `python -m experiments.bench classifiers`.

Needs the folder of data sets named by GENLOSS_DATA (fashion_mnist, cifar10).
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.bench import say, table
from generators.nets.convnet import ConvNet, LightNet
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from generators.nets.vit import ViT
from simulator import Dataset
from simulator.probes.downstream import scores
from simulator.probes.features import Learned

FASHION = {
    "MLP": Learned(partial(MLP, hidden=(256,)), steps=4000),
    "ConvNet": Learned(ConvNet, steps=4500, batch=64),
    "Mixer": Learned(Mixer, steps=5000, batch=64),
    "ViT": Learned(ViT, steps=5000, batch=64),
}
CIFAR = {
    "ConvNet": Learned(ConvNet, steps=8000, batch=64, augment=True, flips=True),
    "LightNet, Muon": Learned(LightNet, 1600, 64, 0.03, "muon", augment=True, flips=True),
}


def main() -> None:
    folder = os.environ.get("GENLOSS_DATA")
    if not folder:
        say("classifiers: GENLOSS_DATA names no folder of data sets")
        return
    for name, spaces in (("fashion_mnist", FASHION), ("cifar10", CIFAR)):
        report(Dataset.load(Path(folder) / name), spaces)


def report(source: Dataset, spaces: dict[str, Learned]) -> None:
    """Accuracy on all held-out rows after training on all others, with the time of it, compiling included."""
    columns = ("network", "steps", "accuracy", "worst class", "calibration error", "nll", "seconds", "ms / step")
    found = table(f"{source.path}: {source.size} training rows", *columns)
    test = jax.tree.map(jnp.asarray, source.split.test)
    for name, space in spaces.items():
        started = time.perf_counter()
        learned = jax.block_until_ready(space.prepare(jax.random.key(0), source))
        took = time.perf_counter() - started
        said = scores(jax.jit(space.logits)(test, learned), test["label"])
        shown = [f"{float(said[m]):.3f}" for m in ("accuracy", "worst", "calibration", "nll")]
        row = (name, str(space.steps), *shown, f"{took:.0f}", f"{1e3 * took / space.steps:.0f}")
        say("  ".join(row))  # hours may pass until the table is whole
        found.add_row(*row)
    say(found)


if __name__ == "__main__":
    main()
