"""The Parquet files of a tile store: one row per tile, one column per sensor, one `large_binary` per acquisition.

The file's metadata state where each acquisition's bytes are (`FrameIndex`), so that a reader requests the footer once
and then only the bytes of the frames that it uses. The tile's manifest record is stored there, too, so that an
interrupted ingest can continue without decoding pixels.
"""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from restore_dit.config.loading import build
from restore_dit.data import storage
from restore_dit.data.store.frames import CODEC, FrameIndex, encode_frame, frame_checksum
from restore_dit.data.store.manifest import (
    OPTICAL,
    RADAR_PREFIX,
    VERSION,
    ObjectRecord,
    SensorRecord,
    TileRecord,
    checksum,
    tile_object,
)
from restore_dit.data.store.masks import MaskRecord
from restore_dit.data.store.tile_statistics import Sums, optical_sums, radar_sums
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, TileSeries

LAYER = "layer"
"""Column of a layer's file."""

_METADATA_KEY = b"restore_dit"
_CHECKSUM_KEY = b"restore_dit_checksum"
_FOOTER_GUESS = 64 * 1024
_FRAMES = pa.struct(
    [
        ("codec", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("bands", pa.list_(pa.string())),
        ("dates", pa.list_(pa.date32())),
        ("frames", pa.list_(pa.large_binary())),
    ]
)


def tile_record(series: TileSeries) -> TileRecord:
    """The manifest record of a tile, without its layers and objects."""
    georeference = series.georeference
    return TileRecord(
        size=series.size,
        crs=georeference.crs if georeference else None,
        transform=georeference.transform if georeference else None,
        optical=_sensor_record(series.optical, optical_sums(series.optical, None)),
        radar={track: _sensor_record(radar, radar_sums(radar)) for track, radar in series.radar.items()},
        properties=series.properties,
    )


def _sensor_record(series: Acquisitions, sums: Sums) -> SensorRecord:
    dates = series.dates.astype("datetime64[D]").tolist()
    return SensorRecord(
        bands=series.bands,
        frames=len(dates),
        first_date=dates[0] if dates else None,
        last_date=dates[-1] if dates else None,
        sums=sums,
    )


def encode_tile(series: TileSeries, record: TileRecord) -> bytes:
    """The content of `tiles/<tile_id>.parquet`."""
    columns = {OPTICAL: series.optical} | {RADAR_PREFIX + track: radar for track, radar in series.radar.items()}
    return _parquet(
        series.tile_id,
        {name: (sensor.values, sensor.dates, sensor.bands) for name, sensor in columns.items()},
        {"record": record.model_dump(mode="json")},
    )


def encode_layer(
    tile_id: str,
    name: str,
    values: NDArray[np.integer],
    dates: NDArray[np.datetime64],
    masks: MaskRecord | None = None,
    of_tile: str | None = None,
) -> bytes:
    """The content of `layers/<name>/<tile_id>.parquet`.

    Args:
        values: of any shape.
        dates: datetime64[D] [T] if the first dimension is time, otherwise empty.
        masks: the manifest record, if the layer contains cloud masks.
        of_tile: checksum of the tile's file that the masks were made from.
    """
    metadata = {"layer": name, "masks": masks.model_dump(mode="json") if masks else None, "of_tile": of_tile}
    return _parquet(tile_id, {LAYER: (values, dates, ())}, metadata)


def bad_frame_indices(layer: NDArray[np.integer]) -> tuple[int, ...]:
    """The acquisitions marked in the layer `bad_frames` [T]."""
    return tuple(np.flatnonzero(layer).tolist())


_Column = tuple[NDArray[Any], NDArray[np.datetime64], tuple[str, ...]]


def _parquet(tile_id: str, columns: dict[str, _Column], metadata: dict[str, Any]) -> bytes:
    encoded = {
        name: [encode_frame(frame) for frame in (values if values.ndim > 2 else values[None])]
        for name, (values, _, _) in columns.items()
    }
    arrays: dict[str, pa.Array] = {"tile_id": pa.array([tile_id])}
    for name, (values, dates, bands) in columns.items():
        row = {
            "codec": CODEC,
            "dtype": str(values.dtype),
            "shape": list(values.shape),
            "bands": list(bands),
            "dates": dates.astype("datetime64[D]").tolist(),
            "frames": encoded[name],
        }
        arrays[name] = pa.array([row], _FRAMES)
    table = pa.table(arrays)
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="none",  # frames are already compressed, and stored verbatim
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        # Parquet does not say where a value lies within a page. Since frames are stored
        # verbatim, they are found by search.
        content, end, frames = sink.getvalue(), 0, {}
        for name, (values, dates, bands) in columns.items():
            offsets, end = _offsets(content, encoded[name], end)
            frames[name] = FrameIndex(
                values.dtype,
                values.shape,
                bands,
                dates,
                offsets,
                np.array([len(frame) for frame in encoded[name]], np.int64),
                np.array([frame_checksum(frame) for frame in encoded[name]], np.int64),
            ).to_json()
        about = json.dumps({"version": VERSION, "tile_id": tile_id, "frames": frames, **metadata}).encode()
        writer.add_key_value_metadata({_METADATA_KEY: about, _CHECKSUM_KEY: str(zlib.crc32(about)).encode()})
    return sink.getvalue()


def _offsets(content: bytes, frames: list[bytes], start: int) -> tuple[NDArray[np.int64], int]:
    """Positions of the consecutive frames in the file from `start` on, and the end of the last one."""
    offsets = np.empty(len(frames), np.int64)
    for index, frame in enumerate(frames):
        offsets[index] = start = content.index(frame, start)
        start += len(frame)
    return offsets, start


def written_record(tile_id: str, tile: bytes, origin: str) -> TileRecord:
    """The record that a tile's file was written with, without that file itself.

    Raises:
        UserError: the file is damaged or belongs to another tile.
    """
    return build(TileRecord, _metadata(tile_id, tile, origin).get("record", {}), origin)


def written_masks(tile_id: str, layer: bytes, record: TileRecord, origin: str) -> MaskRecord | None:
    """The record of the masks in a layer's file; None if they were not made from this exact tile.

    Raises:
        UserError: the file is damaged or belongs to another tile.
    """
    about = _metadata(tile_id, layer, origin)
    if not about.get("masks") or about.get("of_tile") != record.objects[tile_object(tile_id)].checksum:
        return None
    return build(MaskRecord, about["masks"], origin)


def object_record(content: bytes) -> ObjectRecord:
    """Size and checksum of a file's content."""
    return ObjectRecord(size=len(content), checksum=checksum(content))


def read_frame_indexes(
    location: storage.Location, tile_id: str, size: int, content: pa.Buffer | None = None
) -> dict[str, FrameIndex]:
    """Column → positions of its frames, for a tile's or layer's file of `size` bytes. Reads only the footer, and
    nothing if `content` is the whole file.

    Raises:
        UserError: the file is missing, or was not written by `encode_tile` or `encode_layer`.
    """
    # Most footers fit into this guess, which saves a request for the length of the footer.
    tail = content or _tail(location, size, min(size, _FOOTER_GUESS))
    needed = int.from_bytes(bytes(tail[-8:-4]), "little") + 8
    if bytes(tail[-4:]) != b"PAR1" or needed > size:
        raise damaged(location.uri, "no Parquet footer")
    if needed > len(tail):
        tail = _tail(location, size, needed)
    try:
        tree = _metadata(tile_id, tail, location.uri)["frames"]
        indexes = {name: FrameIndex.from_json(entry) for name, entry in tree.items()}
        if any((index.offsets + index.lengths > size).any() for index in indexes.values()):
            raise ValueError("frames beyond the end of the file")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(location.uri, error) from None
    return indexes


def _tail(location: storage.Location, size: int, length: int) -> pa.Buffer:
    return storage.read_ranges(location, [(size - length, length)], size)[0]


def _metadata(tile_id: str, content: bytes | pa.Buffer, origin: str) -> dict[str, Any]:
    """The metadata that `_parquet` stored, from a file's whole content or only its end."""
    try:
        found = pq.read_metadata(pa.BufferReader(content)).metadata
        if zlib.crc32(found[_METADATA_KEY]) != int(found[_CHECKSUM_KEY]):
            raise ValueError("metadata do not match their checksum")
        metadata = json.loads(found[_METADATA_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(origin, error) from None
    if metadata.get("tile_id") != tile_id or metadata.get("version") != VERSION:
        raise damaged(origin, f"contains tile {metadata.get('tile_id')} in format version {metadata.get('version')}")
    return metadata


def damaged(origin: str, why: object) -> UserError:
    """The error for a file whose content is invalid."""
    return UserError(
        f"{origin}: damaged ({' '.join(str(why).split())[:200]}); restore the file, or delete it and ingest again"
    )
