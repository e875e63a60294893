"""Gaussian noise tied to location and day: each value depends only on (seed, day, row, column, band), so that the
result does not depend on how an area is divided into windows and tiles.

Counter-based generation: a chain of SplitMix64 finalisers (Steele, Lea & Flood 2014) over the coordinates yields 64
bits for every pair of bands, which Box-Muller turns into two normal values. Logarithm, sine and cosine are polynomials
in plain float32 arithmetic, which IEEE 754 rounds identically everywhere; library functions differ between processors,
and between the middle of an array and its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
UPPER_HALF = np.uint64(32)

SQRT_HALF = np.array(np.sqrt(0.5), dtype=np.float32).view(np.int32)[()]
LOG_TERMS = [np.float32(-2 / power) for power in (11, 9, 7, 5, 3, 1)]
SINE_TERMS = [np.float32((-1) ** (power // 2) / math.factorial(power)) for power in (11, 9, 7, 5, 3, 1)]
COSINE_TERMS = [np.float32((-1) ** (power // 2) / math.factorial(power)) for power in (12, 10, 8, 6, 4, 2, 0)]

PIXELS_AT_ONCE = 16384
"""Chunk size chosen so that the arrays of one round fit into the processor's cache."""

Bits = NDArray[np.uint64]
Floats = NDArray[np.float32]


def field_noise(
    seed: int,
    days: NDArray[np.integer],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    bands: int,
) -> Floats:
    """Standard normal values float32 [T, C, H, W] for days [T], absolute pixel rows [H] and columns [W], and bands 0 …
    C−1. Coordinates may be any integers, including negative ones; two calls agree bit for bit wherever their
    coordinates do."""
    of_seed = mixed(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    of_rows = chained(chained(of_seed, days)[:, None], rows).ravel()  # of all dates, since an area may be small
    noise = np.empty((bands, len(of_rows), len(columns)), dtype=np.float32)
    rows_at_once = max(1, PIXELS_AT_ONCE // max(1, len(columns)))
    # In chunks that stay in the cache; each value depends on its coordinates alone, so the chunks leave no trace.
    for first in range(0, len(of_rows), rows_at_once):
        chunk = slice(first, first + rows_at_once)
        of_pixel = chained(of_rows[chunk, None], columns)
        for band in range(0, bands, 2):
            pair = normal_pair(chained(of_pixel, np.array([band // 2])))
            for offset in range(min(2, bands - band)):
                noise[band + offset, chunk] = pair[offset]
    return np.ascontiguousarray(noise.reshape(bands, len(days), len(rows), len(columns)).swapaxes(0, 1))


def chained(key: Bits | np.uint64, coordinate: NDArray[np.integer]) -> Bits:
    """Bits derived from those of the preceding coordinates and one further coordinate, broadcast against each other."""
    step = (coordinate.astype(np.int64).view(np.uint64) + np.uint64(1)) * GOLDEN_RATIO
    return mixed(key + step)


def mixed(bits: Bits) -> Bits:
    """SplitMix64's finaliser: a bijection in which every input bit flips every output bit with probability ½.
    Overwrites its argument."""
    bits ^= bits >> SHIFTS[0]
    bits *= MIXERS[0]
    bits ^= bits >> SHIFTS[1]
    bits *= MIXERS[1]
    bits ^= bits >> SHIFTS[2]
    return bits


def normal_pair(bits: Bits) -> tuple[Floats, Floats]:
    """Two independent standard normal arrays from 64 random bits each (Box & Muller 1958); |z| ≤ 6.8."""
    # Half a unit keeps the value above 0, whose logarithm does not exist.
    uniform = (bits >> UPPER_HALF).astype(np.uint32).astype(np.float32)
    uniform += np.float32(0.5)
    uniform *= np.float32(2.0**-32)
    radius = negative_log(uniform)
    radius *= np.float32(2)
    np.sqrt(radius, out=radius)

    turn = bits.astype(np.uint32)  # the lower half: 31 bits of angle within a half turn, and which half
    angle = (turn & np.uint32(0x7FFFFFFF)).view(np.int32) - np.int32(2**30)
    # The sign bit of the radius chooses the half turn: cosine and sine then only need angles within ±π/2.
    radius.view(np.uint32)[...] ^= turn & np.uint32(0x80000000)
    cosine, sine = cosine_and_sine(angle.astype(np.float32) * np.float32(np.pi / 2**31))
    cosine *= radius
    sine *= radius
    return cosine, sine


def negative_log(values: Floats) -> Floats:
    """−ln of normal (not subnormal) float32 values in (0, 1], with a relative error of 2e-7: with v = m·2^e, m in [√½,
    √2), and s = (m−1)/(m+1), ln v = e·ln 2 + 2·(s + s³/3 + s⁵/5 + …)."""
    bits = values.view(np.int32)
    exponent = (bits - SQRT_HALF) >> np.int32(23)
    mantissa = (bits - (exponent << np.int32(23))).view(np.float32)
    ratio = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    result = polynomial(ratio * ratio, LOG_TERMS)
    result *= ratio
    result -= exponent.astype(np.float32) * np.float32(np.log(2))
    return result


def cosine_and_sine(angle: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of angles in [−π/2, π/2) by their Taylor series, to 2e-7."""
    square = angle * angle
    sine = polynomial(square, SINE_TERMS)
    sine *= angle
    return polynomial(square, COSINE_TERMS), sine


def polynomial(argument: Floats, terms: Sequence[np.float32]) -> Floats:
    """A polynomial by Horner's rule; coefficients start with that of the highest power."""
    result = argument * terms[0]
    for term in terms[1:-1]:
        result += term
        result *= argument
    result += terms[-1]
    return result
