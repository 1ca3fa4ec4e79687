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
from simulator.theory.regression import accumulate_risk, interpolate_risk, replace_risk, subsample_risk
from simulator.theory.workflow import diets, linear_workflow, workflow_error, workflow_gaussian

__all__ = [
    "accumulate_risk",
    "accumulate_variance",
    "biased_variance",
    "diets",
    "fixed_real_limit",
    "fresh_share",
    "fresh_share_limit",
    "interpolate_risk",
    "linear_workflow",
    "replace_log_variance",
    "replace_mean_error",
    "replace_risk",
    "replace_std",
    "replace_variance",
    "subsample_risk",
    "subsample_variance",
    "workflow_error",
    "workflow_gaussian",
]
