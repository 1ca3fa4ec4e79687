"""The mitigations of the literature that any chain can take, each as a chain with as many real rows as the baseline."""

from __future__ import annotations

import dataclasses

from experiments.league.world import BASELINE
from simulator.chain import Chain
from simulator.numerics.schedule import schedule
from simulator.recipe import (
    Accumulate,
    Augment,
    Curate,
    Decay,
    KeepLikely,
    Mix,
    Replace,
    Reweigh,
    Subsample,
    Then,
    Verify,
    Window,
)
from simulator.recipe.contract import Score
from simulator.theory.golden import golden_share
from simulator.types import Recipe


def eating(chain: Chain, recipes: dict[str, Recipe]) -> dict[str, Chain]:
    """The chain under each recipe."""
    return {name: dataclasses.replace(chain, recipe=recipe) for name, recipe in recipes.items()}


def diets(chain: Chain, generations: int) -> dict[str, Chain]:
    """What tells rows by where they come from alone; the chain has all its real rows at generation 0.

    Two entries keep half of these back and are served them in equal parts, one at each later fit.
    """
    real, rows, later = chain.real, chain.rows, generations - 1
    fresh = real // (2 * later)
    streamed = dataclasses.replace(chain, real=real - fresh * later, fresh=fresh)
    recipes: dict[str, Recipe] = {
        BASELINE: Replace(),  # arXiv:2305.17493
        "real rows alone": Mix(real=1.0, size=real),
        "accumulate": Accumulate(),  # arXiv:2404.01413
        "accumulate, subsample": Then(Accumulate(), Subsample(rows)),  # arXiv:2410.16713
        "10 % real": Mix(real=0.1, size=rows),
        "50 % real": Mix(real=0.5, size=rows),
        "real share falls to 0": Mix(real=schedule("linear", 1.0, 0.0, later), size=rows),
        "augment": Augment(1.0),  # arXiv:2310.00429
        "augment, golden ratio": Then(Augment(1.0), Reweigh(real=float(golden_share(1.0)))),  # arXiv:2502.18049
        "window of 3": Window(3),
        "decay by half": Decay(0.5),
    }
    served: dict[str, Recipe] = {
        "half served fresh": Replace(),  # arXiv:2307.01850
        "half served fresh, accumulate": Accumulate(),
    }
    return eating(chain, recipes) | eating(streamed, served)


def judged(chain: Chain, score: Score, threshold: float) -> dict[str, Chain]:
    """What tells rows by a score that knows more of the truth than the chain's real rows say."""
    verifier = Verify(score, threshold, tpr=0.9, fpr=0.1)  # arXiv:2406.07515
    return eating(
        chain,
        {
            "verifier, TPR 0.9, FPR 0.1": Then(Replace(), verifier),
            "accumulate, verifier": Then(Accumulate(), verifier),
            "curation": Then(Replace(), Curate(score)),  # arXiv:2407.09499
            "curation, 50 % real": Then(Curate(score), Reweigh(real=0.5)),
        },
    )


def by_itself(chain: Chain) -> dict[str, Chain]:
    """The generator as its own verifier, for one that has a density or a loss."""
    return eating(chain, {"its own likeliest half": Then(Replace(), KeepLikely(0.5))})
