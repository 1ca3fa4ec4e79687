"""`genloss export`: a generation of a diffusion model as a pipeline of diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import stored_model
from experiments.command.numbers import near, place, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    shared.trust(sub)
    shared.which_model(sub)
    sub.add_argument("--to", type=place, metavar="DIR", help="the folder to write")
    sub.add_argument("--label", type=whole(), metavar="L", help="of a U-Net with classes: the one that is written")


def export(options: argparse.Namespace) -> int:
    from generators.diffusion import Diffusion
    from generators.hub import diffusers as hub
    from simulator import GenlossError
    from simulator.running import disk

    which = (options.generation, options.setting, options.replicate, options.trust, options.code)
    chain, params, _ = stored_model(options.run, *which)
    model = chain.model
    if not isinstance(model, Diffusion):
        raise GenlossError(f"The run's generator is a {type(model).__name__}; only Diffusion is written for diffusers.")
    if options.to is None:
        raise GenlossError("Say where to write the model: --to DIR.")
    told = model.classes if model.conditional else None
    with disk.new_folder(options.to) as folder:
        hub.save(folder, model.network, params["net"], model.shape, told, model.noise.config(), options.label)  # pyright: ignore
    print(near(Path(options.to)))
    return 0


command = Command("write a generation of a diffusion model as a pipeline of diffusers", arguments, export)
