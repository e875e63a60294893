"""Many series through the model, each written as soon as it is done, by whichever process has it.

plan = plan_reconstruction(config)
for outcome in outcomes(plan): ...
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
from restore_dit.data.storage import Location, exists, locate, write_bytes_atomically
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.reconstruction.completion import Completion, complete_tiles, run_key, tile_key, write_completion
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.rasters import write_geotiffs, write_netcdf
from restore_dit.reconstruction.reconstruct import fill_gaps, provenance
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NEVER_OBSERVED, TileSeries


@dataclass(frozen=True)
class Reconstructed:
    """One series before and after."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """What became of a tile: its dates, the share of pixels that were filled, how many pixels are observed on no date
    `remarks` on what was left out of it and how the model did when it was `tried` on it, or the `reason` why it has no
    results. Small: pixels never leave the
    process that made them."""

    tile_id: str
    dates: int = 0
    reconstructed: float = 0.0
    never_observed: int = 0
    remarks: tuple[str, ...] = ()
    tried: str = ""
    reason: str = ""


@dataclass(frozen=True)
class StoredInput:
    """Series of a tile store."""

    store: TileStore

    def __call__(self, tile_id: str) -> TileSeries:
        return self.store.load(tile_id).series()


@dataclass(frozen=True)
class CubeInput:
    """Series of data cubes."""

    sites: Mapping[str, Site]
    mapping: CubeMapping

    def __call__(self, tile_id: str) -> TileSeries:
        return read_cube(self.sites[tile_id], self.mapping)


@dataclass(frozen=True)
class TileReconstructor:
    """Reads, fills and writes tiles: a callable that any process may have. It carries the model, so that workers need
    no file of the process that made it."""

    model: Model
    input: StoredInput | CubeInput
    config: ReconstructionConfig
    output: Location
    keys: Mapping[str, str] = field(default_factory=dict)
    """Tile id → what its results follow from, where that is known."""
    picture: Callable[[Reconstructed], bytes] | None = None
    on_window: Callable[[str, int, int], object] = lambda tile_id, done, total: None
    """Gets (tile, windows done, in all)."""

    def __call__(self, tile_ids: Sequence[str]) -> Iterator[Outcome]:
        """Each tile, whatever is wrong with it.

        Raises:
            UserError: a GPU is asked for, and this process sees none.
        """
        model = self.model.on_device(self.config.sampling.use_gpu)
        for tile_id in tile_ids:
            try:
                yield self._one(model, tile_id)
            except UserError as error:
                yield Outcome(tile_id, reason=str(error))
            except torch.OutOfMemoryError:
                yield Outcome(tile_id, reason=f"tile {tile_id}: too little GPU memory: lower sampling.batch_size")

    def _one(self, model: Model, tile_id: str) -> Outcome:
        options = options_of(self.config)

        def on_window(done: int, total: int) -> None:
            self.on_window(tile_id, done, total)

        cloudy = self.input(tile_id)
        filled = fill_gaps(model, cloudy, options, on_window)
        clear, gap_mask = filled.series, filled.gap_mask
        attributes = provenance(model, self.config.model, options, filled)
        if self.config.format == "cog":
            written = write_geotiffs(self.output.join(tile_id), clear, gap_mask, attributes)
            files = [f"{tile_id}/{uri.rpartition('/')[2]}" for uri in written]
        else:
            files = [f"{tile_id}.nc"]
            write_netcdf(self.output.join(files[0]), clear, gap_mask, attributes)
        if self.picture is not None:
            write_bytes_atomically(
                self.output.join(f"{tile_id}.png"), self.picture(Reconstructed(cloudy, clear, gap_mask))
            )
            files.append(f"{tile_id}.png")
        never_observed = int(clear.layers[NEVER_OBSERVED].sum())
        tried = "" if filled.own_errors is None else filled.own_errors.remark()
        dates, share = len(clear.optical), float(gap_mask.mean())
        outcome = Outcome(tile_id, dates, share, never_observed, cloudy.remarks, tried)
        if tile_id in self.keys:
            completion = Completion(
                key=self.keys[tile_id],
                model=self.config.model,
                files=tuple(files),
                dates=outcome.dates,
                reconstructed=outcome.reconstructed,
                never_observed=never_observed,
            )
            write_completion(self.output, tile_id, completion)
        return outcome


@dataclass(frozen=True)
class ReconstructionPlan:
    """What is to be done: `todo` the tiles without results, `there` how many have them."""

    config: ReconstructionConfig
    work: TileReconstructor
    todo: Sequence[str]
    there: int


def plan_reconstruction(
    config: ReconstructionConfig, picture: Callable[[Reconstructed], bytes] | None = None
) -> ReconstructionPlan:
    """Looks at model, input and what is there already; writes nothing. `picture` draws a tile as PNG.

    Raises:
        UserError: any of these cannot be read, or lacks a tile that is asked for.
    """
    model, output = load_model(config.model), locate(config.output)
    picture = picture if config.figures else None
    if not exists(locate(config.input).join(MANIFEST_NAME)):
        return _plan_of_cubes(config, model, output, picture)
    store = TileStore.open(config.input)
    tile_ids = tuple(dict.fromkeys(config.tiles)) or store.tile_ids
    of_run = run_key(model, config, options_of(config))
    keys = {tile_id: tile_key(of_run, store.record(tile_id)) for tile_id in tile_ids}
    there = complete_tiles(output, keys) if config.resume else set()
    todo = [tile_id for tile_id in tile_ids if tile_id not in there]
    work = TileReconstructor(model, StoredInput(store), config, output, keys, picture)
    return ReconstructionPlan(config, work, todo, len(there))


def _plan_of_cubes(
    config: ReconstructionConfig,
    model: Model,
    output: Location,
    picture: Callable[[Reconstructed], bytes] | None,
) -> ReconstructionPlan:
    """Cubes have no checksums, so that nobody knows which results are theirs: all are made."""
    mapping = load_cube_mapping(config.mapping)
    sites = {site.tile_id: site for site in find_sites(config.input, mapping)}
    for site in sites.values():
        if site.problem is not None:
            raise UserError(site.problem)
    unknown = [tile_id for tile_id in config.tiles if tile_id not in sites]
    if unknown:
        raise UserError(f"{config.input}: no site {unknown[0]}; there are {', '.join(sorted(sites)[:5])}")
    todo = tuple(dict.fromkeys(config.tiles)) or tuple(sorted(sites))
    work = TileReconstructor(model, CubeInput(sites, mapping), config, output, picture=picture)
    return ReconstructionPlan(config, work, todo, 0)


def outcomes(
    plan: ReconstructionPlan, on_window: Callable[[str, int, int], object] = lambda tile_id, done, total: None
) -> Iterator[Outcome]:
    """What becomes of each tile, one after the other in this process; `on_window` gets (tile, windows done, in all)."""
    return replace(plan.work, on_window=on_window)(plan.todo)


def options_of(config: ReconstructionConfig) -> SamplingOptions:
    """The sampler's options, and by how much masks are widened."""
    return replace(sampling_options(config.sampling), mask_dilation=config.mask_dilation)


def sampling_options(config: SamplingConfig) -> SamplingOptions:
    """The sampler's options of a job's configuration."""
    return SamplingOptions(
        config.steps,
        config.seed,
        config.precision,
        config.batch_size,
        sampler=config.sampler,
        calibrate=config.calibrate,
    )
