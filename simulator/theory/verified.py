"""Labels that were checked: what a verifier with stated rates makes of a linear classifier of two Gaussians.

Rows are x = y·μ + z with y = ±1, z ~ N(0, I) in d dimensions; their labels are wrong with probability p, whatever x is.
A verifier keeps a row whose label is right with probability `tpr`, and one that is wrong with `fpr`; the classifier is
w = Σ ỹ x over what is kept, with labels ỹ as they are.  This is the setting of Feng et al. 2024, arXiv:2406.07515,
whose classifier is ridge regression.  Of n rows R right and Q wrong ones are kept, and w = (R - Q)·μ + (R + Q)^½·g
exactly, g ~ N(0, I); what follows is in the limit of many rows and dimensions.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from simulator.types import GenlossError


def verification_breakdown(tpr: float, fpr: float) -> float:
    """The share of wrong labels from which on what is kept teaches the opposite: tpr/(tpr + fpr), however many rows.

    Of what is kept, half is wrong there.  With one rate for both classes it is the breakdown point of Feng et al. 2024,
    arXiv:2406.07515, below which accuracy tends to 1 and above which it tends to 0.

    >>> round(verification_breakdown(0.9, 0.1), 4)
    0.9
    """
    if not (0 <= tpr <= 1 and 0 <= fpr <= 1 and tpr + fpr > 0):
        raise GenlossError(f"The rates of a verifier lie in [0, 1], one of them above 0; they are {tpr:g}, {fpr:g}.")
    return tpr / (tpr + fpr)


def verified_rows(wrong: float, tpr: float = 1.0, fpr: float = 1.0) -> float:
    """How many rows with right labels a checked one is worth: ±(a - b)²/(a + b), a = (1 - p)·tpr, b = p·fpr (derived).

    A classifier from n checked rows errs as one from n times as many rows whose labels are right; where it is below 0,
    as one that says the opposite.  Unchecked, tpr = fpr = 1, it is ±(1 - 2p)².

    >>> round(verified_rows(0.25), 4), round(verified_rows(0.25, 0.9, 0.1), 4)
    (0.25, 0.6036)
    """
    a, b = (1 - wrong) * tpr, wrong * fpr
    return float(np.sign(a - b) * (a - b) ** 2 / (a + b)) if a + b > 0 else 0.0


def verified_error(rows: int, dim: int, margin: float, wrong: float, tpr: float = 1.0, fpr: float = 1.0) -> float:
    """The error on right labels of w from n checked rows: Φ(∓m/(1 + d/(m² n |e|))^½), m = ‖μ‖, e = `verified_rows`.

    >>> round(verified_error(400, 100, 1.0, 0.25), 4)
    0.2398
    """
    worth = verified_rows(wrong, tpr, fpr)
    if worth == 0:
        return 0.5
    cosine = np.sign(worth) / np.sqrt(1 + dim / (margin**2 * rows * abs(worth)))
    return float(ndtr(-margin * cosine))


def verifier_limit(wrong: float, tpr: float) -> float:
    """The false-positive rate below which checking pays, for a share p of wrong labels below a half (derived).

    Where `verified_rows` of the verifier is that of all rows: (A + c/2 - (8Ac + c²)^½/2)/p, A = (1 - p)·tpr and
    c = (1 - 2p)².  For tpr = 1 it is 1: who drops wrong rows alone, however few, gains.  Where tpr is less than
    c/(1 - p) it is below 0, and no verifier pays: it drops too many rows that are right.

    >>> round(verifier_limit(0.25, 0.8), 4), verifier_limit(0.1, 0.7) < 0
    (0.5056, True)
    """
    if not 0 < wrong < 0.5:
        raise GenlossError(f"The share of wrong labels is {wrong:g}; checking is weighed for one between 0 and a half.")
    right, all_rows = (1 - wrong) * tpr, (1 - 2 * wrong) ** 2
    return float((right + all_rows / 2 - np.sqrt(8 * right * all_rows + all_rows**2) / 2) / wrong)
