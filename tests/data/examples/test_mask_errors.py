"""Missed pieces of masks: which may vanish, how what is seen there differs from the target, and what stays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from restore_dit.config import DataConfig, GapConfig, MaskErrorConfig, RadarConfig, TargetConfig
from restore_dit.data.examples.batch import to_batch
from restore_dit.data.examples.gaps import STRONGEST, missed_pieces
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.data.examples.plan import PlannedExample
from restore_dit.data.store.stored_tile import StoredTile
from restore_dit.data.store.tile_store import TileStore
from restore_dit.series import S2_BANDS, SHADOW, THICK_CLOUD, THIN_CLOUD


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 50))
def test_only_whole_pieces_of_thin_cloud_and_shadow_are_missed(thin: float, shadow: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    blobs = ndimage.uniform_filter(random.random((4, 20, 20)), (0, 5, 5))
    masks = np.digitize(blobs, np.quantile(blobs, (0.4, 0.6, 0.8))).astype(np.uint8)
    veil = missed_pieces(masks, MaskErrorConfig(missed_thin_cloud=thin, missed_shadow=shadow), random)
    assert not veil[(masks != THIN_CLOUD) & (masks != SHADOW)].any()
    assert (veil[masks == THIN_CLOUD] >= 0).all()
    assert (veil[masks == SHADOW] <= 0).all()
    for kind in (THIN_CLOUD, SHADOW):
        for mask, of_frame in zip(masks, veil, strict=True):
            pieces, count = ndimage.label(mask == kind)
            for piece in range(1, count + 1):
                assert len(np.unique(of_frame[pieces == piece] != 0)) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_or_all_of_a_kind(share: float) -> None:
    masks = np.random.default_rng(0).choice(np.array([0, 1, 2, 3, 255], np.uint8), (3, 30, 30))
    veil = missed_pieces(masks, MaskErrorConfig(missed_thin_cloud=share), np.random.default_rng(1))
    np.testing.assert_array_equal(veil != 0, (masks == THIN_CLOUD) & bool(share))


@pytest.fixture(scope="module")
def tile(small_store: TileStore) -> StoredTile:
    """That with the most thin cloud and shadow."""
    counts = {name: record.clouds for name, record in small_store.manifest.tiles.items() if record.clouds}
    return small_store.load(max(counts, key=lambda name: counts[name].pixels["thin_cloud"]))


def example(tile: StoredTile, gaps: GapConfig, part: str = "train", draw: int = 0) -> dict[str, np.ndarray]:
    """A batch of one example of the whole tile, mirrored and transposed as it falls out."""
    config = DataConfig(
        frames=8, targets=TargetConfig(most_hidden=0.1), gaps=gaps, flips=True, radar=RadarConfig(frames=3)
    )
    maker = ExampleMaker(config, S2_BANDS, seed=3)
    if part == "validation":
        return maker.validation(tile, draw)
    return maker.training([tile], [PlannedExample(0, tile.tile_id, draw, 1.0)])


ALL = MaskErrorConfig(missed_thin_cloud=1.0, missed_shadow=1.0)
NONE = GapConfig(mask_flips=True, frame_dropout=0.2)


def test_missed_pieces_are_shown_and_nothing_else_changes(tile: StoredTile) -> None:
    seen = 0
    for draw in range(6):
        whole = example(tile, NONE, draw=draw)
        corrupted = example(tile, NONE.model_copy(update={"errors": ALL}), draw=draw)
        veil = corrupted.pop("veil")
        gap_mask = corrupted.pop("gap_mask")
        missed = whole.pop("gap_mask") & ~gap_mask
        np.testing.assert_array_equal(missed, veil != 0)
        assert corrupted["valid"][missed].all()
        assert corrupted.keys() == whole.keys()
        for name, values in whole.items():
            np.testing.assert_array_equal(corrupted[name], values, err_msg=name)
        seen += int(missed.sum())
    assert seen > 100


def test_thick_cloud_and_whole_frames_are_never_missed(tile: StoredTile) -> None:
    clouds = tile.series().clouds
    assert clouds is not None
    hidden = example(tile, GapConfig(frame_dropout=1.0, errors=ALL))
    assert hidden["gap_mask"].all()
    assert not hidden["veil"].any()
    # Without its own place every gap lies where some date of the tile has thick cloud or no data.
    gaps = example(tile, GapConfig(errors=ALL))["gap_mask"][0, :, 0]
    assert not gaps[:, ~np.isin(clouds, (THICK_CLOUD, 255)).any(axis=0)].any()


def test_a_validation_has_masks_as_they_are(tile: StoredTile) -> None:
    with_errors = example(tile, NONE.model_copy(update={"errors": ALL}), "validation")
    assert not with_errors.pop("veil").any()
    for name, values in example(tile, NONE, "validation").items():
        np.testing.assert_array_equal(with_errors[name], values, err_msg=name)


def test_the_network_sees_brighter_ground_under_missed_cloud_and_darker_in_missed_shadow(tile: StoredTile) -> None:
    columns = example(tile, NONE.model_copy(update={"errors": ALL}), draw=1)
    batch = to_batch(columns, Normalisation())
    observed, veil = batch.conditioning.observed, torch.from_numpy(columns["veil"])
    assert observed is not None
    assert batch.veiled is not None
    torch.testing.assert_close(batch.veiled, veil != 0)
    excess = observed - batch.target
    assert (excess * (veil == 0) == 0).all()
    dark = batch.target < 0.2  # darker than the cloud that is mixed in
    assert ((excess > 0) | (veil <= 0) | ~dark).all()
    assert ((excess < 0) | (veil >= 0) | (batch.target == -1)).all()
    assert observed.min() >= -1
    frame, row, column = (int(index) for index in (veil[0, :, 0] > 0).nonzero()[0])
    share = float(veil[0, frame, 0, row, column]) / STRONGEST
    clear = (batch.target[0, frame, :, row, column] + 1) * 0.4  # reflectance
    torch.testing.assert_close(
        (observed[0, frame, :, row, column] + 1) * 0.4, clear + share * (0.5 - clear), atol=1e-5, rtol=0
    )


def test_without_errors_there_is_no_veil(tile: StoredTile) -> None:
    columns = example(tile, NONE)
    assert "veil" not in columns
    batch = to_batch(columns, Normalisation())
    assert batch.veiled is None
    assert batch.conditioning.observed is batch.target


def test_widened_masks_hide_more_and_show_no_other_pixel(tile: StoredTile) -> None:
    more = 0
    for draw in range(6):
        narrow = example(tile, NONE, draw=draw)
        wide = example(tile, NONE.model_copy(update={"dilation": 2}), draw=draw)
        assert (wide["gap_mask"] | ~narrow["gap_mask"]).all()
        assert (narrow["valid"] | ~wide["valid"]).all()
        more += int(wide["gap_mask"].sum()) - int(narrow["gap_mask"].sum())
        assert (wide["gap_mask"] | wide["valid"]).all()
        np.testing.assert_array_equal(narrow["optical"], wide["optical"])
    assert more > 0


def test_a_pieces_place_does_not_depend_on_what_else_is_drawn(tile: StoredTile) -> None:
    """Of two shares the greater misses what the lesser does: each piece has its own lot."""
    few, many = (
        example(tile, NONE.model_copy(update={"errors": MaskErrorConfig(missed_thin_cloud=share)}))["veil"] != 0
        for share in (0.3, 0.8)
    )
    assert (many | ~few).all()
