"""Series after series, with the options of the job."""

from pathlib import Path

import numpy as np
import rasterio

from restore_dit.config.jobs import ReconstructionConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.reconstruction.batch import reconstruct_all
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.reconstruct import SamplingOptions, fill_gaps


def test_masks_are_widened_as_the_job_says_and_the_files_say_so(small_model: Model, tmp_path: Path) -> None:
    series = simulate_tile(SimulationConfig(height=22, width=37, days=60, partial_swath=0.2), 5, 0)
    config = ReconstructionConfig(output=str(tmp_path), mask_dilation=2)
    (done,) = reconstruct_all(small_model, iter([series]), config)
    expected = fill_gaps(small_model, series, SamplingOptions(mask_dilation=2))[1]
    np.testing.assert_array_equal(done.gap_mask, expected)
    assert done.gap_mask.sum() > series.missing().sum()
    with rasterio.open(done.files[0]) as file:
        assert file.tags()["MASK_DILATION"] == "2"
