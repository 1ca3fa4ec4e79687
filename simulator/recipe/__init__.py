"""Recipes: what the next generation eats.  Each maps `(key, t, pool)` to a weight for every row of the pool.

A recipe is shown weight 1 on everything kept, so accumulating is the identity, and every other recipe multiplies,
selects or rebalances the weights it is shown.  That is also why recipes compose: `Then(Window(3), Reweigh(real=0.5))`.
"Latest" rows are those first eaten at this fit: the last generation's synthetic rows and this generation's fresh
real ones; at fit 0 these are the real rows, so every recipe starts on real data.

Examples show `pool`, two real rows and three that generation 0 wrote, with the values 1 to 5, at the second fit.

A recipe of your own is a frozen dataclass with `__call__`, or any module-level function `(key, t, pool) -> weight`.
"""

from simulator.recipe.choosing import Curate, Reweigh, Subsample, Verify
from simulator.recipe.combine import Select, Then
from simulator.recipe.contamination import Contaminate
from simulator.recipe.likely import KeepLikely
from simulator.recipe.mixing import Accumulate, Augment, Decay, Fresh, Mix, NoFresh, Replace, Window
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints, ReweighSuspects
from simulator.recipe.watermark import FilterWatermark, Watermark

__all__ = [
    "Accumulate",
    "Augment",
    "Contaminate",
    "Curate",
    "Decay",
    "Detector",
    "DropSuspects",
    "FarthestPoints",
    "FilterWatermark",
    "Fresh",
    "KeepLikely",
    "Mix",
    "NoFresh",
    "Replace",
    "Reweigh",
    "ReweighSuspects",
    "Select",
    "Subsample",
    "Then",
    "Verify",
    "Watermark",
    "Window",
]
