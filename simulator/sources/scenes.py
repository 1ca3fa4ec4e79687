"""Captioned scenes: real items on a canvas, and a caption that says exactly what is where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Range, Whole, check
from simulator.numerics.chance import fold_in
from simulator.pool import Rows, count
from simulator.sources.dataset import Dataset
from simulator.types import Array, GenlossError, Key

PAD, START, END, AND = 0, 1, 2, 3
_WORDS = ("<pad>", "<start>", "<end>", "and", "top", "bottom", "left", "right")
_CELLS = 4


@dataclass(frozen=True)
class Scenes:
    """Pairs {"image": uint8 [side, side, c], "caption": int32 [length]} of one to `most` real items and what is where.

    The canvas has four cells, and an item lies somewhere in its own.  A caption names items in reading order, such as
    "<start> sneaker top right and bag bottom left <end>", padded to one length; `vocabulary` has the word of each
    number.  Training scenes are made of the data set's training rows and held-out scenes of its held-out rows, so they
    share no item; how many items, which, and where are uniform.  A stream does not end: scene i is made of `key` and i.
    """

    items: Dataset
    most: Annotated[int, Range(1, _CELLS)] = 3  # items of a scene
    margin: Whole = 4  # pixels by which a cell is larger than an item

    __post_init__ = check

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of each number; a class is one word."""
        return (*_WORDS, *("-".join(name.split()) for name in self.items.split.classes))

    @property
    def length(self) -> int:
        """Numbers of a caption: three words an item, what is between them, start and end."""
        return 4 * self.most + 1

    @property
    def fingerprint(self) -> str:
        """That of the items."""
        return self.items.fingerprint

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """Scenes skip..skip+n of the stream that `key` opens."""
        items = self.items.split.test if held_out else self.items.split.train
        images, labels = jnp.asarray(items["image"]), jnp.asarray(items["label"])
        if images.ndim != 4:
            raise GenlossError(f"Scenes are made of images; the items are {list(images.shape)}.")
        keys = jax.vmap(lambda i: fold_in(fold_in(key, held_out), i))(jnp.arange(n) + skip)
        return jax.vmap(lambda k: self._scene(k, images, labels))(keys)

    def _scene(self, key: Key, images: Array, labels: Array) -> Rows:
        """One scene of images [m, h, w, c] and their labels [m]."""
        _, h, w, c = images.shape
        for_count, for_cells, for_items, for_places = jax.random.split(key, 4)
        number = jax.random.randint(for_count, (), 1, self.most + 1)  # []
        used = jax.random.permutation(for_cells, _CELLS) < number  # [4] bool, in reading order
        item = jax.random.randint(for_items, (_CELLS,), 0, count(images))  # [4]
        place = jax.random.randint(for_places, (_CELLS, 2), 0, self.margin + 1)  # [4, 2]: from the cell's corner
        image = jnp.zeros((2 * (h + self.margin), 2 * (w + self.margin), c), images.dtype)
        caption = jnp.full(self.length, PAD).at[0].set(START).at[4 * number].set(END)
        turn = jnp.cumsum(used) - 1  # [4]: which item of the caption
        for cell in range(_CELLS):
            row, column = divmod(cell, 2)
            corner = (row * (h + self.margin) + place[cell, 0], column * (w + self.margin) + place[cell, 1], 0)
            shown = jnp.where(used[cell], images[item[cell]], 0)
            image = jax.lax.dynamic_update_slice(image, shown, corner)
            first = jnp.where(used[cell], 4 * turn[cell] + 1, self.length)  # beyond the end: nothing is written
            words = jnp.stack([len(_WORDS) + labels[item[cell]], jnp.int32(4 + row), jnp.int32(6 + column)])
            caption = caption.at[first + jnp.arange(3)].set(words, mode="drop")
            before = jnp.where(used[cell] & (turn[cell] > 0), first - 1, self.length)
            caption = caption.at[before].set(AND, mode="drop")
        return {"image": image, "caption": caption.astype(jnp.int32)}

    def decode(self, captions: Array | np.ndarray) -> list[str]:
        """Captions [n, length] as text, without start, end and padding."""
        return said(np.asarray(captions), self.vocabulary)


def said(captions: np.ndarray, vocabulary: Sequence[str] | None = None) -> list[str]:
    """Numbers [n, length] up to the first end as words between spaces; without a vocabulary the numbers themselves."""
    texts = []
    row: list[int]
    for row in captions.tolist():
        row = row[: row.index(END)] if END in row else row
        texts.append(" ".join(vocabulary[i] if vocabulary else str(i) for i in row if i > END))
    return texts
