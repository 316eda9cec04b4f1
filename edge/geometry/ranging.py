"""Distance from one box: where it meets the ground, and how large it looks. Everything is in inverse metres.

The inverse of a range is linear in what is measured, so its error stays Gaussian up to the horizon (Civera, Davison and
Montiel, Inverse depth parametrization, 2008) and estimates are fused there, by inverse variance, with the covariance
of those that share an edge of the box. A slope is the tangent of a ray's elevation above the horizontal.
"""

import numpy as np

__all__ = ["ABSENT", "Estimate", "from_ground", "from_height", "from_width", "fuse", "range_of"]

ABSENT = 1e12
"""The variance, in 1/m^2, of what is not known; finite, so that sums stay numbers."""

Estimate = tuple[np.ndarray, np.ndarray]
"""1/range in 1/m, (N,) float64, and its variance."""

_AGREE_SIGMAS = 2.0
_SKEW = 2.5  # with sigma times 1 + 2.5 q^2, q = sigma / range, 2 sigma hold 95 % although 1 / x is bent


def from_ground(slope: np.ndarray, slope2: np.ndarray, height_m: float, height_sigma_m: float) -> Estimate:
    """Return 1/range (N,) float64 and its variance, of a foot on the ground, seen at `slope` (variance slope2).

    The lens is height_m above the ground; range is along it. At or above the horizon the variance is ABSENT.
    """
    inverse = slope / -height_m
    variance = inverse * (height_sigma_m / height_m)
    variance *= variance
    variance += slope2 / height_m**2
    np.putmask(variance, inverse <= 0, ABSENT)
    return inverse, variance


def from_height(
    slopes: tuple[np.ndarray, np.ndarray], slopes2: np.ndarray, size_m: np.ndarray, size_part2: np.ndarray
) -> Estimate:
    """Return 1/range (N,) float64 and its variance, of upright things size_m (N,) tall, from the slopes (top, foot).

    slopes2 (N,): variance of their difference. size_part2 (N,): squared relative sigma of the size.
    """
    inverse = (slopes[0] - slopes[1]) / size_m
    variance = inverse * inverse
    variance *= size_part2
    variance += slopes2 / (size_m * size_m)
    return inverse, variance


def from_width(angle: np.ndarray, angle2: np.ndarray, size_m: np.ndarray, size_part2: np.ndarray) -> Estimate:
    """Return 1/range (N,) float64 and its variance, of things size_m (N,) wide, from the angle between their sides.

    angle (N,) rad, variance angle2, in the horizontal plane. size_part2 (N,): squared relative sigma of the size.
    """
    tangent = np.tan(angle * 0.5)
    inverse = 2 * tangent / size_m
    return inverse, ((1 + tangent**2) / size_m) ** 2 * angle2 + inverse**2 * size_part2


def fuse(a: Estimate, b: Estimate, covariance: np.ndarray | float = 0.0) -> Estimate:
    """Return the best linear estimate (N,) float64 of two, each (value, variance), and its variance.

    Where they differ by more than 2 sigma one of them is wrong, and the variance grows with the square of how much
    (Birge's ratio, as the Particle Data Group uses it).
    """
    (value_a, var_a), (value_b, var_b) = a, b
    shared = np.minimum(var_a, var_b)
    np.minimum(shared, covariance, out=shared)
    own_a, own_b = var_a - shared, var_b - shared
    spread = own_a + own_b
    np.maximum(spread, 1e-30, out=spread)
    part_a = own_b / spread
    own_a *= part_a
    variance = np.add(shared, own_a, out=own_a)  # never the difference of two large ones: either may be ABSENT
    difference = value_a - value_b
    part_a *= difference
    value = np.add(value_b, part_a, out=part_a)
    difference *= difference
    difference /= spread
    difference *= 1 / _AGREE_SIGMAS**2
    np.maximum(difference, 1.0, out=difference)
    variance *= difference
    return value, variance


def range_of(estimate: Estimate, most_sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return range and its sigma in m, (N,) float64; NaN where sigma is more than most_sigma of the range."""
    inverse, variance = estimate
    distance = 1 / inverse
    np.putmask(distance, distance <= 0, np.nan)
    part = np.sqrt(variance)
    part *= distance
    np.putmask(distance, part >= most_sigma, np.nan)
    sigma = part * part
    sigma *= _SKEW
    sigma += 1
    sigma *= part
    sigma *= distance
    return distance, sigma
