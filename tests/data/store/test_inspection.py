"""What `inspect` says of a store, and the damage that verification finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.ingest import ingest_cubes
from restore_dit.data.store.inspection import describe_store, verify_store
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.series import S1_BANDS, Acquisitions, Georeference, TileSeries

DATES = np.array(["2019-01-01", "2019-01-06", "2019-02-01"], "datetime64[D]")


def store_of_two(folder: Path) -> TileStore:
    values = np.full((3, 2, 4, 5), 2000, np.int16)
    clouds = np.zeros((3, 4, 5), np.uint8)
    clouds[1] = 1
    clouds[2] = 255
    writer = TileStoreWriter(folder, bands=("B02", "B11"), source="test")
    writer.add(
        TileSeries(
            "clouded",
            Acquisitions(values, DATES, ("B02", "B11")),
            clouds,
            {"S1A": Acquisitions(values[:2] - 3000, DATES[:2], S1_BANDS)},
            Georeference("EPSG:32631", (10, 0, 0, 0, -10, 0)),
        )
    )
    writer.add(TileSeries("plain", Acquisitions(values[1:, :1] * 2, DATES[1:], ("B02",))))
    writer.quarantine("broken", "no dates")
    writer.commit()
    return TileStore.open(folder)


def test_a_description_says_what_is_there(tmp_path: Path) -> None:
    description = describe_store(store_of_two(tmp_path))
    clouded, plain = description.tiles
    assert (description.first_date.isoformat(), description.last_date.isoformat()) == ("2019-01-01", "2019-02-01")  # type: ignore[union-attr]
    assert (clouded.cloud_share, clouded.clear_frame_share) == (0.5, pytest.approx(1 / 3))  # no data is not cloud
    assert (plain.cloud_share, plain.clear_frame_share, plain.pixel_size) == (None, None, None)
    assert clouded.radar_acquisitions == {"S1A": 2}
    blue = description.optical["B02"]  # 20 clear pixels of 0.2, 40 of 0.4
    assert (blue.count, blue.mean) == (60, pytest.approx(1 / 3))
    assert description.radar["S1A"]["VV-VH"].mean == 0
    text = str(description)
    for words in ("2 (", "1 quarantined", "broken: no dates", "B02, B11", "4×5", "33.3%", "VV-VH"):
        assert words in text
    assert json.loads(json.dumps(description.as_json()))["tiles"][0]["first_date"] == "2019-01-01"


def test_an_empty_store_can_be_described(tmp_path: Path) -> None:
    TileStoreWriter(tmp_path).commit()
    assert "tiles        0" in str(describe_store(TileStore.open(tmp_path)))


def test_verification_finds_a_flipped_byte_a_short_file_and_a_missing_one(tmp_path: Path) -> None:
    store = store_of_two(tmp_path)
    seen: list[tuple[int, int]] = []
    assert verify_store(store, lambda *progress: seen.append(progress)) == []
    assert seen == [(1, 3), (2, 3), (3, 3)]

    flipped = tmp_path / "tiles/clouded.parquet"
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    (tmp_path / "layers/clouds/clouded.parquet").unlink()
    short = tmp_path / "tiles/plain.parquet"
    short.write_bytes(short.read_bytes()[:-1])
    lines = sorted(verify_store(store))
    assert [line.partition(": ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "layers/clouds/clouded.parquet",
        "tiles/clouded.parquet",
        "tiles/plain.parquet",
    ]
    assert all(words in line for words, line in zip(("not found", "checksum", "bytes"), lines, strict=True))


def test_the_real_sites_are_as_cloudy_as_their_source_says(shared: Path, tmp_path: Path) -> None:
    ingest_cubes(shared / "data/sentinel_series", tmp_path, load_cube_mapping("worldcereal"))
    store = TileStore.open(tmp_path)
    first, second = describe_store(store).tiles
    assert (first.optical_acquisitions, second.optical_acquisitions) == (72, 143)
    # 30 frames below 5 % of cloud, one of them all "snow", which is cloud in truth.
    assert first.clear_frame_share == pytest.approx(29 / 72)
    assert 0.4 < first.cloud_share < 0.55  # type: ignore[operator]
    assert verify_store(store) == []
