"""What the benchmark of suspect pixels takes out of masks, and what it calls abrupt."""

from __future__ import annotations

import numpy as np

from benchmarks.suspects import abrupt_change, without_pieces
from restore_dit.series import CLOUD_NO_DATA, SHADOW, THICK_CLOUD, Acquisitions, TileSeries


def test_whole_pieces_are_taken_out_and_what_lacks_data_stays():
    clouds = np.zeros((300, 12, 12), np.uint8)
    clouds[:, 1:4, 1:4], clouds[:, 7:10, 2:9], clouds[:, :, 11] = THICK_CLOUD, SHADOW, CLOUD_NO_DATA
    missed = without_pieces(clouds, np.random.default_rng(0))
    np.testing.assert_array_equal(missed[:, :, 11], clouds[:, :, 11])
    shares = []
    for piece in (np.s_[:, 1:4, 1:4], np.s_[:, 7:10, 2:9]):
        gone = (missed[piece] == 0).all(axis=(1, 2))
        np.testing.assert_array_equal(missed[piece][~gone], clouds[piece][~gone])
        shares.append(gone.mean())
    assert np.abs(np.array(shares) - 0.1).max() < 0.05


def test_a_harvest_is_abrupt_on_the_dates_around_it_alone():
    values = np.zeros((5, 2, 1, 2), np.int16)
    values[:, 0], values[:, 1] = 400, 4000
    values[3:, :, 0, 1] = [1500, 2400]
    ground = TileSeries("one", Acquisitions(values, np.datetime64("2019-06-01") + np.arange(5), ("B04", "B08")))
    clear = np.ones((5, 1, 2), bool)
    clear[2] = False
    assert abrupt_change(ground, clear)[:, 0].tolist() == [
        [False, False], [False, True], [False, True], [False, True], [False, False]
    ]  # fmt: skip
