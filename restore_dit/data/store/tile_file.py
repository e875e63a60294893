"""The Parquet files of a tile store: one row a tile, one column a sensor, one `large_binary` an acquisition.

What a manifest says of a tile also lies in its file's metadata, so that an interrupted ingest is picked up without
decoding pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from restore_dit.config.loading import build
from restore_dit.data.store.frame_codec import CODEC, encode_frame
from restore_dit.data.store.manifest import (
    OPTICAL,
    RADAR_PREFIX,
    VERSION,
    ObjectRecord,
    SensorRecord,
    TileRecord,
    checksum,
)
from restore_dit.data.store.stored_tile import StoredLayer, StoredSeries
from restore_dit.data.store.tile_statistics import CloudCounts, Sums, cloud_counts, optical_sums, radar_sums
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, TileSeries

LAYER = "layer"
"""Column of a layer's file."""

_METADATA_KEY = b"restore_dit"
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
_DTYPES: dict[str, np.dtype[Any]] = {"int16": np.dtype(np.int16), "uint8": np.dtype(np.uint8)}


def tile_record(series: TileSeries) -> TileRecord:
    """What a manifest says of a tile, but for its layers and objects."""
    georeference = series.georeference
    return TileRecord(
        size=series.size,
        crs=georeference.crs if georeference else None,
        transform=georeference.transform if georeference else None,
        optical=_sensor_record(series.optical, optical_sums(series.optical, series.clouds)),
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


def encode_tile(series: TileSeries, record: TileRecord) -> pa.Buffer:
    """The content of `tiles/<tile_id>.parquet`."""
    columns = {OPTICAL: _encode_frames(series.optical.values, series.optical.dates, series.optical.bands)}
    for track, radar in series.radar.items():
        columns[RADAR_PREFIX + track] = _encode_frames(radar.values, radar.dates, radar.bands)
    return _parquet(series.tile_id, columns, {"record": record.model_dump(mode="json")})


def encode_layer(
    tile_id: str, name: str, values: NDArray[np.uint8], dates: NDArray[np.datetime64], sums: Sums | None = None
) -> pa.Buffer:
    """The content of `layers/<name>/<tile_id>.parquet`: values uint8 [T, H, W]. `sums` are the optical ones over what
    the layer calls clear, for the layer `clouds`."""
    counts = cloud_counts(values) if name == "clouds" else None
    metadata = {
        "layer": name,
        "clouds": counts.model_dump(mode="json") if counts else None,
        "optical_sums": {band: entry.model_dump() for band, entry in sums.items()} if sums else None,
    }
    return _parquet(tile_id, {LAYER: _encode_frames(values, dates, ())}, metadata)


def _encode_frames(values: NDArray[Any], dates: NDArray[np.datetime64], bands: tuple[str, ...]) -> dict[str, Any]:
    return {
        "codec": CODEC,
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "bands": list(bands),
        "dates": dates.astype("datetime64[D]").tolist(),
        "frames": [encode_frame(frame) for frame in values],
    }


def _parquet(tile_id: str, columns: dict[str, dict[str, Any]], metadata: dict[str, Any]) -> pa.Buffer:
    table = pa.table(
        {"tile_id": pa.array([tile_id])} | {name: pa.array([value], _FRAMES) for name, value in columns.items()}
    )
    table = table.replace_schema_metadata(
        {_METADATA_KEY: json.dumps({"version": VERSION, "tile_id": tile_id, **metadata})}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="none",  # frames are compressed already
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,  # a flipped bit is noticed when a tile is read, not when a run went wrong
    )
    return sink.getvalue()


def recover_record(tile_id: str, tile: bytes, layers: dict[str, bytes], origin: str) -> TileRecord:
    """A tile's record, from the metadata of its file and of its layers' files.

    Args:
        tile_id: the tile.
        tile: content of its file.
        layers: name of each layer → content of its file.
        origin: URI of the tile's file, for errors.

    Raises:
        UserError: a file that is damaged or belongs to another tile.
    """
    record = build(TileRecord, _metadata(tile_id, tile, origin).get("record", {}), origin)
    clouds: CloudCounts | None = None
    optical = record.optical
    for name, content in layers.items():
        about = _metadata(tile_id, content, f"{origin} (layer {name})")
        if name == "clouds":
            clouds = build(CloudCounts, about["clouds"], origin)
            optical = build(SensorRecord, {**optical.model_dump(), "sums": about["optical_sums"]}, origin)
    return record.model_copy(
        update={"optical": optical, "clouds": clouds, "layers": tuple(sorted(layers)), "objects": {}}
    )


def object_record(content: bytes | pa.Buffer) -> ObjectRecord:
    """Size and checksum of a file's content."""
    return ObjectRecord(size=len(content), checksum=checksum(content))


def _metadata(tile_id: str, content: bytes, origin: str) -> dict[str, Any]:
    try:
        metadata = json.loads(pq.read_schema(pa.BufferReader(content)).metadata[_METADATA_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(origin, error) from None
    if metadata.get("tile_id") != tile_id or metadata.get("version") != VERSION:
        raise damaged(origin, f"holds tile {metadata.get('tile_id')} in format version {metadata.get('version')}")
    return metadata


def read_columns(source: pa.NativeFile, prefixes: Sequence[str], origin: str) -> dict[str, dict[str, Any]]:
    """The row's columns whose names are among `prefixes`, or begin with one that ends in "/", as Arrow values by field.

    Only these columns are read from the file.

    Raises:
        UserError: a file that is not what `encode_tile` or `encode_layer` wrote.
    """
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)
        names = [
            name
            for name in file.schema_arrow.names
            if name in prefixes or any(prefix.endswith("/") and name.startswith(prefix) for prefix in prefixes)
        ]
        table = file.read(columns=names, use_threads=False)
        if table.num_rows != 1:
            raise ValueError(f"{table.num_rows} rows instead of one")
        return {name: {field.name: table[name][0][field.name] for field in _FRAMES} for name in names}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(origin, error) from None


def stored_series(column: dict[str, Any], expected: SensorRecord, size: tuple[int, int], origin: str) -> StoredSeries:
    """One sensor's column, still compressed; its shape must be what the manifest says."""
    shape = (expected.frames, len(expected.bands), *size)
    encoded, dtype, dates = _frames(column, shape, "int16", origin)
    bands = tuple(column["bands"].as_py())
    if bands != expected.bands or len(dates) != expected.frames:
        raise damaged(origin, f"bands {bands} and {len(dates)} dates are not those of the manifest")
    return StoredSeries(encoded, dtype, shape, dates, origin, bands)


def stored_layer(column: dict[str, Any], size: tuple[int, int], origin: str) -> StoredLayer:
    """A layer's column, still compressed."""
    shape = (len(column["frames"]), *size)
    encoded, dtype, dates = _frames(column, shape, "uint8", origin)
    return StoredLayer(encoded, dtype, shape, dates, origin)


def _frames(
    column: dict[str, Any], shape: tuple[int, ...], dtype: str, origin: str
) -> tuple[list[pa.Buffer], np.dtype[np.generic], NDArray[np.datetime64]]:
    found = (column["codec"].as_py(), column["dtype"].as_py(), tuple(column["shape"].as_py()))
    if found != (CODEC, dtype, shape) or len(column["frames"]) != shape[0]:
        raise damaged(origin, f"holds {found}, expected {(CODEC, dtype, shape)}")
    try:
        dates = np.array(column["dates"].as_py(), "datetime64[D]")
    except ValueError as error:
        raise damaged(origin, error) from None
    return [frame.as_buffer() for frame in column["frames"]], _DTYPES[dtype], dates


def damaged(origin: str, why: object) -> UserError:
    """The error of a file that cannot be read as what it should be."""
    return UserError(
        f"{origin}: damaged ({' '.join(str(why).split())[:200]}); restore the file, or delete it and ingest again"
    )
