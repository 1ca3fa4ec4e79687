"""`genloss audit`: the share of a data set that looks generated, what that was measured to cost, and what would pay."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import KEYS, near, number, place, whole

if TYPE_CHECKING:
    from experiments.contamination.known import Curve
    from experiments.imagesets.audit import Found

JSON, PAGE, TEXT = "audit.json", "audit.html", "audit.txt"
OWN = "genloss_audit"  # in the first
HEADS = ("measured on", "rows", "points lost", "won by each 1 %", "least fresh that pays")
RESTS_ON = (
    "Points of accuracy on clean held-out rows, lost by classifiers trained on such a share beyond what other real "
    "rows in its place cost: measured on the sets named, not on this one, and read on straight lines between the "
    "shares that were measured. Other data, generators and sizes may lose more, or nothing: where generated rows cover "
    "what real ones do, nothing was lost. Fresh real rows take the place of generated ones; the fewest that pay are "
    "those whose gain is told from nothing by the standard errors there."
)


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "given",
        type=place,
        metavar="DIR",
        help="an image folder, a folder or file of parquet, or a CSV or parquet file of numbers",
    )
    sub.add_argument("--real", type=place, metavar="DIR", help="real rows of the same kind, none of which is generated")
    sub.add_argument(
        "--confidence", type=number(0.5, 0.999), default=0.9, metavar="C", help="of the interval (default: 0.9)"
    )
    sub.add_argument(
        "--limit", type=whole(1), default=5000, metavar="N", help="rows looked at, of each (default: 5000)"
    )
    sub.add_argument("--side", type=whole(4, 4096), metavar="PX", help="resize images to PX x PX pixels")
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="of what is chosen (default: 0)")
    sub.add_argument(
        "--watermark", type=whole(0, KEYS), metavar="S", help="read this project's watermark of that seed in the set"
    )
    sub.add_argument("--json", action="store_true", help="as data")
    sub.add_argument("--out", type=place, metavar="DIR", help=f"folder of {PAGE}, {TEXT} and {JSON}")
    shared.image_sets(sub)


def audit(options: argparse.Namespace) -> int:
    import dataclasses

    from experiments.imagesets.audit import Audit
    from experiments.imagesets.audit import audit as work

    asked = Audit(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Audit)})
    about = {OWN: 1, "set": os.path.abspath(asked.given), "real": asked.real and os.path.abspath(asked.real)}  # noqa: PTH100
    if options.out is not None:
        _check_out(Path(options.out), about, [place for place in (asked.given, asked.real) if place])
    found = work(asked)
    told = about | _told(found, asked.confidence)
    lines = _sentences(told, asked.given, asked.real)
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        _print(lines, told)
    if options.out is not None:
        _write(Path(options.out), told, lines, found)
        if not options.json:
            print(f"page: {near(Path(options.out).absolute() / PAGE)}")
    return 1 if found.left_out else 0


def _check_out(out: Path, about: dict[str, Any], sets: list[str]) -> None:
    """Raises where `out` cannot be written, lies in a set, or holds what is no audit of the same sets."""
    from experiments.imagesets.writing import check_place, read_json
    from simulator import GenlossError

    for name in sets:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(name)):
            raise GenlossError(f"{out} lies in {name}, which it would be read as a part of; choose another --out.")
    check_place(out)
    there = [name for name in (JSON, PAGE, TEXT) if os.path.lexists(out / name)]
    if there and not about.items() <= (read_json(out / JSON) or {}).items():
        raise GenlossError(f"{out / there[0]} is not of this audit; choose another folder for --out.")


def _told(found: Found, confidence: float) -> dict[str, Any]:
    """The audit as data: shares between 0 and 1, costs in points of accuracy."""
    from scipy.special import ndtri

    from experiments.contamination.known import curves

    share, written = found.share, found.written
    ends = None  # (share at which costs are told, least, most)
    if share is not None and (share.value is not None or share.low > 0):
        ends = (share.low if share.value is None else share.value, share.low, share.high)
    elif written.whole or written.generated:
        ends = (said := written.generated / written.rows, said, said)
    z = float(ndtri((1 + confidence) / 2))
    names = ("value", "low", "high", "auroc", "error", "part", "why")
    return {
        **{name: getattr(share, name, None) for name in names},
        "confidence": confidence, "rows": written.rows, "used": dict(zip(("real", "set"), found.used, strict=True)),
        "same": found.same, "notes": list(found.notes),
        "written": {"generated": written.generated, "whole": written.whole, "said": written.said},
        "costs": [_cost(curve, ends, z) for curve in curves()] if ends else [],
    }  # fmt: skip


def _cost(curve: Curve, shares: tuple[float, float, float], z: float) -> dict[str, Any]:
    (points, error), *ends = (curve.at(share) for share in shares)
    return {
        "on": curve.name, "rows": curve.rows, "points": points, "error": error,
        "low": min(at - z * e for at, e in ends), "high": max(at + z * e for at, e in ends),
        "percent": curve.worth(shares[0]), "fresh": curve.least(shares[0], z),
    }  # fmt: skip


def _sentences(told: dict[str, Any], given: str, real: str | None) -> list[str]:
    """The answer, the first sentence, and what it rests on."""
    percent = lambda x: f"{100 * x:.1f} %"  # noqa: E731
    lines = []
    if real is not None:
        ends = f"[{percent(told['low'])}, {percent(told['high'])}] at {told['confidence']:.0%} confidence"
        if told["value"] is not None:
            lines.append(f"looks generated: {percent(told['value'])} {ends}")
        elif told["low"] > 0:
            lines.append(f"at least {percent(told['low'])} looks generated {ends}; cannot tell how much: {told['why']}")
        else:
            lines.append(f"cannot tell what share is generated: {told['why']}")
        lines.append(
            f"{told['used']['set']:,} rows of {given} against {told['used']['real']:,} of {real}: AUROC "
            f"{told['auroc']:.3f}, where chance gives 0.5 ± {told['error']:.3f}; the share is read beside the "
            f"{told['part']:.0%} of real rows that look most real"
        )
        if told["same"]:
            lines.append(f"{told['same']:,} of its {told['rows']:,} rows are in {real} too, and count as real")
        lines.append(
            "The lower end holds if real rows of both are drawn alike: whatever else differs looks generated. The "
            "upper end holds if some real rows look like no generated one: what looks wholly real counts as real."
        )
    elif not told["written"]["whole"]:
        lines.append("cannot tell what share is generated: give real rows of the same kind with --real")
    said = "; ".join(f"{n:,}: {name}" for name, n in told["written"]["said"].items())
    if said:
        sure = "" if told["written"]["whole"] else "at least "
        share = percent(told["written"]["generated"] / told["rows"])
        lines.append(f"by what its files say {sure}{share} of {told['rows']:,} is generated ({said})")
    elif real is None:
        lines.append(f"the files of its {told['rows']:,} rows say nothing of where they come from")
    return lines + [f"note: {note}" for note in told["notes"]]


def _cells(told: dict[str, Any]) -> list[list[str]]:
    """A line of the table of costs for each curve."""
    lines = []
    for one in told["costs"]:
        fresh, rows = one["fresh"], told["rows"]
        lines.append(
            [
                one["on"],
                f"{one['rows']:,}",
                f"{one['points']:.1f} [{one['low']:.1f}, {one['high']:.1f}]",
                f"{one['percent']:.3f}",
                "none was seen to" if fresh is None else f"{max(1, round(fresh * rows)):,} ({100 * fresh:.0f} %)",
            ]
        )
    return lines


def _print(lines: list[str], told: dict[str, Any]) -> None:
    from experiments.command.tables import Column, show
    from simulator.report.names import plain

    print("\n".join(map(plain, lines)))
    if cells := _cells(told):
        print()
        show([Column(HEADS[0], prose=True), *(Column(head, right=True) for head in HEADS[1:])], cells)
        print(f"\n{RESTS_ON}")


def _write(out: Path, told: dict[str, Any], lines: list[str], found: Found) -> None:
    """The page, its sentences as text, and the data; the last says that all is there."""
    from experiments.contamination.known import curves
    from simulator import disk
    from simulator.report.audited import drawn
    from simulator.report.figures import rendered
    from simulator.report.names import in_page, plain
    from simulator.report.page import document, picture

    real, given = (Path(told[name] or "").name for name in ("real", "set"))
    figure = drawn(found.share, found.scores, {c.name: (c.ratios, c.points) for c in curves()}, (real, given))
    cells = _cells(told)
    rows = ["".join(f"<td>{in_page(cell)}</td>" for cell in line) for line in cells]
    head = "".join(f"<th>{name}</th>" for name in HEADS)
    costs = f"<h2>what others lost, and what would pay</h2><table><tr>{head}</tr>"
    costs += f"{''.join(f'<tr>{row}</tr>' for row in rows)}</table><p>{RESTS_ON}</p>"
    first, *others = [in_page(line) for line in lines]
    body = f"<p><b>{first}</b></p>{''.join(f'<p>{line}</p>' for line in others)}"
    body += picture("scores, the share and its cost", rendered(figure, "png")) + costs * bool(cells)
    text = [*map(plain, lines), *("  ".join(line) for line in [HEADS, *cells] if cells), *[RESTS_ON] * bool(cells)]
    disk.write(out, PAGE, document(f"audit of {given}", body).encode())
    disk.write(out, TEXT, ("\n".join(text) + "\n").encode())
    disk.write(out, JSON, (json.dumps(told, indent=1) + "\n").encode())


command = Command("the share of a data set that looks generated, what that costs, and what would pay", arguments, audit)
