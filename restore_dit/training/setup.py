"""What every process of a run needs: built once from the configuration and the tile store, then pickled to workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from restore_dit.config import RunConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import BRIGHT_CEILING, OPTICAL_CEILING, Normalisation
from restore_dit.data.examples.plan import EpochPlan, TileSplit, frames_of_part, split_tiles
from restore_dit.data.examples.targets import TARGET, decide_by_record, explained
from restore_dit.data.loader import TileReader, tile_reader
from restore_dit.data.randomness import generator
from restore_dit.data.storage import Location, exists, locate
from restore_dit.data.store.tile_statistics import Sums, merge_sums, radar_sums
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_description import locate_model
from restore_dit.reconstruction.model_directory import WEIGHTS_FILE, Model, TrainingData, load_model, save_model
from restore_dit.series import MIN_BANDS, S2_BANDS
from restore_dit.trainer.run_folder import RunFolder

HOW_IT_RUNS = {
    "name": True,
    "output": True,
    "workers": True,
    "tracking": True,
    "data": {"store", "cache_decoded"},
    "training": {
        "zero_stage",
        "offload_optimiser",
        "micro_batch_size",
        "activation_checkpointing",
        "compile",
        "validate_every",
        "save_every",
        "log_every",
        "log_examples",
    },
}
"""Keys that determine how and where a run is computed, not what: they may differ when it resumes."""


def run_folder(config: RunConfig) -> RunFolder:
    """The folder `output/name` of a run."""
    folder = locate(config.output).join(config.name)
    return RunFolder(config, folder, folder.join("model"), HOW_IT_RUNS, "choose another name=…")


def initial_copy(folder: RunFolder) -> Location:
    """The run's own copy of the model directory that it starts from."""
    return folder.location.join("init_from")


@dataclass(frozen=True)
class TrainingSetup:
    """A run that is ready to start on any number of workers."""

    config: RunConfig
    folder: RunFolder
    store_fingerprint: str
    split: TileSplit
    plan: EpochPlan
    reader: TileReader
    maker: ExampleMaker
    normalisation: Normalisation
    validation: tuple[tuple[str, int], ...]
    """(tile, draw) of each of the fixed validation examples."""
    init_from: Location | None
    """The model directory to start from: the run's own copy, or where it is yet to be copied from."""
    training_data: TrainingData
    """What the model will have seen, including the training data of `init_from`."""

    def keep_initial_model(self) -> None:
        """Copies the model of `init_from` into the run's folder, so that a run that resumes does not depend on it."""
        source, copy = self.init_from, initial_copy(self.folder)
        if source is not None and source != copy:
            model = load_model(source)
            weights, seen = model.denoiser.state_dict(), model.training_data
            save_model(copy, model.config, weights, model.normalisation, model.metrics, seen)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Training tiles without a frame that may be a target."""
        return tuple(sorted(set(self.split.train) - set(self.plan.tile_ids)))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.training.epochs * self.plan.steps_per_epoch


def set_up(config: RunConfig) -> TrainingSetup:
    """Opens the store and plans the run.

    Raises:
        UserError: there is no store, it lacks bands or a radar track, the split leaves nothing to train on, or the
            model of `training.init_from` does not match.
    """
    if not config.data.store:
        raise UserError("data.store is not set: specify the tile store's folder or URI, such as data.store=stores/site")
    store = TileStore.open(config.data.store)
    config = with_bands(config, store)
    split = split_tiles({t: r.fold for t, r in store.manifest.tiles.items()}, config.data.split, config.seed)
    training = config.training
    usable = {part: usable_tiles(store, config, split.part(part), part) for part in ("train", "validation")}
    if not usable["train"]:
        raise UserError(
            f"{config.data.store}: no tile has a frame to train on: {_why_none(store, config, split.train)}"
        )
    _check_sizes(store, config, usable["train"])
    folder = run_folder(config)
    init_from = initial = None
    if config.training.init_from is not None:
        has_copy = exists(initial_copy(folder).join(WEIGHTS_FILE))
        init_from = initial_copy(folder) if has_copy else locate_model(config.training.init_from)
        initial = _initial_model(config, init_from)
    plan = EpochPlan(usable["train"], config.data.examples_per_tile, training.batch_size, config.seed)
    return TrainingSetup(
        config=config,
        folder=folder,
        store_fingerprint=store.fingerprint,
        split=split,
        plan=plan,
        reader=tile_reader(store, config.data),
        maker=ExampleMaker(config.data, config.model.bands, config.seed, config.model.any_bands),
        # The weights depend on the radar scale they were trained with, and the new store may have no radar at all.
        normalisation=normalisation_of(store, config, split.train) if initial is None else initial.normalisation,
        validation=_validation_examples(usable["validation"], training.validation_examples, config.seed),
        init_from=init_from,
        training_data=TrainingData.of(store, (*split.train, *split.validation)).after(
            None if initial is None else initial.training_data
        ),
    )


def _why_none(store: TileStore, config: RunConfig, tile_ids: tuple[str, ...]) -> str:
    """What keeps every frame of these tiles from being a target, in one line."""
    targets = config.data.targets
    records = [store.manifest.tiles[tile_id] for tile_id in tile_ids]
    decisions = [decide_by_record(targets, record, store.uri) for record in records]
    return f"of {sum(map(len, decisions))} frames: {explained(targets, np.concatenate(decisions))}; raise a limit"


def _check_sizes(store: TileStore, config: RunConfig, tile_ids: tuple[str, ...]) -> None:
    """Raises `UserError` unless the examples of a batch all have the same size."""
    sizes = sorted({store.manifest.tiles[tile_id].size for tile_id in tile_ids})
    if config.data.crop is None and config.micro_batch_size > 1 and len(sizes) > 1:
        shown = ", ".join(f"{height}×{width}" for height, width in sizes[:4])
        raise UserError(f"{store.uri}: tiles of different sizes ({shown}) do not fit into one batch; set data.crop")


def _sums_before_test(store: TileStore, config: RunConfig, tile_id: str, track: str) -> Sums:
    tile = store.load(tile_id, radar_tracks=(track,))
    if track not in tile.radar:
        return {}
    everything = np.ones(len(tile.optical.dates), bool)
    test = frames_of_part(everything, "test", config.data.split, config.seed, tile_id)[0]
    radar = tile.radar[track].acquisitions()
    if test.any():
        radar = radar.select(radar.dates < tile.optical.dates[test].min())
    return radar_sums(radar)


def with_bands(config: RunConfig, store: TileStore) -> RunConfig:
    """The configuration with `model.bands`, if empty, set to the bands that all tiles of the store have.

    Raises:
        UserError: the tiles have no band in common.
    """
    if config.model.bands:
        return config
    tiles = store.manifest.tiles.values()
    common = tuple(band for band in S2_BANDS if all(band in tile.optical.bands for tile in tiles))
    if not common:
        raise UserError(f"{config.data.store}: its tiles have no band in common; set model.bands")
    return config.model_copy(update={"model": config.model.model_copy(update={"bands": common})})


def usable_tiles(
    store: TileStore, config: RunConfig, tile_ids: tuple[str, ...], part: Literal["train", "validation"]
) -> tuple[str, ...]:
    """The tiles with a frame that the part may score, according to the manifest alone.

    Raises:
        UserError: a tile lacks bands, cloud masks or paired radar, or is smaller than the crop.
    """
    data = config.data
    kept = []
    for tile_id in tile_ids:
        record = store.manifest.tiles[tile_id]
        where = f"{data.store}: tile {tile_id}"
        lacking = [band for band in config.model.bands if band not in record.optical.bands]
        present = [band for band in config.model.bands if band in record.optical.bands]
        if config.model.any_bands and len(present) < MIN_BANDS:
            raise UserError(f"{where} has {len(present)} of {', '.join(config.model.bands)}; {MIN_BANDS} are needed")
        if lacking and not config.model.any_bands:
            raise UserError(f"{where} has no {', '.join(lacking)}; set 'model.bands=[{','.join(present)}]'")
        if record.clouds is None:
            raise UserError(f"{where} has no cloud masks; detect clouds first")
        if data.crop and min(record.size) < data.crop:
            raise UserError(f"{where} is {record.size[0]}×{record.size[1]} pixels, smaller than data.crop={data.crop}")
        if data.radar and data.radar.pairing == "nearest_date" and data.radar.track not in record.radar:
            raise UserError(f"{where} has no radar track {data.radar.track}; set data.radar.track")
        clear = decide_by_record(data.targets, record, where) == TARGET
        if frames_of_part(clear, part, data.split, config.seed, tile_id)[1].any():
            kept.append(tile_id)
    return tuple(kept)


def normalisation_of(store: TileStore, config: RunConfig, tile_ids: tuple[str, ...]) -> Normalisation:
    """The value at which the network's input is clipped, and mean and standard deviation of the radar channels from the
    manifest's sums over the given tiles."""
    ceiling = OPTICAL_CEILING if config.model.network == "patches" else BRIGHT_CEILING
    if not config.model.radar_channels or config.data.radar is None:
        return Normalisation(optical_ceiling=ceiling)
    track = config.data.radar.track
    by_fold = config.data.radar.statistics == "mean_of_folds"
    groups: dict[int | None, list[str]] = {}
    for tile_id in tile_ids:
        groups.setdefault(store.manifest.tiles[tile_id].fold if by_fold else None, []).append(tile_id)
    tracks = store.manifest.radar_tracks if track == BOTH_TRACKS else (track,)
    moments = [_moments(store, config, tiles, tracks) for tiles in groups.values()]
    mean, std = np.mean(moments, axis=0)
    return Normalisation(config.model.radar_channels, tuple(map(float, mean)), tuple(map(float, std)), ceiling)


def _moments(
    store: TileStore, config: RunConfig, tile_ids: list[str], tracks: tuple[str, ...]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation in dB of each channel over some tiles and tracks; with a split by dates, from before
    the test period only."""
    channels = config.model.radar_channels
    if config.data.split.by == "dates":
        sums = merge_sums(_sums_before_test(store, config, tile, track) for tile in tile_ids for track in tracks)
    else:
        sums = merge_sums(store.manifest.radar_sums(track, tile_ids) for track in tracks)
    if not all(channel in sums and sums[channel].count for channel in channels):
        raise UserError(
            f"{store.uri}: no tile to train on has radar track {' or '.join(tracks)}; set data.radar.track to one of "
            f"{', '.join(store.manifest.radar_tracks) or '(none)'}, or model.radar_channels=[] and data.radar=null"
        )
    return [sums[channel].mean for channel in channels], [max(sums[channel].std, 1e-3) for channel in channels]


def _validation_examples(tiles: tuple[str, ...], count: int, seed: int) -> tuple[tuple[str, int], ...]:
    """`count` examples from the tiles in seeded order, cycling through them if there are fewer tiles."""
    if not tiles:
        return ()
    order = [tiles[index] for index in generator(seed, "validation order").permutation(len(tiles))]
    return tuple((order[index % len(order)], index // len(order)) for index in range(count))


def _initial_model(config: RunConfig, place: Location) -> Model:
    """The model that the run starts from, checked to match the run's network."""
    model = load_model(place)
    theirs, ours = model.config.model.model_dump(), config.model.model_dump()
    for key, value in ours.items():
        if theirs[key] != value:
            raise UserError(
                f"{place.uri}: this model has model.{key}={theirs[key]}, but the run has {value}; "
                "set the run's value to the model's to start from its weights"
            )
    return model
