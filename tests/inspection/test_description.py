"""What `inspect` says of a store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.inspection.description import describe_store, evenly
from restore_dit.inspection.description_text import description_text, readable_bytes
from restore_dit.series import (
    CLOUD_NO_DATA,
    NO_DATA,
    S1_BANDS,
    SHADOW,
    THICK_CLOUD,
    Acquisitions,
    Georeference,
    TileSeries,
)

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
    writer.refuse("broken", "no dates")
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
    text = description_text(description)
    for words in ("tiles        2, 1 quarantined; 3 objects", "broken: no dates", "B02, B11", "4×5", "33.3%", "VV-VH"):
        assert words in text
    assert json.loads(json.dumps(description.as_json()))["tiles"][0]["first_date"] == "2019-01-01"


def test_an_empty_store_can_be_described(tmp_path: Path) -> None:
    TileStoreWriter(tmp_path).commit()
    assert "tiles        0" in description_text(describe_store(TileStore.open(tmp_path)))


def test_frames_months_folds_and_missing_pixels_are_counted(tmp_path: Path) -> None:
    values = np.full((4, 1, 10, 10), 1000, np.int16)
    values[0, 0, :5] = NO_DATA  # clear, yet without data
    clouds = np.zeros((4, 10, 10), np.uint8)
    clouds[1, :6] = THICK_CLOUD
    clouds[2, 0] = SHADOW
    clouds[3] = CLOUD_NO_DATA
    dates = np.array(["2019-01-01", "2019-01-03", "2019-03-01", "2020-03-01"], "datetime64[D]")
    radar = np.full((2, 2, 10, 10), -1000, np.int16)
    radar[0, 1, :1] = NO_DATA
    writer = TileStoreWriter(tmp_path, source="test")
    for name in "abc":
        writer.add(
            TileSeries(
                name,
                Acquisitions(values, dates, ("B02",)),
                clouds if name != "c" else None,
                {"S1A": Acquisitions(radar, dates[:2], S1_BANDS)} if name != "c" else {},
                properties={"fold": 1 if name == "a" else 2},
            )
        )
    writer.commit()
    description = describe_store(TileStore.open(tmp_path))
    assert description.folds == {"1": 1, "2": 2}
    assert description.layers == {"clouds": 2}
    assert description.series["optical"].revisit_days == 57  # of 2, 57 and 366 days
    assert (description.series["radar S1A"].tiles, description.series["radar S1A"].frames) == (2, 4)
    assert description.clouds is not None
    assert description.clouds.classes["thick_cloud"] == pytest.approx(60 / 400)
    frames = description.clouds.frames
    assert (frames.frames, frames.clear_frames, frames.hidden_frames) == (8, 2, 4)
    assert frames.mean_hidden == pytest.approx((0 + 0.6 + 0.1 + 1) / 4)
    months = description.clouds.months
    assert {month: entry.frames for month, entry in months.items()} == {1: 4, 3: 4}
    assert months[1].mean_hidden == pytest.approx(0.3)
    clear = 2 * (100 + 40 + 90) + 400
    assert description.optical["B02"].no_data_share == pytest.approx((2 * 50 + 50) / clear)
    assert description.radar["S1A"]["VH"].no_data_share == pytest.approx(0.05)


def test_a_tile_that_cannot_be_read_is_named_and_the_rest_described(tmp_path: Path) -> None:
    store = store_of_two(tmp_path)
    (tmp_path / "tiles/plain.parquet").write_bytes(b"PAR1")
    description = describe_store(store)
    assert list(description.unreadable) == ["plain"]
    assert "plain.parquet" in description_text(description)
    assert len(description.tiles) == 2


def test_chosen_tiles_are_spread_evenly() -> None:
    assert evenly("abcdefghi", 3) == ["a", "e", "i"]
    assert evenly("ab", 12) == ["a", "b"]
    assert evenly("abc", 1) == ["a"]
    assert evenly("", 12) == []


def test_the_real_sites_are_as_cloudy_as_their_source_says(shared: Path, tmp_path: Path) -> None:
    run(plan_cubes(shared / "data/sentinel_series", tmp_path, load_cube_mapping("worldcereal")))
    store = TileStore.open(tmp_path)
    first, second = describe_store(store).tiles
    assert (first.optical_acquisitions, second.optical_acquisitions) == (72, 143)
    # 30 frames below 5 % of cloud, one of them all "snow", which is cloud in truth.
    assert first.clear_frame_share == pytest.approx(29 / 72)
    assert 0.4 < first.cloud_share < 0.55  # type: ignore[operator]


def test_of_many_kinds_the_commonest_are_named(tmp_path: Path) -> None:
    writer = TileStoreWriter(tmp_path)
    for number in range(12):
        values = np.full((1, 1, 3, 3 + max(number - 2, 0)), 1, np.int16)
        writer.add(TileSeries(f"t{number}", Acquisitions(values, DATES[:1], ("B02",))))
    writer.commit()
    text = description_text(describe_store(TileStore.open(tmp_path)))
    assert "3×3 (3 tiles), " in text
    assert "… and 2 more" in text


@pytest.mark.parametrize(("count", "says"), [(999, "999 B"), (5_900_000, "5.9 MB"), (2.5e15, "2500.0 TB")])
def test_bytes_are_said_in_a_readable_unit(count: float, says: str) -> None:
    assert readable_bytes(count) == says
