"""How much is to be computed, counted without computing it."""

from __future__ import annotations

import math
from typing import Any


def products(jaxpr: Any) -> float:
    """FLOPs of the matmuls and convolutions of a traced function."""
    total = 0.0
    for equation in jaxpr.eqns:
        shapes = [leaf.aval.shape for leaf in equation.invars]
        if equation.primitive.name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            total += 2 * equation.outvars[0].aval.size * math.prod(shapes[0][i] for i in summed)
        elif equation.primitive.name == "conv_general_dilated":
            outputs = shapes[1][equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * math.prod(shapes[1]) / outputs
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += products(inner) * equation.params.get("length", 1)  # rounds of a loop
    return total
