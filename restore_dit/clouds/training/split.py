"""Splits tiles and dates into training and validation data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.network.inputs import known_bands, network_size
from restore_dit.config.cloud_training import CloudTrainingConfig, CloudValidationConfig
from restore_dit.data.randomness import generator
from restore_dit.data.store.manifest import TileRecord, layer_object, tile_object
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.series import Georeference

Frames = dict[str, NDArray[np.intp]]
"""Tile id → indices of acquisitions, ascending."""


@dataclass(frozen=True)
class LabelledStore:
    """A store with a unique name, its training and validation frames, and the size (H, W) of each tile on the network's
    grid. `fingerprint` covers tiles and labels, but not masks of other methods, which do not affect the training."""

    name: str
    store: TileStore
    training: Frames
    validation: Frames
    sizes: Mapping[str, tuple[int, int]]
    fingerprint: str

    @property
    def training_pixels(self) -> int:
        """Number of pixels in all training frames."""
        return sum(len(frames) * self.sizes[tile][0] * self.sizes[tile][1] for tile, frames in self.training.items())


def with_bands_of_stores(config: CloudTrainingConfig) -> CloudTrainingConfig:
    """The configuration, whose network is restricted to the bands that all tiles have if `bands_in_common` is set.

    Raises:
        UserError: a store cannot be read, or the tiles have no band in common.
    """
    if not (config.bands_in_common and config.network.missing_bands):
        return config
    stores = [TileStore.open(uri) for uri in config.stores]
    bands = [{*record.optical.bands} for store in stores for record in store.manifest.tiles.values()]
    common = tuple(band for band in config.network.bands if all(band in known for known in bands))
    if not common:
        raise UserError(
            f"{', '.join(config.stores)}: no band of {', '.join(config.network.bands)} is in all tiles; omit a store, "
            "or set bands_in_common=false"
        )
    return config.model_copy(update={"network": config.network.model_copy(update={"bands": common})})


def open_labelled_stores(config: CloudTrainingConfig) -> list[LabelledStore]:
    """The configured stores, each split into training and validation frames. Only reads the manifests.

    Raises:
        UserError: no store is given, a store cannot be read, tiles lack masks or the network's bands, or there is no
            training frame left.
    """
    if not config.stores:
        raise UserError("no training data: give the URI of a tile store with cloud masks", status=2)
    stores = [TileStore.open(uri) for uri in config.stores]
    names = [store.location.name for store in stores]
    return [
        _labelled(store, name if names.count(name) == 1 else f"{name}-{number}", config)
        for number, (store, name) in enumerate(zip(stores, names, strict=True), start=1)
    ]


def _labelled(store: TileStore, name: str, config: CloudTrainingConfig) -> LabelledStore:
    layer = MaskOrigin(method=config.labels).layer
    sizes = {}
    for tile_id in store.tile_ids:
        record, where = store.record(tile_id), f"{store.uri}: tile {tile_id}"
        if layer not in record.masks:
            raise UserError(
                f"{where} has no masks of method {config.labels} to train on; ingest it with masks, or omit it"
            )
        try:
            known_bands(record.optical.bands, config.network)
            sizes[tile_id] = network_size(record.size, _georeference(record), config.network)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    frames = {tile_id: store.record(tile_id).optical.frames for tile_id in store.tile_ids}
    training, validation = split_frames(frames, config.validation, config.seed)
    if not any(len(chosen) for chosen in training.values()):
        raise UserError(
            f"{store.uri}: no training frame is left of {len(frames)} tiles and {sum(frames.values())} frames; "
            "lower validation.share, or set it to 0"
        )
    return LabelledStore(name, store, training, validation, sizes, _fingerprint(store, layer))


def _fingerprint(store: TileStore, layer: str) -> str:
    """A hash of the tiles and their labels, computed from the checksums in the manifest."""
    content = {
        path: record.objects[path].checksum
        for tile_id, record in store.manifest.tiles.items()
        for path in (tile_object(tile_id), layer_object(layer, tile_id))
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def split_frames(frames: Mapping[str, int], config: CloudValidationConfig, seed: int) -> tuple[Frames, Frames]:
    """Training and validation frames of tiles. `frames`: number of frames by tile.

    Of several tiles, a random (seeded) share is held out, at least one; each tile is decided independently. Of a single
    tile, blocks of consecutive acquisitions are held out, spread over the whole period.
    """
    everything = {tile_id: np.arange(count) for tile_id, count in frames.items()}
    if config.share == 0 or not frames:
        return everything, {}
    if len(frames) == 1:
        ((tile_id, count),) = frames.items()
        held_out = held_out_frames(count, config, generator(seed, "cloud validation dates", tile_id))
        return {tile_id: np.flatnonzero(~held_out)}, {tile_id: np.flatnonzero(held_out)}
    lot = {tile_id: generator(seed, "cloud validation tile", tile_id).random() for tile_id in sorted(frames)}
    chosen = {tile_id for tile_id in lot if lot[tile_id] < config.share} or {min(lot, key=lot.__getitem__)}
    training = {tile_id: all_frames for tile_id, all_frames in everything.items() if tile_id not in chosen}
    return training, {tile_id: everything[tile_id] for tile_id in sorted(chosen)}


def held_out_frames(count: int, config: CloudValidationConfig, random: np.random.Generator) -> NDArray[np.bool_]:
    """Mask [T] of the `count` acquisitions of a single tile that are held out: a random one of every 1/share blocks,
    and at least one in total. Short series are divided into shorter blocks."""
    together = max(round(1 / config.share), 2)
    length = max(min(config.block, count // together), 1)
    block = np.arange(count) // length
    place = random.integers(together, size=count // length // together + 1)
    held_out = block % together == place[block // together]
    if count and not held_out.any():  # fewer blocks than 1/share, and the drawn one does not exist
        held_out = block == random.integers(block[-1] + 1)
    return held_out


def _georeference(record: TileRecord) -> Georeference | None:
    return None if record.crs is None or record.transform is None else Georeference(record.crs, record.transform)
