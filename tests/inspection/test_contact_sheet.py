"""The contact sheet shows each tile of a store, whatever it has or lacks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.inspection.contact_sheet import NO_DATA_COLOUR, contact_sheet
from restore_dit.inspection.tile_overview import overview_of, parts_of
from restore_dit.pictures.panels import OUTLINE_COLOUR
from restore_dit.series import CLOUD_NO_DATA, NO_DATA, S1_BANDS, THICK_CLOUD, Acquisitions, TileSeries
from tests.messages import refused

pytestmark = pytest.mark.slow

TEN_DAYS = np.arange("2019-01-01", "2019-12-01", 10, dtype="datetime64[D]")


def write(folder: Path, **changes: TileSeries) -> TileStore:
    writer = TileStoreWriter(folder, source="test")
    for series in changes.values():
        writer.add(series)
    writer.commit()
    return TileStore.open(folder)


def tile(name: str, bands: tuple[str, ...] = ("B02", "B03", "B04", "B08"), dates: NDArray = TEN_DAYS) -> TileSeries:
    values = np.random.default_rng(0).integers(200, 2000, (len(dates), len(bands), 12, 12)).astype(np.int16)
    return TileSeries(name, Acquisitions(values, dates, bands), np.zeros((len(dates), 12, 12), np.uint8))


def colour_share(png: bytes, colour: str) -> float:
    image = imread(io.BytesIO(png))[..., :3]
    return float((np.abs(image - to_rgb(colour)).max(axis=-1) < 0.01).mean())


def test_of_each_part_the_clearest_frame_is_shown_and_one_with_cloud(tmp_path: Path) -> None:
    series = tile("a")
    assert series.clouds is not None
    series.clouds[:] = THICK_CLOUD
    series.clouds[[2, 20]] = 0
    series.clouds[5, :6] = 0
    borders = parts_of((TEN_DAYS[0], TEN_DAYS[-1]), 2)
    found = overview_of(write(tmp_path, a=series), "a", borders)
    assert [frame.date for frame in found.frames if frame] == [TEN_DAYS[2], TEN_DAYS[20]]
    assert found.cloudy is not None
    assert (found.cloudy.date, found.cloudy.hidden_share) == (TEN_DAYS[5], 0.5)
    np.testing.assert_array_equal(found.shares[[2, 5, 6], 0], [0, 0.5, 1])
    # Greenness is known where the land was seen.
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found.index)), [2, 5, 20])


def test_a_pixel_that_lacks_a_band_has_no_data_whatever_its_mask_says(tmp_path: Path) -> None:
    series = tile("a")
    assert series.clouds is not None
    series.clouds[1] = THICK_CLOUD
    series.clouds[1, :3] = CLOUD_NO_DATA
    series.optical.values[:2, 1, :, :6] = NO_DATA
    found = overview_of(write(tmp_path, a=series), "a", parts_of((TEN_DAYS[0], TEN_DAYS[-1]), 2))
    thick, no_data = found.shares[:3, 0], found.shares[:3, -1]
    np.testing.assert_allclose(thick, [0, 0.375, 0])
    np.testing.assert_allclose(no_data, [0.5, 0.625, 0])


def test_a_part_without_acquisition_is_empty(tmp_path: Path) -> None:
    store = write(tmp_path, a=tile("a", dates=TEN_DAYS[:6]))
    found = overview_of(store, "a", parts_of((TEN_DAYS[0], TEN_DAYS[-1]), 4))
    assert [frame is None for frame in found.frames] == [False, True, True, True]
    assert found.cloudy is None
    assert found.radar is None


def test_frames_that_the_source_lists_as_bad_are_marked(tmp_path: Path) -> None:
    bad = np.zeros(len(TEN_DAYS), np.uint8)
    bad[[3, 7]] = 1
    plain = tile("plain")
    listed = TileSeries("listed", plain.optical, plain.clouds, layers={"bad_frames": bad})
    store = write(tmp_path, plain=plain, listed=listed)
    borders = parts_of((TEN_DAYS[0], TEN_DAYS[-1]), 4)
    np.testing.assert_array_equal(np.flatnonzero(overview_of(store, "listed", borders).bad), [3, 7])
    assert not overview_of(store, "plain", borders).bad.any()
    red = [colour_share(contact_sheet(store, [name]), "#d7191c") for name in ("plain", "listed")]
    assert red[0] == 0 < red[1]


@pytest.mark.parametrize(
    ("bands", "composite", "index"),
    [
        (("B02", "B03", "B04", "B08"), "true colour", "NDVI"),
        (("B05", "B06", "B07", "B8A", "B11", "B12"), "short-wave infrared", "NDRE"),
        (("B12",), "B12", None),
    ],
)
def test_what_the_bands_allow_is_shown(
    tmp_path: Path, bands: tuple[str, ...], composite: str, index: str | None
) -> None:
    store = write(tmp_path, a=tile("a", bands))
    found = overview_of(store, "a", parts_of((TEN_DAYS[0], TEN_DAYS[-1]), 4))
    assert (found.composite.name, found.index_name) == (composite, index)
    assert contact_sheet(store)[1:4] == b"PNG"


def test_no_data_and_cloud_are_seen_at_a_glance(tmp_path: Path) -> None:
    good, bad, cloudy = tile("good"), tile("bad"), tile("cloudy")
    bad.optical.values[:, :, :, :6] = NO_DATA
    assert cloudy.clouds is not None
    cloudy.clouds[:, 3:9, 3:9] = THICK_CLOUD
    sheets = [contact_sheet(write(tmp_path / one.tile_id, one=one)) for one in (good, bad, cloudy)]
    missing = [colour_share(sheet, NO_DATA_COLOUR) for sheet in sheets]
    assert missing[1] > 0.05
    assert max(missing[0], missing[2]) < 0.002  # the legend
    outlined = [colour_share(sheet, OUTLINE_COLOUR) for sheet in sheets]
    assert outlined[2] > 5 * max(outlined[:2])


def test_tiles_of_every_kind_fit_on_one_sheet(tmp_path: Path) -> None:
    wide = np.full((3, 2, 6, 40), 900, np.int16)
    radar = np.full((4, 2, 6, 40), -1200, np.int16)
    several = {
        "plain": tile("plain"),
        "wide": TileSeries(
            "wide",
            Acquisitions(wide, TEN_DAYS[:3], ("B11", "B12")),
            radar={track: Acquisitions(radar, TEN_DAYS[:4], S1_BANDS) for track in ("S1A", "S1D")},
        ),
        "empty": TileSeries("empty", Acquisitions(np.full((2, 1, 5, 5), NO_DATA, np.int16), TEN_DAYS[:2], ("B02",))),
        "none": TileSeries("none", Acquisitions(np.empty((0, 1, 5, 5), np.int16), TEN_DAYS[:0], ("B02",))),
    }
    store = write(tmp_path, **several)
    heights = [imread(io.BytesIO(contact_sheet(store, chosen))).shape[0] for chosen in (None, ["plain"])]
    assert heights[0] > 2.5 * heights[1]


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    store = write(tmp_path / "store", a=tile("a"))
    with refused("'b'"):
        contact_sheet(store, ["b"])
    with refused(f"{tmp_path}/empty"):
        contact_sheet(write(tmp_path / "empty"))
