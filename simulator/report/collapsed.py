"""What the definitions of collapse say of a run, in words: a line for each, and sentences beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simulator.analysis.verdicts import ALARM, CONFIDENCE, Verdict


class Line(NamedTuple):
    """One definition, and the settings of which it holds, each with its onset, does not, or cannot be told."""

    definition: str
    metric: str
    holds: str
    fails: str
    unsure: str


def lines(found: Sequence[Verdict]) -> list[Line]:
    """Those of definitions for which something was measured."""
    said = []
    for definition in dict.fromkeys(one.definition for one in found if one.metric):
        of = [one for one in found if one.definition == definition]
        parts = ("; ".join(_named(one) for one in of if one.holds is holds) for holds in (True, False, None))
        said.append(Line(definition, str(of[0].metric), *parts))
    return said


def _named(one: Verdict) -> str:
    return one.setting if one.onset is None else f"{one.setting} from {one.onset} [{one.low}, {one.high}]"


def sentences(found: Sequence[Verdict], ceiling: Mapping[str, float], noise: Mapping[str, float]) -> list[str]:
    """What the lines are held against and how sure they are, the noise of their measures, and what was not asked."""
    if not found:
        return []
    said = [
        f"Against {found[0].against}: at most {100 * ALARM:g} % of such tables have a wrong answer. In brackets: the "
        f"{100 * CONFIDENCE:g} % interval of the generation from which on it holds."
    ]
    looked = dict.fromkeys(one.metric for one in found if one.metric)
    levels = [f"{metric} {ceiling[metric]:.3g} ± {noise[metric]:.2g}" for metric in looked if metric in noise]
    if levels:
        said.append(f"As many real rows in place of samples, and how one such set deviates: {', '.join(levels)}.")
    missing: dict[str, list[str]] = {}  # why -> definitions
    for one in found:
        if not one.metric:
            missing.setdefault(one.why, []).append(one.definition)
    return said + [f"Not told, {', '.join(dict.fromkeys(of))}: {why}" for why, of in missing.items()]
