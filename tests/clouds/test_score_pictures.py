"""Pictures of scores: that they show what they say."""

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from restore_dit.clouds.score_pictures import (
    CLASS_COLOURS,
    NO_DATA_COLOUR,
    ComparedFrame,
    class_image,
    confusion_picture,
    curves_picture,
    examples_picture,
)
from restore_dit.clouds.scores import no_counts
from restore_dit.series import S2_BANDS

pytestmark = pytest.mark.slow


def pixels_of(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def area_of(image: np.ndarray, colour: str) -> float:
    return float((np.abs(image - to_rgb(colour)) < 0.01).all(axis=-1).mean())


def frame(name: str, wrong: int, bands=S2_BANDS, size=(20, 24)) -> ComparedFrame:
    values = np.random.default_rng(wrong).uniform(0.02, 0.3, (len(bands), *size)).astype(np.float32)
    labels = np.zeros(size, np.uint8)
    labels[:4, :6] = 255
    predictions = labels.copy()
    predictions[10 : 10 + wrong, :12] = 1
    values[:, labels == 255] = np.nan
    return ComparedFrame(values, bands, name, labels, predictions)


def test_disagreement_is_about_what_is_clear():
    assert frame("a", 0).disagreement == 0
    assert frame("a", 3).disagreement == pytest.approx(36 / (20 * 24 - 24))
    one = frame("a", 3)
    thin = ComparedFrame(one.values, one.bands, "a", one.predictions, np.where(one.predictions == 1, 2, 0).astype("u1"))
    assert thin.disagreement == 0  # cloud is cloud


def test_the_worst_frames_are_shown_and_those_of_other_bands_left_out():
    frames = [frame(f"2019-01-{number + 10}", number) for number in range(1, 10)]
    other = frame("other", 5, bands=S2_BANDS[3:])
    all_ten = pixels_of(examples_picture([*frames, other], "Frames"))
    # all frames of the same bands have their say in the stretch
    np.testing.assert_allclose(all_ten, pixels_of(examples_picture(frames[1:], "Frames")), atol=0.03)
    assert area_of(all_ten, CLASS_COLOURS[1]) > area_of(
        pixels_of(examples_picture(frames[:8], "Frames")), CLASS_COLOURS[1]
    )
    assert all_ten.shape[1] == 1500
    assert area_of(all_ten, NO_DATA_COLOUR) > 0.005


@pytest.mark.parametrize("bands", [S2_BANDS, ("B05", "B06", "B07", "B8A", "B11", "B12"), ("B11",)], ids=len)
def test_any_bands_can_be_shown(bands):
    assert area_of(pixels_of(examples_picture([frame("a", 2, bands)], "One frame")), CLASS_COLOURS[1]) > 0.001


def test_masks_in_the_colours_of_their_classes():
    image = class_image(np.array([[0, 1, 2], [3, 255, 0]], np.uint8))
    expected = [to_rgb(colour) for colour in (*CLASS_COLOURS, NO_DATA_COLOUR, CLASS_COLOURS[0])]
    np.testing.assert_allclose(image.reshape(-1, 3), expected)


def test_a_confusion_matrix_is_darkest_where_most_are():
    counts = no_counts() + np.diag([90, 80, 70, 60]) + 10
    image = pixels_of(confusion_picture(counts, "Title"))
    assert area_of(image, "white") > 0.2
    swapped = pixels_of(confusion_picture(counts[::-1], "Title"))
    assert image.shape == swapped.shape
    assert not np.array_equal(image, swapped)
    half = image.shape[1] // 2
    lower = slice(image.shape[0] // 2, None)
    assert image[lower, half:].mean() < swapped[lower, half:].mean()
    assert pixels_of(confusion_picture(no_counts(), "Nothing")).shape == image.shape


def test_curves_of_several_stores_and_of_none():
    scores = {"validation/a/cloud_f1": 0.5, "validation/b/shadow_f1": 0.25, "validation/criterion": 0.4}
    history = [{"step": 10, "loss": 1.0}, {"step": 10, **scores}, {"step": 20, "loss": 0.5}, {"step": 20, **scores}]
    picture = curves_picture(history, 20)
    assert area_of(pixels_of(picture), "#0072b2") > 0.0003
    assert pixels_of(curves_picture([{"step": 1, "loss": 0.3}], 0)).shape == pixels_of(picture).shape
