"""What grows on each parcel, day by day: crop rotation, green leaf area, dry matter, tillage and flowers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.covers import COVER_NUMBER, COVERS, CROP_SHARES, CROPS
from restore_dit.data.simulation.landscape import ARABLE

Curve = NDArray[np.float32]


@dataclass(frozen=True)
class Curves:
    """Daily state of P parcels on D days: `leaf_area` (m²/m²) of the green canopy, `dry` share of the ground below it
    that straw, stubble or dead leaves hide, `tilled` roughness since the last tillage (1 fresh, 0 gone), `flowers`
    share of the canopy in yellow flower, `covers` uint8 the cover that grows, as a number in `COVERS`."""

    leaf_area: Curve
    dry: Curve
    tilled: Curve
    flowers: Curve
    covers: NDArray[np.uint8]


def draw_curves(
    parcel_covers: NDArray[np.int64], days: NDArray[np.datetime64], generator: np.random.Generator
) -> Curves:
    """Curves of each parcel over `days` (consecutive), with years' and parcels' own timing and vigour."""
    shape = (len(parcel_covers), len(days))
    leaf_area, dry, tilled, flowers = (np.zeros(shape, np.float32) for _ in range(4))
    covers = np.repeat(parcel_covers[:, None], len(days), axis=1)
    arable = parcel_covers == ARABLE
    (leaf_area[arable], dry[arable], tilled[arable], flowers[arable], covers[arable]) = _arable(
        int(arable.sum()), days, generator
    )
    leaf_area[~arable], dry[~arable] = _perennial(parcel_covers[~arable], days, generator)
    return Curves(leaf_area, dry, tilled, flowers, covers.astype(np.uint8))


def _logistic(days: NDArray[np.float32], inflection: NDArray, width: NDArray) -> Curve:
    """[P, D]: rises from 0 to 1 around `inflection` (each [P], in days)."""
    argument = (days[None] - inflection[:, None]) / width[:, None]
    return (0.5 + 0.5 * np.tanh(0.5 * argument)).astype(np.float32)


def _growth(name: str, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """One number of `Growth` for each parcel's cover."""
    return np.array([getattr(cover.growth, name) for cover in COVERS], np.float32)[numbers]


def _years(days: NDArray[np.datetime64]) -> list[tuple[int, float]]:
    """The harvest years that touch `days`: (year, day number of its 1 January counted from the first day)."""
    first, last = (int(str(day)[:4]) for day in (days[0], days[-1]))
    return [
        (year, float((np.datetime64(f"{year}-01-01") - days[0]) / np.timedelta64(1, "D")))
        for year in range(first - 1, last + 3)
    ]


def _rotation(parcels: int, years: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The crop [year, parcel] of each harvest; rapeseed, sown in August, never follows a crop of the summer."""
    crops = generator.choice(len(CROPS), size=(years, parcels), p=CROP_SHARES)
    winter = np.array([crop.winter_crop for crop in CROPS])
    rapeseed, wheat = COVER_NUMBER["winter rapeseed"], COVER_NUMBER["winter wheat"]
    for year in range(1, years):
        crops[year][(crops[year] == rapeseed) & ~winter[crops[year - 1]]] = wheat
    return crops


def _arable(
    parcels: int, days: NDArray[np.datetime64], generator: np.random.Generator
) -> tuple[Curve, Curve, Curve, Curve, NDArray[np.int64]]:
    """Leaf area, dry share, tillage, flowers and crop of fields, one harvest after another."""
    time = np.arange(len(days), dtype=np.float32)
    years = _years(days)
    crops = _rotation(parcels, len(years), generator)
    leaf_area, dry, tilled, flowers = (np.zeros((parcels, len(days)), np.float32) for _ in range(4))
    covers = crops[0][:, None].repeat(len(days), axis=1)
    winter = np.array([crop.winter_crop for crop in CROPS])
    free_from = np.full(parcels, -1e6)  # the day on which the crop before was harvested
    for number, (_, january) in enumerate(years):
        crop = crops[number]
        shift = january + 4 * generator.standard_normal() + _growth("spread", crop) * generator.standard_normal(parcels)
        vigour = generator.normal(1.0, 0.14, parcels).clip(0.5, 1.4)
        harvest = shift + _growth("harvest", crop) + generator.normal(0, 5, parcels)
        green_up = shift + _growth("green_up", crop)
        senescence = np.minimum(shift + _growth("senescence", crop), harvest + 60)
        emergence = np.maximum(shift + _growth("emergence", crop), free_from + 18)
        present = time[None] < harvest[:, None]
        rise = _logistic(time, green_up, _growth("green_up_width", crop))
        ripe = _logistic(time, senescence, _growth("senescence_width", crop))
        autumn = _logistic(time, emergence, np.full(parcels, 7.0)) * (1 - rise)
        height = vigour * _growth("peak", crop)
        leaf_area += present * (height[:, None] * rise * (1 - ripe))
        leaf_area += present * ((vigour * _growth("autumn", crop))[:, None] * autumn)
        dry += present * (0.85 * ripe * rise)
        flowering = (crop == COVER_NUMBER["winter rapeseed"]) * generator.uniform(0.35, 0.7, parcels)
        bloom = shift + 116 + generator.normal(0, 3, parcels)
        flowers += present * flowering[:, None] * np.exp(-(((time[None] - bloom[:, None]) / 13) ** 2))
        # After the harvest: stubble until the plough, weeds, and in half of the fields that stay free a catch crop.
        after = ~present
        covers[after] = COVER_NUMBER["catch crop"]
        following = crops[min(number + 1, len(years) - 1)]
        early = harvest < january + 240
        catch = early & ~winter[following] & (generator.random(parcels) < 0.6)
        sown = harvest + generator.uniform(12, 35, parcels)
        stubble = generator.uniform(0.35, 0.85, parcels)
        plough = np.where(catch, sown - 3, harvest + generator.exponential(25, parcels) + 3)
        since_harvest, since_plough = time[None] - harvest[:, None], time[None] - plough[:, None]
        dry += after * (since_plough < 0) * stubble[:, None] * np.exp(-np.abs(since_harvest) / 90)
        next_green_up = january + 365 + _growth("green_up", following)
        seedbed = np.where(winter[following], january + 365 + _growth("emergence", following), next_green_up) - 22
        for work, strength in ((plough, 1.0), (np.maximum(seedbed, plough + 1), 0.6)):
            age = time[None] - work[:, None]
            tilled += np.where(age >= 0, strength * np.exp(-np.abs(age) / 35), 0).astype(np.float32)
        end = np.where(catch, january + 365 + generator.normal(15, 30, parcels), seedbed)
        weeds = np.where(catch, generator.normal(2.6, 0.6, parcels).clip(0.8), generator.uniform(0.0, 0.6, parcels))
        regrowth = _logistic(time, sown + 28, np.full(parcels, 7.0)) * after * (time[None] < end[:, None])
        leaf_area += weeds[:, None] * regrowth
        if number + 1 < len(years):
            next_start = np.where(winter[following], seedbed + 10, np.maximum(end, seedbed))
            grown = time[None] >= np.maximum(next_start, harvest)[:, None]
            covers[grown] = np.broadcast_to(following[:, None], covers.shape)[grown]
        free_from = harvest
    return leaf_area, dry.clip(0, 0.95), tilled.clip(0, 1.2), flowers, covers


def _perennial(
    covers: NDArray[np.int64], days: NDArray[np.datetime64], generator: np.random.Generator
) -> tuple[Curve, Curve]:
    """Leaf area and dry share of what grows for many years; grassland is mown none to four times in a year."""
    parcels = len(covers)
    time = np.arange(len(days), dtype=np.float32)
    vigour = generator.normal(1.0, 0.12, parcels).clip(0.6, 1.4)
    leaf_area = np.repeat((vigour * _growth("base", covers))[:, None], len(days), axis=1).astype(np.float32)
    litter = 0.35 * (covers == COVER_NUMBER["deciduous forest"])
    dry = np.repeat(litter[:, None], len(days), axis=1).astype(np.float32)
    spread = _growth("spread", covers) * generator.standard_normal(parcels)
    grass = covers == COVER_NUMBER["grassland"]
    cuts = generator.integers(0, 5, parcels) * grass
    remaining = np.ones((parcels, len(days)), np.float32)
    for _, january in _years(days):
        shift = january + spread + 4 * generator.standard_normal()
        rise = _logistic(time, shift + _growth("green_up", covers), _growth("green_up_width", covers))
        fall = _logistic(time, shift + _growth("senescence", covers), _growth("senescence_width", covers))
        season = (vigour * (_growth("peak", covers) - _growth("base", covers)).clip(0))[:, None] * (rise - fall)
        leaf_area += season
        for cut in range(4):
            day = january + 138 + 46 * cut + generator.normal(0, 9, parcels)
            since = time[None] - day[:, None]
            mown = (since >= 0) * np.exp(-np.abs(since) / 17) * (cut < cuts)[:, None]
            remaining *= (1 - 0.78 * mown).astype(np.float32)
            dry += (0.25 * mown * np.exp(-np.abs(since) / 10)).astype(np.float32)
    return leaf_area * remaining, dry.clip(0, 0.9)
