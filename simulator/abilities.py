"""What a plug-in can do beyond its protocol: each ability by its name, and here alone is asked who has it.

A generator, a source or a probe has an ability by having its members; nothing is registered or inherited.  What a
recipe can say of itself is in `simulator.recipe.contract`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from simulator.pool import Pool, Rows
from simulator.types import Array, Generator, Key, Params, Probe, Source

# Of generators.


@runtime_checkable
class Shaped(Protocol):
    """Takes its shapes from example rows."""

    def shaped(self, rows: Rows) -> Generator: ...


@runtime_checkable
class Dense(Protocol):
    """Has a density."""

    def log_prob(self, params: Params, rows: Rows) -> Array:
        """[n], in nats."""
        ...


@runtime_checkable
class Encoding(Protocol):
    """Encodes rows as z ~ q(z|x), and bounds their likelihood by it."""

    def encode(self, params: Params, rows: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation of q(z|x), [n, latent] each."""
        ...

    def elbo(self, key: Key, params: Params, rows: Rows) -> Array:
        """[n], in nats: log p(x|z) for one z, less the divergence of q from the prior."""
        ...

    def importance_bound(self, key: Key, params: Params, rows: Rows, draws: int = 50) -> Array:
        """[n], in nats: the logarithm of the mean of `draws` ratios p(x, z)/q(z|x)."""
        ...


@runtime_checkable
class Losing(Protocol):
    """Has a loss for each row."""

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """[n], or of each value of a row, [n, ...]."""
        ...


@runtime_checkable
class Completing(Protocol):
    """Completes rows of which part is given, a label or first tokens, where `completes` says that it does."""

    @property
    def completes(self) -> bool: ...

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows: ...


@runtime_checkable
class Repelled(Protocol):
    """Samples by a score, and can be led away from that of other parameters."""

    def repelled(self, params: Params, other: Params, strength: Array) -> Params:
        """Parameters by which `sample` follows (1 + w)·score - w·other's, w the strength."""
        ...


@runtime_checkable
class Trained(Protocol):
    """Is fitted call by call, so that a run can drive a long fit from the host (`generators/train.py`)."""

    @property
    def calls(self) -> int:
        """Calls of `advance` that make a fit."""
        ...

    def begin(self, key: Key, params: Params, pool: Pool) -> Any:
        """A fit in flight, which has a `loss` []."""
        ...

    def advance(self, pool: Pool, training: Any) -> Any: ...

    def finish(self, training: Any) -> tuple[Params, dict[str, Array]]: ...


@runtime_checkable
class Stepped(Protocol):
    """Says how many optimizer steps a fit takes, of how many rows, and how many of them a call."""

    @property
    def steps(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def chunk(self) -> int: ...


@runtime_checkable
class Portioned(Protocol):
    """Writes in pieces of one length, so that a run can drive a long sample from the host."""

    def portions(self, n: int) -> int: ...

    def portion(self, key: Key, params: Params, n: int, i: Array, given: Rows | None = None) -> Rows:
        """Piece i of what `sample` says, of which part is `given` where the generator completes rows.

        Rows beyond n, in the last one, are thrown away.
        """
        ...


@runtime_checkable
class Spoken(Protocol):
    """Writes numbers of tokens."""

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are."""
        ...


@runtime_checkable
class Telling(Protocol):
    """Says how likely each token of a row is, given those before it in the row."""

    def token_log_prob(self, params: Params, rows: Rows) -> Array:
        """[n, length], in nats; 0 after the end of a text."""
        ...


@runtime_checkable
class Foretelling(Protocol):
    """Says how likely every token is at each place of a row, given those before it in the row."""

    def next_log_prob(self, params: Params, rows: Rows) -> Array:
        """[n, length, vocabulary], in nats."""
        ...


@runtime_checkable
class Hidden(Protocol):
    """Has hidden states, from which the token of each place is foretold."""

    def hidden(self, params: Params, rows: Rows) -> Array:
        """[n, length, width]."""
        ...


@runtime_checkable
class Ending(Protocol):
    """Knows texts that end before their rows do."""

    @property
    def eos(self) -> int | None:
        """The token that ends a text; None where rows have no padding."""
        ...


@runtime_checkable
class Merging(Protocol):
    """Can keep two rows as one, as cohorts of rows can that always weigh the same, and does where `merge` says so."""

    @property
    def merge(self) -> bool: ...

    def merged(self, old: Rows, new: Rows, share: Array) -> Rows:
        """Leaves [n, ...]: each old row with one new one, which carries `share` of what they say."""
        ...


@runtime_checkable
class WithParents(Protocol):
    """Knows which row of the diet each of its own was made from."""

    def parents(self, key: Key, params: Params, pool: Pool, rows: Rows, fit: Key, sample: Key) -> Array:
        """[n] int32, -1 for none; `fit` and `sample` are the keys that those two were given."""
        ...


@runtime_checkable
class Risky(Protocol):
    """Draws windows of returns whose law it knows."""

    def risk(self, level: float, days: int = 1) -> tuple[float, float]:
        """(value at risk, expected shortfall) of returns over some days."""
        ...

    def moments(self, days: int = 1) -> tuple[float, float]:
        """(standard deviation, excess kurtosis) of these."""
        ...

    def squares(self, lag: int = 1) -> float:
        """The correlation of squared returns of days `lag` apart."""
        ...


def shaped(generator: Generator, rows: Rows) -> Generator:
    """The generator for rows like these, where it takes its shapes from them."""
    return generator.shaped(rows) if isinstance(generator, Shaped) else generator


def completes(generator: Generator) -> bool:
    return isinstance(generator, Completing) and generator.completes


# Of sources, of what reads files, and of the statistics that stand for rows.


@runtime_checkable
class Finite(Protocol):
    """Holds so many rows in a stream."""

    @property
    def size(self) -> int: ...


@runtime_checkable
class Reusable(Protocol):
    """May begin a stream again when it runs out."""

    @property
    def reuse(self) -> bool: ...


@runtime_checkable
class Checked(Protocol):
    """Cannot do with every number of rows."""

    def check(self, n: int) -> None:
        """Raises where a stream cannot serve n rows, or where n have no statistic."""
        ...


@runtime_checkable
class Guarded(Protocol):
    """Knows its held-out rows."""

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows`, leaves [n, ...], is held out."""
        ...


class Skipping(Protocol):
    """Serves a stream from any row on, as the source of a chain with `fresh` rows must."""

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows: ...


@runtime_checkable
class Spelled(Protocol):
    """Serves tokens that stand for bytes of text."""

    @property
    def token_bytes(self) -> Any:
        """How many bytes of UTF-8 each token spells, [vocabulary] int32; 0 for what spells nothing."""
        ...


@runtime_checkable
class Written(Protocol):
    """Serves rows that can be read as text."""

    def decode(self, rows: Rows) -> list[str]: ...


@runtime_checkable
class Framed(Protocol):
    """Serves rows of a table whose columns have names."""

    def frame(self, rows: Rows) -> Any:
        """The pandas table that rows would be in a file."""
        ...


@runtime_checkable
class Fingerprinted(Protocol):
    """Depends on files, of which this is a checksum."""

    @property
    def fingerprint(self) -> str: ...


def fingerprint(thing: Any) -> str | None:
    return thing.fingerprint if isinstance(thing, Fingerprinted) else None


# Of probes.


@runtime_checkable
class Following(Protocol):
    """Wants the ancestors of rows kept, for so many data sets back."""

    @property
    def follows(self) -> int | None: ...


@runtime_checkable
class Learning(Protocol):
    """Learns from real rows before generation 0, as a probe does or any of its fields (a feature space)."""

    def prepare(self, key: Key, source: Source) -> Any: ...


@runtime_checkable
class LearningLast(Protocol):
    """Learns from real rows before generation 0 by what others learned, such as its own feature space."""

    def prepare_with(self, key: Key, source: Source, prepared: Mapping[Any, Any]) -> Any: ...


@runtime_checkable
class Ceilingless(Protocol):
    """Has parts ("": all of it) that mean nothing with real rows in place of samples."""

    @property
    def no_ceiling(self) -> tuple[str, ...]: ...


def follows(probes: Mapping[str, Probe]) -> int | None:
    """For how many data sets back ancestors are wanted by any of the probes; None where none asks."""
    asked = [probe.follows for probe in probes.values() if isinstance(probe, Following)]
    return max((n for n in asked if n is not None), default=None)


def students(probes: Mapping[str, Probe]) -> dict[Learning | LearningLast, str]:
    """What learns from real rows before generation 0: probes and their fields, with the place they were found."""
    found: dict[Learning | LearningLast, str] = {}
    for name, probe in probes.items():
        fields = dataclasses.fields(probe) if dataclasses.is_dataclass(probe) else ()
        for path, thing in ((name, probe), *((f"{name}.{f.name}", getattr(probe, f.name)) for f in fields)):
            if isinstance(thing, Learning | LearningLast):
                found.setdefault(thing, path)
    return found


def taught(probes: Mapping[str, Probe], key: Key, source: Source) -> dict[Any, Any]:
    """What each student learned; those that learn by what others have learned come last."""
    learning = students(probes)
    found: dict[Any, Any] = {one: one.prepare(key, source) for one in learning if isinstance(one, Learning)}
    last: dict[Any, Any] = {
        one: one.prepare_with(key, source, found) for one in learning if isinstance(one, LearningLast)
    }
    return {one: (last if one in last else found)[one] for one in learning}


def has_ceiling(probes: Mapping[str, Probe], metric: str) -> bool:
    """Whether real rows in place of samples give this metric, by its dotted name, a meaning."""
    name, _, rest = metric.partition(".")
    probe = probes.get(name)
    parts = probe.no_ceiling if isinstance(probe, Ceilingless) else ()
    return not any(part in ("", rest) or rest.startswith(f"{part}.") for part in parts)
