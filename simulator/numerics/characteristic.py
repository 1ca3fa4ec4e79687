"""What a law says of its tails, read off its cumulant generating function K(z) = log E exp(z X), z complex.

All in float64 and outside of compiled programs: these are the yardsticks of what chains say.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Cumulants = Callable[[np.ndarray], np.ndarray]  # K of z [n] complex128, [n] complex128
TERMS = 2**13  # of the cosine series
POINTS = 64  # on a circle, from which derivatives are read


def derivatives(function: Callable[[np.ndarray], np.ndarray], most: int, radius: float) -> np.ndarray:
    """f(0), f'(0), ... to the `most`-th, of a function that is analytic within `radius`, by Cauchy's integral."""
    z = radius * np.exp(2j * np.pi * np.arange(POINTS) / POINTS)  # [points]
    series = np.fft.fft(function(z)).real / POINTS  # [points]: coefficients times radius^k
    k = np.arange(most + 1)
    return series[: most + 1] * np.array([math.factorial(i) for i in k]) / radius**k


def cumulants(law: Cumulants, most: int = 4) -> np.ndarray:
    """Mean, variance, and the cumulants after these, [most].

    Of a circle of half a standard deviation's inverse: one much wider may leave the strip in which K exists.
    """
    spread = math.sqrt(derivatives(law, 2, 1e-2)[2])
    return derivatives(law, most, 0.5 / spread)[1:]


def tail(law: Cumulants, level: float) -> tuple[float, float]:
    """(value at risk, expected shortfall) of a law of gains X: with F(q) = 1 - level they are -q and -E[X | X <= q].

    The density is a cosine series on an interval that holds the law, whose coefficients are values of the
    characteristic function (Fang & Oosterlee, SIAM J. Sci. Comput. 31 (2008) 826-848, the "COS method"); F and its
    integral are summed term by term.
    """
    from scipy.optimize import brentq

    mean, variance, _, fourth = cumulants(law)
    half = 12 * math.sqrt(variance + math.sqrt(max(fourth, 0.0)))
    low, width = mean - half, 2 * half
    omega = np.pi * np.arange(1, TERMS) / width  # [terms]
    coefficient = 2 / width * (np.exp(law(1j * omega)) * np.exp(-1j * omega * low)).real  # [terms]

    def below(x: float) -> float:
        """F(x)."""
        return (x - low) / width + float(coefficient @ (np.sin(omega * (x - low)) / omega))

    def area(x: float) -> float:
        """∫ F up to x."""
        return (x - low) ** 2 / (2 * width) + float(coefficient @ ((1 - np.cos(omega * (x - low))) / omega**2))

    at: float = brentq(lambda x: below(x) - (1 - level), low, low + width, xtol=1e-12)  # pyright: ignore
    return -at, float(area(at)) / (1 - level) - at  # ∫ x dF = q F(q) - ∫ F
