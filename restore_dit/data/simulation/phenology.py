"""Daily state of the vegetation on each parcel: crop rotation, green leaf area, dry matter, tillage and flowers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.covers import COVER_NUMBER, COVERS, CROP_SHARES, CROPS
from restore_dit.data.simulation.landscape import ARABLE

Curve = NDArray[np.floating]


@dataclass(frozen=True)
class Curves:
    """Daily state of P parcels on D days, [P, D] each.

    - `leaf_area`, `brown_area`: area of green and of withered leaves in m²/m².
    - `dry`: share of the ground covered by straw, stubble or dead leaves.
    - `tilled`: roughness since the last tillage (1 fresh, 0 none).
    - `flowers`: share of the canopy in yellow flower.
    - `works`: number of harvests, mowings and tillages so far.
    - `covers`: uint8, index in `COVERS` of the cover that grows.
    """

    leaf_area: Curve
    brown_area: Curve
    dry: Curve
    tilled: Curve
    flowers: Curve
    works: Curve
    covers: NDArray[np.uint8]


def draw_curves(
    parcel_covers: NDArray[np.int64],
    days: NDArray[np.datetime64],
    generator: np.random.Generator,
    summer_drought: float = 0.0,
) -> Curves:
    """Curves of each parcel over consecutive `days`, with timing and vigour that vary between years and parcels; with
    `summer_drought` (0 to 1), grass dies back from May to October."""
    shape = (len(parcel_covers), len(days))
    covers = np.repeat(parcel_covers[:, None], len(days), axis=1)
    arable = parcel_covers == ARABLE
    fields = _arable(int(arable.sum()), days, generator)
    perennial = _perennial(parcel_covers[~arable], days, generator, summer_drought)
    curves = np.zeros((6, *shape), np.float32)
    curves[:, arable] = (fields.leaf_area, fields.brown_area, fields.dry, fields.tilled, fields.flowers, fields.works)
    for row, curve in zip((0, 1, 2, 5), perennial, strict=True):
        curves[row, ~arable] = curve
    covers[arable] = fields.covers
    leaf_area, brown_area, dry, tilled, flowers, works = curves
    return Curves(leaf_area, brown_area, dry, tilled, flowers, works, covers.astype(np.uint8))


def _logistic(days: NDArray[np.float32], inflection: NDArray, width: NDArray) -> Curve:
    """Logistic rise from 0 to 1, [P, D], around `inflection` [P] with `width` [P], both in days."""
    argument = (days[None] - inflection[:, None]) / width[:, None]
    return (0.5 + 0.5 * np.tanh(0.5 * argument)).astype(np.float32)


def _growth(name: str, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """One parameter of `Growth` for each parcel's cover."""
    return np.array([getattr(cover.growth, name) for cover in COVERS], np.float32)[numbers]


def _januaries(days: NDArray[np.datetime64]) -> list[float]:
    """1 January of each harvest year that overlaps `days`, plus one year before and one after, in days from the first
    day."""
    first, last = days[[0, -1]].astype("datetime64[Y]")
    years = np.arange(first - 1, last + 3).astype("datetime64[D]")
    return [float(day) for day in (years - days[0]).astype(np.int64)]


def _rotation(parcels: int, years: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The crop of each harvest, [year, parcel]. Rapeseed, sown in August, never follows a summer crop."""
    crops = generator.choice(len(CROPS), size=(years, parcels), p=CROP_SHARES)
    winter = np.array([crop.winter_crop for crop in CROPS])
    rapeseed, wheat = COVER_NUMBER["winter rapeseed"], COVER_NUMBER["winter wheat"]
    for year in range(1, years):
        crops[year][(crops[year] == rapeseed) & ~winter[crops[year - 1]]] = wheat
    return crops


def _arable(parcels: int, days: NDArray[np.datetime64], generator: np.random.Generator) -> Curves:
    """Arable fields, one harvest after another."""
    time = np.arange(len(days), dtype=np.float32)
    januaries = _januaries(days)
    crops = _rotation(parcels, len(januaries), generator)
    leaf_area, brown_area, dry, tilled, flowers, works = np.zeros((6, parcels, len(days)), np.float32)
    covers = crops[0][:, None].repeat(len(days), axis=1)
    harvest = np.full(parcels, -1e6)
    for january, crop, following in zip(januaries[:-1], crops[:-1], crops[1:], strict=True):
        season = _season(time, january, crop, harvest, generator)
        harvest = season.harvest
        fallow = _fallow(time, january, harvest, following, generator)
        leaf_area += season.leaf_area + fallow.leaf_area
        brown_area += season.brown_area
        dry += fallow.dry
        tilled += fallow.tilled
        flowers += season.flowers
        works += fallow.works
        covers = np.where(time[None] < harvest[:, None], covers, COVER_NUMBER["catch crop"])
        covers = np.where(time[None] < fallow.end[:, None], covers, following[:, None])
    return Curves(leaf_area, brown_area, dry.clip(0, 0.95), tilled.clip(0, 1.2), flowers, works, covers)


@dataclass(frozen=True)
class _Season:
    """A crop until its `harvest` (day, [P]); curves [P, D] are 0 from the harvest on."""

    leaf_area: Curve
    brown_area: Curve
    flowers: Curve
    harvest: NDArray[np.float64]


def _season(
    time: Curve,
    january: float,
    crop: NDArray[np.int64],
    harvest_before: NDArray[np.float64],
    generator: np.random.Generator,
) -> _Season:
    """The crop [P] harvested in the year that begins on day `january`, earlier or later depending on year and
    farmer."""
    parcels = len(crop)
    shift = january + 4 * generator.standard_normal() + _growth("spread", crop) * generator.standard_normal(parcels)
    vigour = generator.normal(1.0, 0.28, parcels).clip(0.35, 1.7)
    harvest = shift + _growth("harvest", crop) + generator.normal(0, 5, parcels)
    emergence = np.maximum(shift + _growth("emergence", crop), harvest_before + 18)
    present = time[None] < harvest[:, None]
    rise = _logistic(time, shift + _growth("green_up", crop), _growth("green_up_width", crop))
    ripe = _logistic(time, shift + _growth("senescence", crop), _growth("senescence_width", crop))
    young = _logistic(time, emergence, np.full(parcels, 7.0)) * (1 - rise)
    peak, autumn = vigour * _growth("peak", crop), vigour * _growth("autumn", crop)
    leaf_area = present * (peak[:, None] * rise * (1 - ripe) + autumn[:, None] * young)
    bloom = shift + 116 + generator.normal(0, 3, parcels)
    flowering = (crop == COVER_NUMBER["winter rapeseed"]) * generator.uniform(0.35, 0.7, parcels)
    flowers = present * flowering[:, None] * np.exp(-(((time[None] - bloom[:, None]) / 13) ** 2))
    withered = present * ((peak * _growth("standing", crop))[:, None] * rise * ripe)
    return _Season(leaf_area, withered, flowers, harvest)


@dataclass(frozen=True)
class _Fallow:
    """A field from a harvest until the `end` (day, [P]), when it is prepared for the next crop; curves [P, D]."""

    leaf_area: Curve
    dry: Curve
    tilled: Curve
    works: Curve
    end: NDArray[np.float64]


def _fallow(
    time: Curve,
    january: float,
    harvest: NDArray[np.float64],
    following: NDArray[np.int64],
    generator: np.random.Generator,
) -> _Fallow:
    """Stubble until ploughing, then weeds or, in most fields that stay free until spring, a catch crop."""
    parcels = len(harvest)
    winter = np.array([crop.winter_crop for crop in CROPS])[following]
    next_start = january + 365 + np.where(winter, _growth("emergence", following), _growth("green_up", following))
    seedbed = np.maximum(next_start - 22, harvest + 2)
    catch = (harvest < january + 240) & ~winter & (generator.random(parcels) < 0.6)
    sown = harvest + generator.uniform(12, 35, parcels)
    plough = np.where(catch, sown - 3, np.minimum(harvest + 3 + generator.exponential(25, parcels), seedbed - 1))
    end = np.where(catch, np.minimum(january + 365 + generator.normal(15, 30, parcels), seedbed), seedbed)

    since_harvest = time[None] - harvest[:, None]
    stubble = generator.uniform(0.35, 0.85, parcels)[:, None] * np.exp(-np.abs(since_harvest) / 90)
    dry = stubble * (since_harvest >= 0) * (time[None] < plough[:, None])
    tilled = np.zeros_like(dry)
    for work, strength in ((plough, 1.0), (end, 0.6)):
        age = time[None] - work[:, None]
        tilled += (age >= 0) * strength * np.exp(-np.abs(age) / 35)
    height = np.where(catch, generator.normal(2.6, 0.6, parcels).clip(0.8), generator.uniform(0.0, 0.6, parcels))
    regrowth = _logistic(time, sown + 28, np.full(parcels, 7.0)) * (since_harvest >= 0)
    done = np.stack([time[None] >= work[:, None] for work in (harvest, plough, end)])
    works = done.sum(axis=0).astype(np.float32)
    return _Fallow(height[:, None] * regrowth * (time[None] < end[:, None]), dry, tilled, works, end)


def _perennial(
    covers: NDArray[np.int64], days: NDArray[np.datetime64], generator: np.random.Generator, summer_drought: float
) -> tuple[Curve, Curve, Curve, Curve]:
    """Leaf area, brown area, dry share and works of perennial covers. Grassland is mown up to four times a year or dies
    back in summer drought; deciduous woods are bare in winter above their fallen leaves."""
    parcels = len(covers)
    time = np.arange(len(days), dtype=np.float32)
    vigour = generator.normal(1.0, 0.2, parcels).clip(0.5, 1.5)
    leaf_area = np.repeat((vigour * _growth("base", covers))[:, None], len(days), axis=1).astype(np.float32)
    deciduous = covers == COVER_NUMBER["deciduous forest"]
    dry = np.repeat(0.5 * deciduous[:, None], len(days), axis=1).astype(np.float32)
    # Branches and needles that are brown all year.
    standing = np.where(deciduous, 1.1, np.where(covers == COVER_NUMBER["coniferous forest"], 0.4, 0.0))
    brown_area = np.repeat(standing[:, None], len(days), axis=1).astype(np.float32)
    spread = _growth("spread", covers) * generator.standard_normal(parcels)
    grass = covers == COVER_NUMBER["grassland"]
    cuts = generator.integers(0, 5, parcels) * grass
    remaining, works = np.ones((parcels, len(days)), np.float32), np.zeros((parcels, len(days)), np.float32)
    for january in _januaries(days):
        shift = january + spread + 4 * generator.standard_normal()
        rise = _logistic(time, shift + _growth("green_up", covers), _growth("green_up_width", covers))
        fall = _logistic(time, shift + _growth("senescence", covers), _growth("senescence_width", covers))
        season = (vigour * (_growth("peak", covers) - _growth("base", covers)).clip(0))[:, None] * (rise - fall)
        leaf_area += season
        # Leaves turn brown before they fall, and summer drought or winter frost leaves grass half brown.
        turning = 4 * fall * (1 - fall)
        withering = np.where(deciduous, 1.5, np.where(grass, 0.5, 0.0)) * vigour
        brown_area += (withering[:, None] * turning).astype(np.float32)
        drought = january + 205 + 15 * generator.standard_normal()
        strength = grass * generator.uniform(0.0, 1.6) * generator.uniform(0.5, 1.2, parcels)
        brown_area += (strength[:, None] * np.exp(-(((time[None] - drought) / 28) ** 2))).astype(np.float32)
        if summer_drought:
            parched = _logistic(time, shift + 150, np.full(parcels, 12.0))
            parched *= 1 - _logistic(time, shift + 290, np.full(parcels, 10.0))
            parched *= (0.9 * summer_drought * grass)[:, None].astype(np.float32)
            brown_area += np.float32(0.5) * parched * leaf_area
            leaf_area *= 1 - parched
        for cut in range(4):
            day = january + 138 + 46 * cut + generator.normal(0, 9, parcels)
            since = time[None] - day[:, None]
            mown = (since >= 0) * np.exp(-np.abs(since) / 17) * (cut < cuts)[:, None]
            works += (since >= 0) & (cut < cuts)[:, None]
            remaining *= (1 - 0.78 * mown).astype(np.float32)
            dry += (0.25 * mown * np.exp(-np.abs(since) / 10)).astype(np.float32)
    return leaf_area * remaining, brown_area * remaining, dry.clip(0, 0.9), works
