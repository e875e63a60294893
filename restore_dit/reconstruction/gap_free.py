"""Fills a whole series: the reconstruction of its gaps beside what was observed, with the layers that say what each
value rests on and how far to trust it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit import __version__
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.normalisation import published_scale_to_stored
from restore_dit.errors import UserError
from restore_dit.indices import index_layers, pair_of
from restore_dit.reconstruction.calibration import NOT_CALIBRATED, SeriesCalibration
from restore_dit.reconstruction.dates import at_dates, provenance_of_pixels, with_dates
from restore_dit.reconstruction.ensembles import Marginals, band_errors, ensemble, members_wanted
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.orbits import OrbitOffsets
from restore_dit.reconstruction.reconstruct import (
    OnProgress,
    mask_dilation,
    missing_pixels,
    reconstruct,
    reconstruct_with_deviation,
)
from restore_dit.reconstruction.sampling import Sample, SamplingOptions
from restore_dit.reconstruction.suspects import find_suspects
from restore_dit.series import (
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
    Acquisitions,
    Provenance,
    TileSeries,
)


class GapFree(NamedTuple):
    """A `series` without gaps, the `gap_mask` [T, H, W], true where it was filled, and `calibration`, `orbits` and
    `linear_share` as in `Filled`. `mask_dilation` is the number of pixels by which masks were dilated, 0 if that hid no
    further pixel; `indices` are vegetation indices and their uncertainties [T, H, W] by name."""

    series: TileSeries
    gap_mask: NDArray[np.bool_]
    calibration: SeriesCalibration | None
    orbits: OrbitOffsets | None
    mask_dilation: int
    indices: dict[str, NDArray[np.float64]]
    linear_share: float | None = None

    @property
    def suspect_share(self) -> float:
        """Share of the observed pixels, including those that were replaced, that are suspect."""
        suspect = self.series.layers[SUSPECT] == 1
        return float(suspect.sum() / max((~self.gap_mask | suspect).sum(), 1))


def fill_gaps(
    model: Model,
    series: TileSeries,
    options: SamplingOptions,
    on_progress: OnProgress = lambda done, total: None,
    sample: Sample | None = None,
    dates: NDArray[np.datetime64] | None = None,
    where: str | None = None,
    indices: Sequence[str] = (),
) -> GapFree:
    """Fills clouds, shadows and missing data in the model's bands of a whole series, or its bands on the given `dates`,
    acquired or not (see `dates_wanted`).

    The masks of cloud and shadow are first dilated by `mask_dilation` of the options or, if unset, by the model's
    `data.gaps.dilation`. Observed pixels are returned unchanged, except those that are suspect if `replace_suspect` of
    the options is set. Layers of the result: `NEVER_OBSERVED` marks pixels that are observed on no date; `PROVENANCE`
    says what each value rests on; `SUSPECT` marks observed pixels that are probably cloud, haze or shadow;
    `UNCERTAINTY`, if the network estimates it, holds standard deviations × 10000, 0 where a pixel is observed; and
    `SAMPLES`, if `samples` of the options asks for any, the possible series. `where` is what errors call the series; if
    None, its tile id. `indices` are those to compute (see `index_layers`); for their uncertainty, members are drawn
    even if no samples are asked for.

    Raises:
        UserError: the series lacks cloud masks or a band that the model or an index needs, no pixel is observed, or
            samples are wanted in several steps.
    """
    drawn = replace(options, samples=members_wanted(model, options, indices))
    where = f"tile {series.tile_id}" if where is None else where
    bands = model.bands_of(series.optical.bands, where)
    order = [series.optical.bands.index(band) for band in bands]
    if series.clouds is None:
        raise UserError(f"{where}: has no cloud masks, so its gaps are unknown; detect clouds first")
    radar = model.config.data.radar
    if radar is not None and radar.pairing == "nearest_date" and radar.track not in (BOTH_TRACKS, *series.radar):
        raise UserError(f"{where}: has no radar of track {radar.track}, which this model needs: add it")
    if dates is not None:
        series = with_dates(series, dates)
    for index in indices:
        pair_of(index, bands)
    observed = series.optical.values[:, order]
    series = replace(series, optical=Acquisitions(observed, series.optical.dates, bands))
    gaps = missing_pixels(model, series, options)
    if gaps.all():
        raise UserError(f"{where}: {_reason_without_observations(model, series, options)}")
    frames = np.arange(len(observed))
    filled = reconstruct_with_deviation(model, series, frames, gaps, options, on_progress, sample)
    suspect = filled.suspect
    if suspect is None:
        suspect = find_suspects(series.optical, frames, ~gaps, bands)
    dilation = mask_dilation(model, options) if (gaps != series.missing()).any() else 0
    if options.replace_suspect:
        gaps |= suspect
    values = np.where(gaps[:, None], published_scale_to_stored(filled.values), observed)
    marks: dict[str, NDArray[np.integer]] = {
        NEVER_OBSERVED: np.asarray(gaps.all(axis=0), np.uint8),
        PROVENANCE: provenance_of_pixels(gaps, series.optical.dates),
        SUSPECT: suspect.astype(np.uint8),
    }
    if filled.deviation is not None:
        marks[UNCERTAINTY] = np.where(gaps[:, None], published_scale_to_stored(filled.deviation), np.int16(0))
    optical = Acquisitions(values, series.optical.dates, bands)
    kept = {name: layer for name, layer in series.layers.items() if name not in (UNCERTAINTY, SAMPLES)}
    clear = at_dates(replace(series, optical=optical, clouds=None, layers=kept | marks), dates)
    with_members = clear
    if drawn.samples:
        every = series.optical.dates.astype("datetime64[D]")
        chosen = np.arange(len(every)) if dates is None else np.searchsorted(every, dates)
        marginals = None
        if filled.deviation is not None:
            marginals = Marginals(
                filled.values[chosen], filled.deviation[chosen], band_errors(filled.calibration, bands)
            )

        def again(others: SamplingOptions) -> NDArray[np.float32]:
            known = replace(others, replace_suspect=False)  # replaced ones are in `gaps`; a second look would find more
            return reconstruct(model, series, frames, gaps, known, on_progress, sample)[chosen]

        before = series.optical.select(chosen)
        members = ensemble(marginals, gaps[chosen], before, series.georeference, drawn, again)
        with_members = replace(clear, layers=clear.layers | {SAMPLES: members})
    computed = index_layers(with_members, indices)
    if options.samples:
        wanted = with_members.layers[SAMPLES][:, : options.samples]
        clear = replace(clear, layers=clear.layers | {SAMPLES: wanted})
    filled_pixels = clear.layers[PROVENANCE] != Provenance.OBSERVED
    return GapFree(clear, filled_pixels, filled.calibration, filled.orbits, dilation, computed, filled.linear_share)


def _reason_without_observations(model: Model, series: TileSeries, options: SamplingOptions) -> str:
    empty = (series.optical.values == NO_DATA).all(axis=(0, 2, 3))
    if empty.any():
        bands = ", ".join(band for band, lacks in zip(series.optical.bands, empty, strict=True) if lacks)
        return f"no pixel has data in {bands} on any date, so there is nothing to fill from; use a model without them"
    if series.missing().all():
        return (
            f"no pixel is observed on any of its {len(series.optical)} dates: all are cloud, shadow or no data, so "
            "there is nothing to fill from; use more dates or other masks"
        )
    return (
        f"no pixel is observed on any of its {len(series.optical)} dates: clouds and shadows, dilated by "
        f"{mask_dilation(model, options)} pixels, cover everything; set mask_dilation=0 or use more dates"
    )


def provenance(model: Model, name: str, options: SamplingOptions, filled: GapFree) -> dict[str, str]:
    """Provenance and calibration of a result, as its attributes; `name` is the model's name."""
    sampler, steps = options.solver(model)
    calibration, radar = filled.calibration, model.config.data.radar if model.config.model.radar_channels else None
    found = {} if calibration is None else calibration.attributes(filled.series.optical.bands)
    if calibration is None and options.calibrates(model):
        found = {"CALIBRATION": NOT_CALIBRATED}
    if filled.linear_share is not None:
        found["LINEAR_KEPT"] = f"{filled.linear_share:.2f}"
    if filled.orbits is not None:
        found |= filled.orbits.attributes(filled.series.optical.bands)
    known = [track for track, radar_series in filled.series.radar.items() if (radar_series.values != NO_DATA).any()]
    tracks = [track for track in known if radar is not None and radar.track in (BOTH_TRACKS, track)]
    return found | {
        "RADAR": " ".join(tracks) or "none",
        "SOFTWARE": f"restore-dit {__version__}",
        "MODEL": name,
        "SEED": str(options.seed),
        "STEPS": str(steps),
        "SAMPLER": sampler,
        "MASK_DILATION": str(filled.mask_dilation),
        **({"SAMPLES": str(options.samples)} if options.samples else {}),
        "SUSPECT_SHARE": f"{filled.suspect_share:.4f}",
        "SUSPECT_REPLACED": "yes" if options.replace_suspect else "no",
    }
