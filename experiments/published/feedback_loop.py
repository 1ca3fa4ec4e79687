"""Does a recommender that learns from what it showed forget its users?  (Chaney, Stewart & Engelhardt 2018,
arXiv:1710.11214; Mansoury et al. 2020, arXiv:2007.13019)

    genloss run feedback_loop

50 users who do not change, 40 items, 1,000 rows (user, item, click) a fit, of which only the first fit's are shown at
random: later ones are shown by the last model, and clicked by the same users.  16 chains a setting; ± is two standard
errors.
Result: where only the last model's rows are learned from, after 15 fits 0.76 ± 0.04 of the items are still shown (0.97
± 0.02 at first), their Gini coefficient is 0.80 ± 0.01 (0.64 ± 0.02), two users see the same item with chance 0.122 ±
0.008 (0.070 ± 0.008), and fitted tastes vary half as much among users as at first (0.80 ± 0.11 of the truth's variance,
1.57 ± 0.06) while their error stays, 0.26 of a click.  All the same they click more, 0.55 ± 0.02 of rows for 0.41 ±
0.02, since clicks are real whoever chose what to show: a loop of choices narrows, and does not forget.  Rows kept do
better in all: error 0.137 ± 0.004, Gini 0.652 ± 0.009, overlap 0.067 ± 0.002, clicks 0.62 ± 0.01.  A share of 20 %
shown at random keeps tastes apart (1.37 ± 0.07) and costs clicks (0.52 ± 0.02).  The control, which learns from the
random rows alone, stays where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from generators.recommender import Recommender, Tastes
from simulator import Chain, Sweep, Truth
from simulator.probes import Exposure
from simulator.recipe import Accumulate, Mix, Select
from simulator.types import Array, Key, View

measured = {
    "run": {"cpu_seconds": 36, "on": "two busy CPU cores", "date": "2026-11-28"},
}

ROWS = 1000
WORLD = Tastes(users=50, items=40)


@dataclass(frozen=True)
class Believed:
    """The fitted tastes against the true ones.

    error: root of the mean square of scores less probabilities of a click, over all users and items; variety: variance
    of an item's scores among users, over that of the truth; utility: clicks that the policy gets, over those of one
    that knows the users and shows each their favourite.
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        truth, model = WORLD.clicks, view.generator  # [users, items]
        assert isinstance(model, Recommender)
        scores, shown = model.scores(view.params), model.shown(view.params)  # [users, items] each
        return {
            "error": jnp.sqrt(((scores - truth) ** 2).mean()),
            "variety": scores.var(0).sum() / truth.var(0).sum(),
            "utility": (shown * truth).sum() / truth.max(1).sum(),
        }


chain = Chain(
    source=Truth(WORLD),
    generator=Recommender(world=WORLD),
    recipe=Select((Mix(real=0.0, size=ROWS), Accumulate(), Mix(real=0.2, size=ROWS), Mix(real=1.0, size=ROWS)), 0),
    probes={"exposure": Exposure(users=WORLD.users, items=WORLD.items), "tastes": Believed()},
    real=ROWS,
    rows=ROWS,
    held_out=0,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1, "20 % at random": 2, "at random only": 3})
generations = 15
replicates = 16
every = 15
