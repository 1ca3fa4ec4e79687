"""Closed forms of the field, one file per family of models, with their papers.

Fit number t = 1 is the model fitted on real rows, record index t - 1; functions of `generations` return values for
t = 1..generations.
"""

from simulator.theory.gaussian import (
    accumulate_variance,
    biased_variance,
    fixed_real_limit,
    fresh_share,
    fresh_share_limit,
    replace_log_variance,
    replace_mean_error,
    replace_std,
    replace_variance,
    subsample_variance,
)

__all__ = [
    "accumulate_variance",
    "biased_variance",
    "fixed_real_limit",
    "fresh_share",
    "fresh_share_limit",
    "replace_log_variance",
    "replace_mean_error",
    "replace_std",
    "replace_variance",
    "subsample_variance",
]
