"""Which images of a real set are replaced, and by which, decided on an index of both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from experiments.imagesets.checks import Troubles
from experiments.imagesets.index import Index
from experiments.imagesets.names import alike
from simulator.types import GenlossError

REAL, SYNTHETIC = 0, 1  # sets of the index
UNIFORM = 0.9  # share of real images that look alike, beyond which others are odd


@dataclass(frozen=True)
class Contamination:
    """What is asked for."""

    real: str
    out: str
    ratio: Fraction  # share of images replaced, of each class
    synthetic: str | None = None  # None only with `drop`
    format: Literal["folder", "parquet"] = "folder"
    seed: int = 0
    nested: bool = True  # otherwise each ratio has a mask of its own
    stratified: bool = True  # otherwise the ratio is that of the whole set, labels kept all the same
    drop: bool = False  # remove what would be replaced, add nothing
    repeat: bool = False  # images of a class with too few of them are used again
    origin: str = "synthetic"  # what the manifest calls what replaces: "control", say
    skip_broken: bool = False  # leave out what cannot be used
    mixed: bool = False  # take images of other sizes and modes than the real set's
    split: str | None = None  # of the real set
    synthetic_split: str | None = None
    label: str | None = None  # column of the real set's labels, where parquet has several

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise GenlossError(f"--ratio is {float(self.ratio):g} and must lie between 0 and 1, such as 0.4.")
        if self.synthetic is None and not self.drop:
            raise GenlossError("Say with --synthetic DIR what replaces real images, or --drop to add nothing.")
        if self.drop and self.ratio == 1:
            raise GenlossError("--drop at --ratio 1 leaves no image; lower the ratio.")
        if self.origin == "real":
            raise GenlossError("--origin real is the name of what is not replaced; choose another, such as control.")

    def config(self) -> dict[str, Any]:
        """What the set is told apart from others by, beside the checksums of what it is made of."""
        return {
            "command": "contaminate",
            "real_path": os.path.abspath(self.real),  # noqa: PTH100
            "synthetic_path": None if self.synthetic is None else os.path.abspath(self.synthetic),  # noqa: PTH100
            "ratio": float(self.ratio),
            "arm": "drop" if self.drop else "replace",
            "origin": self.origin,
            "seed": self.seed,
            "masks": "nested" if self.nested else "independent",
            "stratified": self.stratified,
            "repeat": self.repeat,
            "format": self.format,
        }

    def troubles(self, kind: str) -> Troubles:
        """A collector whose whole list is beside `out`, which stays untouched."""
        return Troubles(Path(f"{os.path.normpath(self.out)}.{kind}.txt"))


def refuse_odd(index: Index, odd: Troubles, kinds: tuple[str, ...], least: float, mend: str) -> None:
    """Raises where at least that share of real images have one size, or one mode, and others do not."""
    looks = {"size": "width || 'x' || height", "mode": "mode"}
    (n,) = index.db.execute("SELECT COUNT(*) FROM item WHERE set_ = 0").fetchone()
    for kind in kinds if n else ():
        usual, most = index.db.execute(
            f"SELECT {looks[kind]}, COUNT(*) AS n FROM item WHERE set_ = 0 GROUP BY 1 ORDER BY n DESC, 1"
        ).fetchone()
        if most < least * n:
            continue
        others = f"SELECT set_, where_, {looks[kind]} FROM item WHERE {looks[kind]} <> ? ORDER BY id"
        for number, where, found in index.db.execute(others, (usual,)):
            odd.of(index.sets[number].root)(where, f"is of {kind} {found}, where real images are {usual}")
    if odd.count:
        odd.print()
        raise GenlossError(
            f"{odd.count:,} times the size or mode of an image is not that of the real set; convert them, or {mend}."
        )


def plan(asked: Contamination, index: Index) -> dict[str, int]:
    """Fills the tables placed (id, set_, label, place in the order of its class) and swap (real, synthetic: ids).

    Of n images of a class the first ⌊ratio n + 1/2⌋ are replaced; not stratified, those of a class that are among the
    first of all.  The j-th one replaced gets the j-th synthetic image of its class.  Returns the real images per class.
    """
    counts, have = index.counts(REAL), {} if asked.drop else index.counts(SYNTHETIC)
    index.db.execute(
        "CREATE TABLE placed AS SELECT id, set_, label, "
        "ROW_NUMBER() OVER (PARTITION BY set_, label ORDER BY rank, name) - 1 AS place FROM item"
    )
    index.db.execute("CREATE INDEX by_place ON placed (set_, label, place)")
    if asked.stratified:
        need = {label: half_up(asked.ratio * n) for label, n in counts.items()}
    else:
        first = "SELECT label FROM item WHERE set_ = 0 ORDER BY rank, label, name LIMIT ?"
        total = half_up(asked.ratio * sum(counts.values()))
        need = dict.fromkeys(counts, 0)
        need |= dict(index.db.execute(f"SELECT label, COUNT(*) FROM ({first}) GROUP BY label", (total,)))
    if not asked.drop:
        refuse_short(asked, need, have)
    index.db.execute("CREATE TABLE need (label PRIMARY KEY, need, have)")
    rows = [(label, n, have.get(label, 0)) for label, n in need.items()]
    index.db.executemany("INSERT INTO need VALUES (?, ?, ?)", rows)
    index.db.execute("CREATE TABLE swap (real INTEGER PRIMARY KEY, synthetic)")
    index.db.execute(
        "INSERT INTO swap SELECT r.id, s.id FROM need CROSS JOIN placed AS r LEFT JOIN placed AS s "
        "ON s.set_ = 1 AND s.label = r.label AND s.place = r.place % need.have "
        "WHERE r.set_ = 0 AND r.label = need.label AND r.place < need.need"
    )
    return counts


def refuse_short(asked: Contamination, need: dict[str, int], have: dict[str, int]) -> None:
    """Raises where a class has fewer synthetic images than it needs; says which classes have no use for theirs."""
    least = 1 if asked.repeat else 0
    short = {label: n for label, n in need.items() if have.get(label, 0) < (min(n, least) if least else n)}
    unused = sorted(have.keys() - need.keys())
    if unused:
        print(f"{len(unused):,} classes of {asked.synthetic} are none of the real set's: {', '.join(unused[:20])}")
    if not short:
        return
    if (loose := need.get("", 0)) and "" not in have:
        raise GenlossError(
            f"{loose:,} of the images of {asked.real} to be replaced lie in no class's folder, and those of "
            f"{asked.synthetic} do; put them into one."
        )
    if said := next((said for label in short if label not in have and (said := alike(label, unused))), None):
        raise GenlossError(f"{asked.real} and {asked.synthetic} name a class in two ways: {said}.")
    if not need.keys() & have.keys():
        raise GenlossError(
            f"{asked.real} and {asked.synthetic} have no class in common, '{min(need)}' being one of the first and "
            f"'{min(have)}' of the second; give the folders of one the names of the other."
        )
    troubles = asked.troubles("short")
    for label, n in short.items():
        troubles(f"class '{label}'", f"{n:,} synthetic images are needed and there are {have.get(label, 0):,}")
    troubles.print()
    worst = max(short, key=lambda label: short[label] - have.get(label, 0))
    again = ", or use images again with --repeat" if all(have.get(label) for label in short) else ""
    raise GenlossError(
        f"{asked.synthetic} has too few images of {len(short):,} classes (of '{worst}' {have.get(worst, 0):,}, and "
        f"{short[worst]:,} are needed); make more of them or lower --ratio{again}."
    )


def half_up(x: Fraction) -> int:
    """⌊x + 1/2⌋, which never falls when x rises: so larger masks hold smaller ones."""
    return int(x + Fraction(1, 2))


def parse_ratio(text: str) -> Fraction:
    """ "0.4", "40%" or "2/5", exactly."""
    try:
        return Fraction(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise GenlossError(f"--ratio is a number such as 0.4; it was given '{text}'.") from None
