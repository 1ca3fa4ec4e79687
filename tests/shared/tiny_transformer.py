"""A small language model of characters, for tests that write it for transformers."""

from generators.nets.decoder import gpt2
from generators.transformer import Transformer
from simulator import Chain, Text
from simulator.recipe import Replace

text = Text(length=12, vocabulary=40)
chain = Chain(
    source=text,
    generator=Transformer(
        vocabulary=len(text.alphabet), network=gpt2(width=16, depth=1, heads=2), steps=4, chunk=2, batch=8
    ),
    recipe=Replace(),
    real=20,
    rows=20,
    held_out=20,
)
generations = 2
