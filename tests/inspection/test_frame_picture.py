"""The strip of frames: one panel an acquisition, its border in the colour of what was decided, masks outlined."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from restore_dit.config import TargetConfig
from restore_dit.data.store.manifest import BAD_FRAMES
from restore_dit.data.store.tile_store import TileStore
from restore_dit.inspection.frame_picture import (
    CLOUD_COLOUR,
    DECISION_COLOURS,
    NO_DATA_COLOUR,
    SHADOW_COLOUR,
    Layout,
    frame_picture,
)
from restore_dit.inspection.target_decisions import FrameStrip, frame_strip
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, SHADOW, THICK_CLOUD, Acquisitions, TileSeries
from tests.data.store.tiles import store_of
from tests.messages import refused

FRAMES, HEIGHT, WIDTH = 23, 16, 24


def tile(name: str = "a") -> TileSeries:
    """Frame 0 clear, 1 with a square of cloud, 2 with one of shadow, 3 half without data, 4 hazy, 5 listed as bad; the
    rest clear."""
    random = np.random.default_rng(0)
    ground = random.integers(300, 600, (3, HEIGHT, WIDTH))
    values = (ground + random.integers(-20, 21, (FRAMES, *ground.shape))).astype(np.int16)
    clouds = np.full((FRAMES, HEIGHT, WIDTH), CLEAR, np.uint8)
    clouds[1, 4:12, 4:12] = THICK_CLOUD
    clouds[2, 4:12, 4:12] = SHADOW
    clouds[3, :, :12] = CLOUD_NO_DATA
    values[3, :, :, :12] = NO_DATA
    values[4] += 1000
    dates = np.datetime64("2019-01-01") + 5 * np.arange(FRAMES)
    bad = np.zeros(FRAMES, np.uint8)
    bad[5] = 1
    return TileSeries(name, Acquisitions(values, dates, ("B02", "B03", "B04")), clouds=clouds, layers={BAD_FRAMES: bad})


RULE = TargetConfig(by="both", most_haze=0.05)
EXPECTED = ["target", "cloud_and_shadow", "cloud_and_shadow", "no_data", "haze", "source_list", *["target"] * 17]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    return store_of(tmp_path_factory.mktemp("frames") / "store", tile("a"), tile("b"))


@pytest.fixture(scope="module")
def strips(store: TileStore) -> list[FrameStrip]:
    return [frame_strip(store, name, RULE) for name in ("a", "b")]


@pytest.fixture(scope="module")
def picture(strips: list[FrameStrip]) -> NDArray[np.float32]:
    return matplotlib.image.imread(io.BytesIO(frame_picture(strips, RULE)))[..., :3]


def is_colour(pixels: NDArray[np.float32], colour: str) -> NDArray[np.bool_]:
    return (np.abs(pixels - np.array(to_rgb(colour))) < 0.02).all(axis=-1)


def test_a_strip_says_what_was_decided_and_on_what(strips: list[FrameStrip]) -> None:
    strip = strips[0]
    assert strip.decisions.tolist() == EXPECTED
    assert sum(strip.counts.values()) == FRAMES
    assert strip.counts["target"] == 18
    assert strip.hidden[1] == pytest.approx(64 / (HEIGHT * WIDTH))
    assert (strip.hidden[3], strip.no_data[3]) == (0, 0.5)
    assert strip.haze[4] == pytest.approx(0.1, abs=0.02)
    assert np.isnan(strip.images[3, :, :12]).all()
    assert strip.composite.name == "true colour"


def test_every_acquisition_has_a_panel_with_a_border_of_its_decisions_colour(
    strips: list[FrameStrip], picture: NDArray[np.float32]
) -> None:
    layout = Layout(tuple(strips))
    assert picture.shape[:2] == layout.size
    places = set()
    for index, strip in enumerate(strips):
        tall, wide = layout.image(strip)
        assert (tall, wide) == (56, 84)  # a tile that is wider than high
        for frame, decision in enumerate(strip.decisions):
            top, left = layout.place(index, frame)
            border = picture[top : top + tall + 10, left : left + wide + 10].copy()
            assert is_colour(border, DECISION_COLOURS[decision])[[0, 2, -3, -1]].all()
            assert is_colour(border, DECISION_COLOURS[decision])[:, [0, 2, -3, -1]].all()
            places.add((top, left))
    assert len(places) == 2 * FRAMES
    assert layout.columns == 20
    assert len({top for top, _ in places}) == 4  # 23 frames of two tiles


def test_masks_are_outlined_in_a_colour_for_each_kind(strips: list[FrameStrip], picture: NDArray[np.float32]) -> None:
    layout = Layout(tuple(strips))
    tall, wide = layout.image(strips[0])
    for frame, colour in ((1, CLOUD_COLOUR), (2, SHADOW_COLOUR)):
        top, left = (corner + 5 for corner in layout.place(0, frame))
        drawn = is_colour(picture[top : top + tall, left : left + wide], colour)
        rows, columns = np.nonzero(drawn)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 41, 14, 41)  # 8 of 16 and of 24 pixels
        assert not drawn[16:40, 16:40].any()
    top, left = (corner + 5 for corner in layout.place(0, 3))
    without_data = is_colour(picture[top : top + tall, left : left + wide], NO_DATA_COLOUR)
    assert without_data[:, :40].mean() > 0.95
    assert not without_data[:, 44:].any()
    top, left = (corner + 5 for corner in layout.place(0, 0))
    for colour in (CLOUD_COLOUR, SHADOW_COLOUR, NO_DATA_COLOUR):
        assert not is_colour(picture[top : top + tall, left : left + wide], colour).any()


def test_a_long_series_is_shown_evenly_and_counted_whole(tmp_path: Path) -> None:
    dates = np.datetime64("2019-01-01") + 3 * np.arange(300)
    clouds = np.where(np.arange(300)[:, None, None] % 3 == 0, CLEAR, SHADOW) * np.ones((1, 4, 4))
    values = np.full((300, 1, 4, 4), 900, np.int16)
    long = TileSeries("long", Acquisitions(values, dates, ("B8A",)), clouds=clouds.astype(np.uint8))
    strip = frame_strip(store_of(tmp_path / "store", long), "long", TargetConfig())
    assert len(strip.dates) == len(strip.decisions) == len(strip.images) == 160
    assert (strip.acquisitions, strip.counts["target"], strip.counts["cloud_and_shadow"]) == (300, 100, 200)
    assert strip.dates[[0, -1]].tolist() == dates[[0, -1]].tolist()
    assert set(np.diff(strip.dates).astype(int)) == {3, 6}


def test_the_list_alone_needs_no_masks(tmp_path: Path) -> None:
    bare = store_of(tmp_path / "store", replace(tile(), clouds=None))
    strip = frame_strip(bare, "a", TargetConfig(by="source_list"))
    assert strip.decisions.tolist() == ["target"] * 5 + ["source_list"] + ["target"] * 17
    frame_picture([strip], TargetConfig(by="source_list"))
    with refused("tile a", "cloud masks"):
        frame_strip(bare, "a", TargetConfig())
