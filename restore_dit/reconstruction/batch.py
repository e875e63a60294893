"""Reconstructs many series; each is written as soon as it is done, by the process that filled it.

report = run(plan_reconstruction(config))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping
from restore_dit.config.jobs import ReconstructionConfig, SamplingConfig
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.cubes.sites import Site, find_sites
from restore_dit.data.items import Outcome, Plan
from restore_dit.data.storage import Location, exists, locate, write_bytes_atomically
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.indices import pair_of
from restore_dit.reconstruction.calibration import NOT_CALIBRATED
from restore_dit.reconstruction.completion import Completion, complete_tiles, run_key, tile_key, write_completion
from restore_dit.reconstruction.dates import at_dates, dates_wanted, require_dates
from restore_dit.reconstruction.ensembles import members_wanted
from restore_dit.reconstruction.gap_free import fill_gaps, provenance
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.rasters import write_geotiffs, write_netcdf
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NEVER_OBSERVED, PROVENANCE, S2_ALL_BANDS, Provenance, TileSeries

OnWindow = Callable[[str, int, int], object]
"""Called with (tile id, windows done, windows in total)."""


@dataclass(frozen=True)
class Reconstructed:
    """One series before and after gap filling, with the gap mask [T, H, W], true where a pixel was filled."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class FilledTile:
    """What was written for a tile.

    dates: number of dates. reconstructed: share of the pixels that were filled. never_observed: number of pixels that
    are observed on no date. extrapolated, unknown: shares of the pixels with that `Provenance`. suspect: share of the
    observed pixels that are suspect; `replaced`, whether they were filled. remark: one line on the orbits and the
    calibration; empty if there were none.
    """

    dates: int
    reconstructed: float
    never_observed: int
    extrapolated: float
    unknown: float
    suspect: float
    replaced: bool
    remark: str


@dataclass(frozen=True)
class StoredInput:
    """Reads series from a tile store by tile id."""

    store: TileStore

    def __call__(self, tile_id: str) -> TileSeries:
        return self.store.load(tile_id).series()


@dataclass(frozen=True)
class CubeInput:
    """Reads series from data cubes by tile id."""

    sites: Mapping[str, Site]
    mapping: CubeMapping

    def __call__(self, tile_id: str) -> TileSeries:
        return read_cube(self.sites[tile_id], self.mapping)


@dataclass(frozen=True)
class TileReconstructor:
    """Reads, fills and writes tiles. Any process can call it: it contains the model, so that workers need no access
    to the files of the process that created it."""

    model: Model
    input: StoredInput | CubeInput
    config: ReconstructionConfig
    output: Location
    keys: Mapping[str, str] = field(default_factory=dict)
    """Tile id → key of its results; without one, no completion record is written."""
    picture: Callable[[Reconstructed], bytes] | None = None
    on_window: OnWindow | None = None

    def __call__(self, tile_ids: Sequence[str]) -> Iterator[Outcome[FilledTile]]:
        """Processes each tile and yields its outcome; an error in one tile does not stop the others.

        Raises:
            UserError: `sampling.use_gpu` is set, but this process sees no GPU.
        """
        model = self.model.on_device(self.config.sampling.use_gpu)
        for tile_id in tile_ids:
            try:
                yield self._one(model, tile_id)
            except UserError as error:
                yield Outcome(tile_id, reason=str(error))
            except torch.OutOfMemoryError:
                yield Outcome(tile_id, reason=f"tile {tile_id}: out of GPU memory; reduce sampling.batch_size")

    def _one(self, model: Model, tile_id: str) -> Outcome[FilledTile]:
        options = options_of(self.config)

        def on_window(done: int, total: int) -> None:
            if self.on_window is not None:
                self.on_window(tile_id, done, total)

        cloudy = self.input(tile_id)
        dates = dates_wanted(cloudy.optical.dates, self.config.dates, self.config.every)
        filled = fill_gaps(model, cloudy, options, on_window, dates=dates, indices=self.config.indices)
        cloudy = at_dates(cloudy, dates)
        clear, gap_mask = filled.series, filled.gap_mask
        attributes = provenance(model, self.config.model, options, filled)
        if self.config.format == "cog":
            written = write_geotiffs(self.output.join(tile_id), clear, gap_mask, attributes, filled.indices)
            files = [f"{tile_id}/{uri.rpartition('/')[2]}" for uri in written]
        else:
            files = [f"{tile_id}.nc"]
            write_netcdf(self.output.join(files[0]), clear, gap_mask, attributes, filled.indices)
        if self.picture is not None:
            write_bytes_atomically(
                self.output.join(f"{tile_id}.png"), self.picture(Reconstructed(cloudy, clear, gap_mask))
            )
            files.append(f"{tile_id}.png")
        never_observed = int(clear.layers[NEVER_OBSERVED].sum())
        remarks = [] if filled.orbits is None else [filled.orbits.remark(clear.optical.bands)]
        if filled.calibration is not None:
            remarks.append(filled.calibration.remark())
        elif options.calibrates(model):
            remarks.append(f"calibration: {NOT_CALIBRATED}")
        if (filled.linear_share or 0) >= 0.005:
            remarks.append(f"{filled.linear_share:.0%} interpolated, where the model hardly departs from it")
        extrapolated, unknown = (
            float((clear.layers[PROVENANCE] == code).mean()) for code in (Provenance.EXTRAPOLATED, Provenance.UNKNOWN)
        )
        result = FilledTile(
            dates=len(clear.optical),
            reconstructed=float(gap_mask.mean()),
            never_observed=never_observed,
            extrapolated=extrapolated,
            unknown=unknown,
            suspect=filled.suspect_share,
            replaced=options.replace_suspect,
            remark="; ".join(remarks),
        )
        if tile_id in self.keys:
            completion = Completion(
                key=self.keys[tile_id],
                model=self.config.model,
                files=tuple(files),
                dates=result.dates,
                reconstructed=result.reconstructed,
                never_observed=never_observed,
            )
            write_completion(self.output, tile_id, completion)
        return Outcome(tile_id, result, remarks=cloudy.remarks)


def plan_reconstruction(
    config: ReconstructionConfig,
    picture: Callable[[Reconstructed], bytes] | None = None,
    on_window: OnWindow | None = None,
) -> Plan[str, FilledTile]:
    """Reads the model, lists the input and checks which results exist; writes nothing.

    Args:
        config: what to reconstruct.
        picture: draws a tile as PNG.
        on_window: for the progress within a tile; called in the process that fills it.

    Raises:
        UserError: the model or input cannot be read, the input lacks a requested tile, an index is unknown, the model
            cannot draw the samples, or `dates` or `every` make no sense.
    """
    require_dates(config.dates, config.every)
    for index in config.indices:
        pair_of(index, S2_ALL_BANDS)
    model, output = load_model(config.model), locate(config.output)
    members_wanted(model, options_of(config), config.indices)
    wanted, keys = tuple(dict.fromkeys(config.tiles)), {}
    source: StoredInput | CubeInput
    if exists(locate(config.input).join(MANIFEST_NAME)):
        store = TileStore.open(config.input)
        source, tile_ids = StoredInput(store), wanted or store.tile_ids
        of_run = run_key(model, config, options_of(config))
        keys = {tile_id: tile_key(of_run, store.record(tile_id)) for tile_id in tile_ids}
    else:  # cubes have no checksums, so existing results cannot be matched to them
        source = _cubes(config)
        tile_ids = wanted or tuple(sorted(source.sites))
    there = complete_tiles(output, keys) if config.resume else set()
    return Plan(
        TileReconstructor(model, source, config, output, keys, picture if config.figures else None, on_window),
        [tile_id for tile_id in tile_ids if tile_id not in there],
        config.output,
        there=len(there),
        stays=True,
        use_gpu=config.sampling.use_gpu,
    )


def _cubes(config: ReconstructionConfig) -> CubeInput:
    mapping = load_cube_mapping(config.mapping)
    sites = {site.tile_id: site for site in find_sites(config.input, mapping)}
    for site in sites.values():
        if site.problem is not None:
            raise UserError(site.problem)
    unknown = [tile_id for tile_id in config.tiles if tile_id not in sites]
    if unknown:
        raise UserError(f"{config.input}: no site {unknown[0]}; there are {', '.join(sorted(sites)[:5])}")
    return CubeInput(sites, mapping)


def options_of(config: ReconstructionConfig) -> SamplingOptions:
    """The sampling options of a reconstruction, including the mask dilation."""
    return replace(sampling_options(config.sampling), mask_dilation=config.mask_dilation)


def sampling_options(config: SamplingConfig) -> SamplingOptions:
    """The sampling options in a job's configuration."""
    return SamplingOptions(
        config.steps,
        config.seed,
        config.precision,
        config.batch_size,
        sampler=config.sampler,
        calibrate=config.calibrate,
        orbit_offsets=config.orbit_offsets,
        samples=config.samples,
        replace_suspect=config.replace_suspect,
    )
