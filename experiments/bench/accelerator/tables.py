"""accelerator.json as tables in Markdown."""

from __future__ import annotations

from typing import Any

from experiments.bench import table
from experiments.bench.accelerator import PARTS


def tables(found: dict[str, dict[str, Any]]) -> str:
    """A table for each part that there is, under its question; what failed or was left out says so."""
    about = found["about"]
    missing = f"; not there: {', '.join(about['missing'])}" if about["missing"] else ""
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "jax", "flax", "torch") if about[name])
    said = [f"# {about['device']}\n\n{versions}{missing}.  `python -m experiments.bench accelerator`."]
    for name, part in found.items():
        if name in PARTS:
            lines = table(f"## {name}: {PARTS[name].asks}", "", "")
            for path, value in flat(part):
                lines.add_row(path, shown(value))
            said.append(str(lines))
    return "\n\n".join(said) + "\n"


def short(found: dict[str, dict[str, Any]]) -> str:
    """A line a part: its seconds, or why there is none."""
    lines = table("", "part", "seconds", "")
    for name in PARTS:
        part = found.get(name, {"left_out": "not begun"})
        why = part.get("error") or part.get("left_out") or ("" if "seconds" in part else "not ended")
        lines.add_row(name, shown(part.get("seconds", "")), why)
    return str(lines).strip()


def flat(part: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """(path, value) of all that a part found, its own dictionaries opened."""
    rows: list[tuple[str, Any]] = []
    for name, value in part.items():
        path = f"{before}{name}"
        rows += flat(value, f"{path}: ") if isinstance(value, dict) else [(path, value)]
    return rows


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
