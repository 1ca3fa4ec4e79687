"""`genloss export`: a generation of a diffusion model for diffusers, or of a language model for transformers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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
    from generators.transformer import Transformer
    from simulator import GenlossError, disk

    which = (options.generation, options.setting, options.replicate, options.trust, options.code)
    chain, params, _ = stored_model(options.run, *which)
    model = chain.model
    if not isinstance(model, Diffusion | Transformer):
        raise GenlossError(
            f"The run's generator is a {type(model).__name__}; only Diffusion and Transformer can be exported."
        )
    if options.to is None:
        raise GenlossError("Say where to write the model: --to DIR.")
    with disk.new_folder(options.to) as folder:
        if isinstance(model, Transformer):
            _write_language(folder, model, params, chain.source, options.label)
        else:
            _write_images(folder, model, params, options.label)
    print(near(Path(options.to)))
    return 0


def _write_images(folder: Path, model: Any, params: Any, label: int | None) -> None:
    from generators.hub import diffusers as hub

    told = model.classes if model.conditional else None
    hub.save(folder, model.network, params["net"], model.shape, told, model.noise.config(), label)


def _write_language(folder: Path, model: Any, params: Any, source: Any, label: int | None) -> None:
    """With the tokenizer of its text, where it has one; a token of the network's own that begins rows is never said."""
    from flax import nnx

    from generators.hub import transformers as hub
    from simulator import GenlossError, Text

    if label is not None:
        raise GenlossError("A language model has no labels; leave --label out.")
    own = model.bos is None
    tokenizer = None
    if isinstance(source, Text):
        tokenizer = source.json(begins=own and len(source.alphabet) == model.vocabulary)
    net = nnx.as_pure(nnx.split(model.merged(params), nnx.Param)[1])  # adapters added in
    sizes = (model.vocabulary + own, model.length)
    bos, never = (model.vocabulary, (model.vocabulary,)) if own else (model.bos, ())
    hub.save(folder, model.network, net, *sizes, bos=bos, eos=model.eos, never=never, tokenizer=tokenizer)


command = Command(
    "write a generation of a diffusion or language model for diffusers or transformers", arguments, export
)
