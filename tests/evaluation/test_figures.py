"""Figures: that they show what they say."""

import io
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from restore_dit.evaluation.baselines import fill
from restore_dit.evaluation.figures import (
    choose_frames,
    choose_pixels,
    reconstruction_figure,
    save_figure,
    series_figure,
    strip_figure,
    to_png,
)
from restore_dit.indices import vegetation_index
from restore_dit.pictures.composites import FALSE_COLOUR, SHORTWAVE, TRUE_COLOUR, natural_composite, robust_stretch
from restore_dit.pictures.panels import GAP_COLOUR, OUTLINE_COLOUR
from restore_dit.series import S2_BANDS


class Scene:
    """A green-up over bare soil, 9 dates, with a square gap that moves."""

    def __init__(self, size=(24, 32), frames=9):
        generator = np.random.default_rng(0)
        self.dates = np.datetime64("2019-03-01") + np.cumsum(generator.integers(3, 25, frames))
        greenness = np.linspace(0, 1, frames)[:, None, None] * (0.3 + 0.7 * generator.random(size))
        soil = np.linspace(0.08, 0.3, len(S2_BANDS))[:, None, None]
        leaf = np.array([0.02, 0.05, 0.03, 0.1, 0.3, 0.4, 0.45, 0.45, 0.2, 0.1])[:, None, None]
        self.target = soil + greenness[:, None] * (leaf - soil)
        self.gap_mask = np.zeros((frames, *size), bool)
        for frame in range(1, frames):
            self.gap_mask[frame, : 2 * frame, frame : frame + 12] = True
        self.gap_mask[4] = True
        self.linear = fill("linear", self.target, self.gap_mask, self.dates.astype(float))
        self.inputs = (self.gap_mask, self.dates, S2_BANDS)


@pytest.fixture(scope="module")
def scene():
    return Scene()


def pixels_of(png):
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def drawn(axes):
    return np.asarray(axes.images[0].get_array())


def labelled(figure, label):
    """The row of panels whose first one has this label."""
    panels = [axes for axes in figure.axes if axes.images]
    start = next(axes for axes in panels if axes.get_ylabel() == label)
    return [axes for axes in panels if np.isclose(axes.get_position().y0, start.get_position().y0)]


def test_strip_shows_gaps_in_their_colour_and_truth_elsewhere(scene):
    figure = strip_figure(scene.target, {"model": scene.linear}, *scene.inputs, frames=[1, 3, 8])
    cloudy, true = labelled(figure, "cloudy input"), labelled(figure, "true")
    assert [axes.get_title() for axes in cloudy] == [str(scene.dates[frame]) for frame in (1, 3, 8)]
    for above, below, gaps in zip(cloudy, true, scene.gap_mask[[1, 3, 8]], strict=True):
        np.testing.assert_allclose(drawn(above)[gaps], np.tile(to_rgb(GAP_COLOUR), (gaps.sum(), 1)))
        np.testing.assert_array_equal(drawn(above)[~gaps], drawn(below)[~gaps])


def test_strip_has_a_row_for_each_thing(scene):
    one = strip_figure(scene.target, {"model": scene.linear}, *scene.inputs, frames=[1, 3, 8])
    assert len(one.axes) == 4 * 3 + 1  # and the colour bar
    two = strip_figure(scene.target, {"model": scene.target, "linear": scene.linear}, *scene.inputs, frames=[2])
    assert len(two.axes) == 6 + 1


def test_strip_errors_are_mean_absolute_errors_where_the_truth_is_known(scene):
    clouds = np.zeros_like(scene.gap_mask)
    clouds[:, :5, :5] = True
    figure = strip_figure(
        scene.target, {"model": scene.target + 0.02}, *scene.inputs, target_cloud_mask=clouds, frames=[2, 3]
    )
    errors = labelled(figure, "error")
    for axes in errors:
        shown = np.ma.masked_invalid(drawn(axes))
        np.testing.assert_allclose(shown.compressed(), 0.02)
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), clouds[0])
        assert axes.get_xlabel() == "0.020 in gaps"


def test_strip_of_a_series_without_gaps_or_without_truth(scene):
    for gaps, target in ((np.zeros_like(scene.gap_mask), scene.target), (scene.gap_mask, scene.target * np.nan)):
        figure = strip_figure(target, {"model": scene.linear}, gaps, *scene.inputs[1:], frames=[2])
        assert labelled(figure, "error")[0].get_xlabel() == "–"
        assert to_png(figure, 40)


def test_png_has_the_asked_width_and_is_not_blank(scene, tmp_path):
    figure = strip_figure(scene.target, {"model": scene.linear}, *scene.inputs, title="A title")
    save_figure(figure, str(tmp_path / "folder" / "strip.png"), 100)
    image = pixels_of((tmp_path / "folder" / "strip.png").read_bytes())
    assert image.shape[1] == 1000
    assert (image == 1).all(axis=-1).mean() < 0.7
    assert (np.abs(image - to_rgb(GAP_COLOUR)) < 0.01).all(axis=-1).mean() > 0.01


def one_of_each(scene, frames):
    methods = {"RESTORE-DiT": scene.linear, "model without radar": scene.linear}
    title = "Tile 31UES with the cloud masks of other dates, seed 0, and a title that is long"
    composites = (TRUE_COLOUR, FALSE_COLOUR)
    yield strip_figure(scene.target, methods, *scene.inputs, title=title, frames=frames)
    yield reconstruction_figure(
        scene.target, scene.linear, *scene.inputs, title=title, frames=frames, composites=composites
    )
    yield reconstruction_figure(
        scene.target, scene.linear, *scene.inputs, title=title, frames=frames, uncertainty=0.1 * scene.target
    )
    yield series_figure(scene.target, methods, *scene.inputs, title=title)


@pytest.mark.parametrize("frames", [[4], [1, 4], range(8)], ids=len)
def test_nothing_lies_on_top_of_anything(scene, frames):
    """Every text and panel keeps to itself and inside the figure."""
    for figure in one_of_each(scene, frames):
        FigureCanvasAgg(figure).draw()
        texts = [*figure.texts, *figure.legends[0].get_texts()]
        for axes in figure.axes:
            texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        texts.append(figure.axes[-1].xaxis.get_offset_text())
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        boxes += [axes.get_window_extent() for axes in figure.axes]
        for number, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[:number])


def test_reconstruction_outlines_gaps_on_what_was_acquired(scene):
    acquired = np.where(scene.gap_mask[:, None], 0.9, scene.target)
    acquired[2, :, 0, 0] = np.nan
    figure = reconstruction_figure(
        acquired, scene.linear, *scene.inputs, composites=(TRUE_COLOUR, FALSE_COLOUR), frames=[0, 2, 4]
    )
    assert len(figure.axes) == 4 * 3
    above, below = labelled(figure, "acquired\ntrue colour"), labelled(figure, "reconstructed\ntrue colour")
    assert [len(axes.collections) for axes in above] == [0, 1, 1]  # the first date has no gap
    assert not any(axes.collections for axes in below)
    np.testing.assert_allclose(drawn(above[1])[0, 0], to_rgb(GAP_COLOUR))  # no data
    assert (drawn(above[1])[scene.gap_mask[2]][1:] == 1).all()  # cloud is white, the land's stretch ignores it
    assert drawn(below[1])[scene.gap_mask[2]].mean() < 0.9
    image = pixels_of(to_png(figure, 100))
    assert (np.abs(image - to_rgb(OUTLINE_COLOUR)) < 0.1).all(axis=-1).sum() > 100


def test_uncertainty_is_shown_where_pixels_were_filled(scene):
    said = 0.1 * scene.target
    figure = reconstruction_figure(scene.target, scene.linear, *scene.inputs, frames=[0, 2], uncertainty=said)
    without, with_gap = labelled(figure, "uncertainty")
    assert without.images[0].get_array().mask.all()  # the first date has no gap
    shown, gap = with_gap.images[0].get_array(), scene.gap_mask[2]
    np.testing.assert_array_equal(shown.mask, ~gap)
    np.testing.assert_allclose(shown.data[gap], said[2].mean(axis=0)[gap])


def test_series_draws_the_interval_around_the_first_line(scene):
    half_width = np.full(scene.gap_mask.shape, 0.1)
    figure = series_figure(
        scene.target, {"model": scene.target, "linear": scene.linear}, *scene.inputs, half_width=half_width
    )
    _, index = vegetation_index(scene.target, S2_BANDS)
    for panel in figure.axes:
        (band,) = panel.collections
        row, column = map(int, re.findall(r"\d+", panel.get_title(loc="left")))
        heights = band.get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose(heights.min(), index[:, row, column].min() - 0.1)
        np.testing.assert_allclose(heights.max(), index[:, row, column].max() + 0.1)
    assert "80 % interval" in {text.get_text() for text in figure.legends[0].get_texts()}


def test_series_draws_lines_points_and_shades_gaps(scene):
    place = (3, 6)
    figure = series_figure(
        scene.target, {"model": scene.target, "linear": scene.linear}, *scene.inputs, pixels=[place, (20, 30)]
    )
    panel = figure.axes[0]
    _, index = vegetation_index(scene.target, S2_BANDS)
    model, linear, hidden, observed = (line.get_ydata() for line in panel.lines)
    gaps = scene.gap_mask[:, 3, 6]
    np.testing.assert_allclose(model, index[:, 3, 6])
    np.testing.assert_allclose(linear, vegetation_index(scene.linear, S2_BANDS)[1][:, 3, 6])
    np.testing.assert_allclose(hidden, index[gaps, 3, 6])
    np.testing.assert_allclose(observed, index[~gaps, 3, 6])
    runs = (np.diff(np.concatenate([[0], gaps.astype(int)])) == 1).sum()
    assert len(panel.patches) == runs
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "model",
        "linear",
        "observed",
        "hidden truth",
        "missing",
    ]
    assert len(figure.axes) == 2
    assert to_png(figure, 50)


def test_series_needs_bands_of_an_index(scene):
    with pytest.raises(ValueError, match="NDVI"):
        series_figure(scene.target[:, :3], {}, scene.gap_mask, scene.dates, ("B02", "B03", "B04"))


def test_frames_and_pixels_that_are_chosen(scene):
    frames = choose_frames(scene.gap_mask, 3)
    assert len(frames) == 3
    assert frames == sorted(frames)
    assert all(scene.gap_mask[frame].any() for frame in frames)
    assert choose_frames(scene.gap_mask[:2], 6) == [0, 1]
    places = choose_pixels(vegetation_index(scene.target, S2_BANDS)[1], scene.gap_mask)
    assert len(set(places)) == 3
    assert scene.gap_mask[:, places[0][0], places[0][1]].sum() >= 1


def test_composites_follow_the_bands():
    assert natural_composite(S2_BANDS) == TRUE_COLOUR
    assert natural_composite(("B05", "B06", "B07", "B8A", "B11", "B12")) == SHORTWAVE
    assert natural_composite(("VV", "VH")).bands == ("VV", "VV", "VV")
    values = np.arange(10.0)[None, :, None, None]
    assert TRUE_COLOUR.pick(values, S2_BANDS).ravel().tolist() == [2, 1, 0]


def test_stretch_ignores_clouds_and_one_bad_frame():
    land = np.random.default_rng(0).uniform(0.05, 0.15, (5, 20, 20, 3))
    clear = np.ones(land.shape[:3], bool)
    expected = robust_stretch(land, clear)
    spoiled = land.copy()
    spoiled[0, :10] = 1
    clear[0, :10] = False
    spoiled[1] = 1  # cloud that nobody detected
    found = robust_stretch(spoiled, clear)
    np.testing.assert_allclose(found.high, expected.high, rtol=0.05)
    np.testing.assert_allclose(found.low, expected.low, rtol=0.05)


def test_index_of_known_reflectance():
    values = np.zeros((1, 10, 1, 2))
    values[0, S2_BANDS.index("B08"), 0, 0] = 0.4
    values[0, S2_BANDS.index("B04"), 0, 0] = 0.1
    name, index = vegetation_index(values, S2_BANDS)
    assert name == "NDVI"
    assert index[0, 0, 0] == pytest.approx(0.6)
    assert np.isnan(index[0, 0, 1])
