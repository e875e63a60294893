"""Writes one tile into a store's folder; depends only on the tile, so that any process may write any tile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from restore_dit.data import storage
from restore_dit.data.items import Outcome
from restore_dit.data.store.manifest import (
    BAD_FRAMES,
    ObjectRecord,
    TileRecord,
    check_name,
    layer_object,
    tile_object,
)
from restore_dit.data.store.masks import SOURCE, MaskOrigin, MaskRecord, mask_record
from restore_dit.data.store.tile_file import (
    bad_frame_indices,
    encode_layer,
    encode_tile,
    object_record,
    tile_record,
    written_masks,
)
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS, TileSeries

WrittenMasks = tuple[MaskRecord, ObjectRecord]
"""The manifest records of a tile's masks: what they are, and the file that holds them."""

_NO_DATES = np.array([], "datetime64[D]")


def write_tile(store: storage.Place, series: TileSeries, bands: Sequence[str] = S2_ALL_BANDS) -> TileRecord:
    """Writes a tile's layers and then the tile, each file atomically, and returns its manifest record.

    Args:
        store: the store's folder.
        series: the tile, with its clouds and other layers.
        bands: the bands that the store accepts, in its order; a tile may lack some.

    Raises:
        UserError: a name is unsafe, the store does not accept the bands, or storage fails.
    """
    location, tile_id = storage.locate(store), check_name(series.tile_id)
    for track in series.radar:
        check_name(track, "radar track")
    if series.optical.bands != tuple(band for band in bands if band in series.optical.bands):
        raise UserError(
            f"tile {tile_id}: bands {', '.join(series.optical.bands)} are not among, or not in the order of, the "
            f"store's {', '.join(bands)}"
        )
    record = tile_record(series)
    if BAD_FRAMES in series.layers:
        record = record.model_copy(update={"bad_frames": bad_frame_indices(series.layers[BAD_FRAMES])})
    # Layers first, so that an existing tile always has its layers.
    for name, values in series.layers.items():
        file = _write_layer(location, tile_id, name, encode_layer(tile_id, name, values, _NO_DATES))
        record = record.model_copy(
            update={
                "layers": tuple(sorted({*record.layers, name})),
                "objects": {**record.objects, layer_object(name, tile_id): file},
            }
        )
    given = [(MaskOrigin(method=method), clouds) for method, clouds in series.other_clouds.items()]
    if series.clouds is not None:
        given.append((MaskOrigin(method=SOURCE, by=str(series.properties.get("source", ""))), series.clouds))
    for origin, clouds in given:  # the last masks are the ones in use
        masks, content = _encoded_masks(series, clouds, origin)
        record = record.with_masks(tile_id, masks, _write_layer(location, tile_id, origin.layer, content))
    path = tile_object(tile_id)
    content = encode_tile(series, record)
    storage.write_bytes_atomically(location.join(path), content)
    return record.model_copy(update={"objects": {**record.objects, path: object_record(content)}})


def make_tile(
    store: storage.Place, tile_id: str, make: Callable[[], TileSeries], fatal: type[UserError] | tuple[()] = ()
) -> Outcome[TileRecord]:
    """Makes a tile and writes it. If it cannot be made, the outcome says why.

    Raises:
        UserError: an error that is not the tile's: one of the class `fatal`, or one of the store.
    """
    begin = time.perf_counter()
    try:
        series = make()
    except fatal:
        raise
    except UserError as error:
        return Outcome(tile_id, reason=str(error))
    made = time.perf_counter()
    record = write_tile(store, series)
    return Outcome(
        tile_id,
        record,
        remarks=series.remarks,
        seconds_made=made - begin,
        seconds_written=time.perf_counter() - made,
    )


def write_masks(
    store: storage.Place, series: TileSeries, clouds: NDArray[np.uint8], origin: MaskOrigin, record: TileRecord
) -> WrittenMasks:
    """Writes cloud masks uint8 [T, H, W] of a committed tile with this `record`, next to masks of other origins, and
    returns their manifest records. If another process has written masks of this origin meanwhile, those are kept and
    returned, since a committed file never changes.

    Raises:
        UserError: storage fails.
    """
    location = storage.locate(store)
    existing = read_masks(location, series.tile_id, origin, record)
    if existing is not None:
        return existing
    checksum = record.objects[tile_object(series.tile_id)].checksum
    masks, content = _encoded_masks(series, clouds, origin, checksum)
    return masks, _write_layer(location, series.tile_id, origin.layer, content)


def read_masks(store: storage.Place, tile_id: str, origin: MaskOrigin, record: TileRecord) -> WrittenMasks | None:
    """The manifest records of existing masks of this origin; None if there are none, or they are damaged or were made
    from another tile with this id.

    Raises:
        UserError: storage fails.
    """
    location = storage.locate(store).join(layer_object(origin.layer, tile_id))
    content, _ = storage.read_versioned(location)
    if content is None:
        return None
    try:
        masks = written_masks(tile_id, content, record, location.uri)
    except UserError:
        return None
    return None if masks is None or masks.origin != origin else (masks, object_record(content))


def _encoded_masks(
    series: TileSeries, clouds: NDArray[np.uint8], origin: MaskOrigin, of_tile: str | None = None
) -> tuple[MaskRecord, bytes]:
    masks = mask_record(series.optical, clouds, origin)
    return masks, encode_layer(series.tile_id, origin.layer, clouds, series.optical.dates, masks, of_tile)


def _write_layer(location: storage.Location, tile_id: str, name: str, content: bytes) -> ObjectRecord:
    storage.write_bytes_atomically(location.join(layer_object(name, tile_id)), content)
    return object_record(content)
