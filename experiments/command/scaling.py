"""`genloss scaling`: how an experiment's error falls with rows, by the share of real ones and the generation."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import Experiment, swept
from experiments.command.numbers import KEYS, near, number, whole
from experiments.command.parts import at_once

REPLICATES = 100  # where the experiment says nothing
STEPS = 4  # sizes, each twice the one before, where none are named
SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # of the range of the share, where none are named


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--over",
        metavar="FIELD,...[=V1,V2,...]",
        action="append",
        help="numbers of rows that grow together, the first of them given, and a share: real,rows=100,200,400 and "
        "recipe.real=0.1,0.5; 'share' is the recipe's own",
    )
    sub.add_argument("--metric", metavar="M", help="the measure, which falls with rows (default: the risk)")
    sub.add_argument("--ahead", type=number(0), default=4.0, metavar="X", help="check at X times the largest size (4)")
    sub.add_argument("--confidence", type=number(), default=0.9, metavar="P", help="of intervals (default: 0.9)")
    sub.add_argument("--generations", type=whole(1), metavar="T", help="fits in all")
    shared.figure(sub)
    sub.add_argument("--json", action="store_true", help="as data")
    sub.add_argument("--dry-run", action="store_true", help="what it would cost, without running it")
    sub.add_argument("experiment", metavar="NAME|FILE.py", help="an experiment's name, or your own file")
    sub.add_argument("--preset", metavar="NAME", help="another size of the experiment, one of its `presets`")
    sub.add_argument("--replicates", type=whole(1), metavar="R", help="chains at each size and share")
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="the root key (default: 0)")


def scaling(options: argparse.Namespace) -> int:
    from rich.console import Console

    from simulator import GenlossError
    from simulator.analysis import scaling as analysis
    from simulator.analysis.ladder import FEWEST, Ladder
    from simulator.report import scaled

    if not options.over:
        raise GenlossError("Say which numbers of rows grow, and which share varies: --over real,rows,share.")
    draw = shared.drawing(options.figure)
    options.every = options.out = None
    experiment = Experiment.load(options, own_sweep=False)
    axes = Axes.read(experiment.chain, options.over, options.ahead)
    ladder = Ladder(
        axes.made(experiment.chain),
        axes.ladder,
        axes.shares,
        generations=experiment.generations,
        replicates=options.replicates or max(experiment.replicates or REPLICATES, FEWEST),
        metric=options.metric,
        ahead=options.ahead,
    )
    if not options.json:
        _say_price(ladder, axes, axes.left(experiment.chain))
    if options.dry_run:
        if options.json:
            print(json.dumps({"price": ladder.price._asdict()}))
        return 0
    began = (time.perf_counter(), time.process_time())
    with Console(stderr=True).status("compiling") as status:
        found = analysis.scaling(
            ladder,
            experiment.key,
            confidence=options.confidence,
            report=lambda done, of: status.update(f"{done} of {of} sizes"),
        )
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    if draw:
        draw(scaled.drawn(found, axes.size, axes.share))
    if options.json:
        print(json.dumps(found.data(), indent=1))
        return 0
    _say(found, axes, spent)
    if options.figure:
        print(f"figure: {near(Path(options.figure).absolute())}")
    return 0


@dataclasses.dataclass(frozen=True)
class Axes:
    """Which fields of a chain grow together, and how; and which one is the share."""

    parts: dict[str, float]  # of the fields that grow, the first one's 1 and the others' in proportion to it
    ladder: list[int]
    share: str | None
    shares: list[float]  # one, which is not used, where no share is varied

    @property
    def size(self) -> str:
        return next(iter(self.parts))

    @classmethod
    def read(cls, chain: Any, texts: Sequence[str], ahead: float) -> Axes:
        """From FIELD,...[=V1,V2,...] each: whole numbers grow together, the first of them as given; one is a share."""
        from simulator import GenlossError, Sweep

        growing: list[str] = []
        share, of_growing, of_share = None, None, None
        for text in texts:
            names, equals, values = text.partition("=")
            paths = [_field(chain, name.strip()) for name in names.split(",")]
            counts = [path for path in paths if _counts(chain, path)]
            others = [path for path in paths if path not in counts]
            if equals and counts and others:
                raise GenlossError(
                    f"--over {text}: give the sizes and the share each an --over with values of its own."
                )
            if set(growing) & set(counts) or (others and share) or len(others) > 1:
                raise GenlossError(f"--over {text}: sizes are named once, and one share; leave the others out.")
            if equals and counts:
                if of_growing is not None:
                    raise GenlossError(
                        f"--over {text}: sizes grow together, in the proportion that the chain has; give values to one."
                    )
                growing = counts + growing
                of_growing = list(swept(counts[0], 1, values).values())
            else:
                growing += counts
            if others:
                share = others[0]
                of_share = list(swept(share, 1.0, values).values()) if equals else _usual(chain, share)
        if not growing:
            raise GenlossError(f"--over {texts[0]}: name what counts rows, too, such as real: --over real,rows,share.")
        have = {path: int(_value(chain, path)) for path in growing}
        if nothing := [path for path, value in have.items() if value < 1]:
            raise GenlossError(f"--over {nothing[0]}: the chain has 0 of it, which does not grow; leave it out.")
        first = have[growing[0]]
        ladder = _below(growing[0], first, ahead) if of_growing is None else [int(value) for value in of_growing]
        parts = {path: value / first for path, value in have.items()}
        axes = cls(parts, ladder, share, [0.0] if of_share is None else of_share)
        if share is not None and of_share is not None:
            smallest = axes.made(chain)(min(ladder), of_share[0])
            Sweep(smallest, share, {f"{value:g}": value for value in of_share}).check()
        return axes

    def made(self, chain: Any) -> Any:
        """`make(size, share)`."""
        from simulator import GenlossError
        from simulator.running import spec

        def make(size: Any, share: Any) -> Any:
            changes = {path: _part(size, part) for path, part in self.parts.items()}
            try:
                return spec.override(chain, changes | ({} if self.share is None else {self.share: share}))
            except GenlossError as error:
                if not (left := self.left(chain)):
                    raise
                said = str(error).rstrip(".")
                raise GenlossError(f"{said}; or let {', '.join(left)} grow with the rows.") from error

        return make

    def left(self, chain: Any) -> list[str]:
        """The sizes of the recipe's diets that stay what they are."""
        from simulator.running.spec import leaves

        sizes = (leaf.path for leaf in leaves(chain) if leaf.path.startswith("recipe.") and leaf.path.endswith(".size"))
        return [path for path in sizes if path not in self.parts]


def _part(size: Any, part: float) -> Any:
    if part == 1:
        return size
    return max(1, round(size * part)) if isinstance(size, int) else size * part  # or traced


def _below(path: str, value: int, ahead: float) -> list[int]:
    """The sizes from which the error at the chain's own is foretold; up to it, where nothing is."""
    from simulator import GenlossError

    found = [round(value / (ahead or 1) / 2**i) for i in reversed(range(STEPS))]
    if found[0] < 2:
        raise GenlossError(
            f"--over {path}: the chain has {value}, and there is no ladder below; give sizes: {path}=..."
        )
    return found


def _usual(chain: Any, path: str) -> list[float]:
    from simulator import GenlossError

    declared = _declared(chain, path)
    if declared is None or not abs(declared.low) + abs(declared.high) < float("inf"):
        raise GenlossError(f"--over {path}: the field has no two ends; give its values: {path}=V1,V2,...")
    return [round(declared.low + (declared.high - declared.low) * u, 6) for u in SHARES]


def _field(chain: Any, name: str) -> str:
    """The path of a field; of 'share' that of the recipe's share of real rows, of 'real' and 'rows' those of cohorts
    where a row stands for one.
    """
    from generators.cohort import Cohort
    from simulator import GenlossError
    from simulator.checks.fields import Range
    from simulator.running.spec import leaves, unknown

    known = [leaf.path for leaf in leaves(chain)]
    for rows, path in (("real", "source.generator"), ("rows", "generator")):
        if name == rows and f"{path}.n" in known and isinstance(_value(chain, path), Cohort):
            return f"{path}.n"
    if name in known:
        return name
    if name != "share":
        raise GenlossError(unknown(name, [*known, "share"], "The chain has no field"))
    inside = [path for path in known if path.startswith("recipe") and _declared(chain, path) == Range(0, 1)]
    found = [path for path in inside if path.endswith(".real")] or inside
    if len(found) != 1:
        have = f"has {', '.join(found)}" if found else "has none"
        raise GenlossError(f"--over share: the recipe {have}; name the field that is the share, or leave it out.")
    return found[0]


def _value(chain: Any, path: str) -> Any:
    from simulator.running.spec import child

    for part in path.split("."):
        chain = child(chain, part)
    return chain


def _declared(chain: Any, path: str) -> Any:
    """The range that a field's declaration gives."""
    from simulator.checks.fields import allowed

    above, _, name = path.rpartition(".")
    owner = _value(chain, above) if above else chain
    return allowed(owner, name) if dataclasses.is_dataclass(owner) else None


def _counts(chain: Any, path: str) -> bool:
    """Whether a field counts, or else is a number between others."""
    from simulator import GenlossError
    from simulator.numerics.schedule import Schedule

    value, declared = _value(chain, path), _declared(chain, path)
    if isinstance(value, bool) or not isinstance(value, int | float | Schedule):
        raise GenlossError(f"--over {path}: the field holds {value!r}, and what is varied is a number.")
    return isinstance(value, int) and not (declared is not None and declared.high <= 1)


def _say_price(ladder: Any, axes: Axes, left: Sequence[str]) -> None:
    from simulator.analysis.ladder import counted
    from simulator.report.names import plain

    beyond = f" and, for the check, {counted(ladder.beyond)}" if ladder.beyond else ""
    print(plain(f"{', '.join(axes.parts)}: {', '.join(map(counted, ladder.sizes))}{beyond}"))
    if axes.share:
        print(plain(f"{axes.share}: {', '.join(f'{share:g}' for share in ladder.shares)}"))
    if left:
        print(plain(f"as they are: {', '.join(left)}"))
    programs, chains, rows = ladder.price
    fits, compiled = _many(ladder.generations, "generation"), _many(programs, "program")
    print(f"price: {chains:,} chains of {fits}, {rows:,} rows, {compiled} to compile", flush=True)


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n > 1)}"


def _say(found: Any, axes: Axes, spent: tuple[float, float]) -> None:
    from experiments.command.tables import Column, show
    from simulator.analysis.ladder import counted
    from simulator.report.names import plain

    right = lambda *names: [Column(name, right=True) for name in names]  # noqa: E731
    end, sure = found.generations[-1], f"{found.confidence:.0%} interval"
    print(f"cost: {spent[0]:.0f} s, {spent[1]:.0f} CPU s")
    at = f"generation{'s' * (len(found.generations) > 1)} {', '.join(map(str, found.generations))}"
    print(plain(f"{found.metric} at {at}: {found.verdict}"))
    if found.exponent is not None:
        value, error, low, high = map(float, found.exponent)
        law = "none" if found.law is None else f"{found.law:.4g}"
        print(f"α: {value:.4g} ± {error:.2g}, {sure} {low:.4g} to {high:.4g}")
        print(plain(f"law: {law} ({found.why.rstrip('.')})"))
    names = [f"{share:g}" if axes.share else "all" for share in found.shares]
    means, level = found.values.mean(2)[:, :, -1], found.at(found.sizes[-1])  # [sizes, shares]; [shares, generations]
    fitted = [] if found.exponent is None else ["fitted", "low", "high"]
    show(
        [Column("share"), *right(*map(counted, found.sizes), *fitted)],
        [
            [name, *(f"{x:.3g}" for x in [*means[:, j], *(level[i][j, -1] for i in (0, 2, 3) if fitted)])]
            for j, name in enumerate(names)
        ],
        title=f"error at generation {end}, by {axes.size}: measured"
        + (f"; fitted at {counted(found.sizes[-1])}, {sure}s" if fitted else ""),
    )
    if found.best:
        law = "law" if any(b.law is not None for b in found.best) else ""
        show(
            right(axes.size, "best share", "low", "high", law),
            [
                [counted(b.size), *(f"{x:.3g}" for x in (b.share.value, b.share.low, b.share.high)),
                 "" if b.law is None else f"{b.law:.3g}"]
                for b in found.best
            ],
            title=f"least error at generation {end}, {sure}s",
        )  # fmt: skip
    if found.checks:
        show(
            [Column("share"), *right("foretold", "low", "high", "measured", "± s.e.", "apart, in s.e.")],
            [
                [name, *(f"{float(x):.3g}" for x in (c.foretold.value, c.foretold.low, c.foretold.high, c.measured)),
                 f"{c.error:.1g}", f"{c.apart:+.1f}"]
                for name, c in zip(names, found.checks, strict=True)
            ],
            title=f"check at {counted(found.beyond)}, generation {end}, {sure}s",
        )  # fmt: skip


command = Command(
    "how the error falls with rows, share and generation", arguments, scaling, takes_fields=True, parts=at_once
)
