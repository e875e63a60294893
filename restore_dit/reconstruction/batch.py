"""Reconstructs many series; each is written as soon as it is done, by the process that filled it.

plan = plan_reconstruction(config)
for outcome in outcomes(plan): ...  # or outcomes_on_cluster(plan)
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

ACTOR_MEMORY = 1 << 30
"""Memory reserved per actor, in bytes: for a tile's whole series, the network and its activations."""


@dataclass(frozen=True)
class Reconstructed:
    """One series before and after gap filling, with the gap mask [T, H, W], true where a pixel was filled."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """The outcome for one tile, without its pixels, which never leave the process that filled them.

    dates: number of dates. reconstructed: share of the pixels that were filled. never_observed: number of pixels that
    are observed on no date. remarks: what was left out of the input. calibration: one line on the calibration; empty if
    there was none. reason: why the tile has no results; empty if it has.
    """

    tile_id: str
    dates: int = 0
    reconstructed: float = 0.0
    never_observed: int = 0
    remarks: tuple[str, ...] = ()
    calibration: str = ""
    reason: str = ""


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
    on_window: Callable[[str, int, int], object] = lambda tile_id, done, total: None
    """Called with (tile id, windows done, windows in total)."""

    def __call__(self, tile_ids: Sequence[str]) -> Iterator[Outcome]:
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
        calibration = "" if filled.calibration is None else filled.calibration.remark()
        dates, share = len(clear.optical), float(gap_mask.mean())
        outcome = Outcome(tile_id, dates, share, never_observed, cloudy.remarks, calibration)
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
    """The work of a job: `todo` lists the tiles without results, and `there` counts those that have them already."""

    config: ReconstructionConfig
    work: TileReconstructor
    todo: Sequence[str]
    there: int


def plan_reconstruction(
    config: ReconstructionConfig, picture: Callable[[Reconstructed], bytes] | None = None
) -> ReconstructionPlan:
    """Reads the model, lists the input and checks which results exist; writes nothing. `picture` draws a tile as PNG.

    Raises:
        UserError: the model or input cannot be read, or the input lacks a requested tile.
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
    """A plan over all requested sites: cubes have no checksums, so existing results cannot be matched to them."""
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
    """Fills the tiles one after the other in this process and yields their outcomes; `on_window` is called with
    (tile id, windows done, windows in total)."""
    return replace(plan.work, on_window=on_window)(plan.todo)


def outcomes_on_cluster(plan: ReconstructionPlan) -> Iterator[Outcome]:
    """Yields the outcome of each tile, in the order in which actors finish. If an actor dies, its tile is retried.

    Raises:
        UserError: the cluster lacks the GPUs, a worker reports an error that is not specific to one tile, or workers
            die repeatedly.
    """
    from restore_dit.data.tasks_job import outcomes_of_actors  # which imports Ray

    return outcomes_of_actors(
        plan.work,
        [[tile_id] for tile_id in plan.todo],
        plan.config.workers,
        use_gpu=plan.config.sampling.use_gpu,
        memory=ACTOR_MEMORY,
        where=plan.config.output,
    )


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
    )
