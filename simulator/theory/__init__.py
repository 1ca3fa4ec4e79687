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
from simulator.theory.golden import (
    golden_share,
    growing_variance,
    replace_determinant,
    replace_log_determinant,
    weighted_covariance_loss,
    weighted_mean_error,
    weighted_mean_error_limit,
)
from simulator.theory.smoothing import (
    preferred,
    smoothed_density,
    smoothed_second_moment,
    smoothed_variance,
    tilted,
    tilted_gaussian,
    truncation_factor,
)

__all__ = [
    "accumulate_variance",
    "biased_variance",
    "fixed_real_limit",
    "fresh_share",
    "fresh_share_limit",
    "golden_share",
    "growing_variance",
    "preferred",
    "replace_determinant",
    "replace_log_determinant",
    "replace_log_variance",
    "replace_mean_error",
    "replace_std",
    "replace_variance",
    "smoothed_density",
    "smoothed_second_moment",
    "smoothed_variance",
    "subsample_variance",
    "tilted",
    "tilted_gaussian",
    "truncation_factor",
    "weighted_covariance_loss",
    "weighted_mean_error",
    "weighted_mean_error_limit",
]
