"""Many series through the model, each written as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from restore_dit import __version__
from restore_dit.config.jobs import ReconstructionConfig, SamplingConfig
from restore_dit.data.storage import join_uri
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.rasters import write_geotiffs, write_netcdf
from restore_dit.reconstruction.reconstruct import SamplingOptions, fill_gaps, mask_dilation
from restore_dit.series import TileSeries


@dataclass(frozen=True)
class Reconstructed:
    """One series before and after; `files` are the URIs of what was written."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]
    files: list[str]


def reconstruct_all(
    model: Model,
    series: Iterator[TileSeries],
    config: ReconstructionConfig,
    on_progress: Callable[[str, int, int], None] = lambda tile, done, total: None,
) -> Iterator[Reconstructed]:
    """Fills each series and writes it below `config.output`; `on_progress` gets (tile, windows done, in all)."""
    model = model.on_device(config.sampling.use_gpu)
    options = replace(sampling_options(config.sampling), mask_dilation=config.mask_dilation)
    attributes = {
        "SOFTWARE": f"restore-dit {__version__}",
        "MODEL": config.model,
        "SEED": str(options.seed),
        "STEPS": str(options.steps or model.config.diffusion.sampling_steps),
        "MASK_DILATION": str(mask_dilation(model, options)),
    }
    for cloudy in series:

        def report(done: int, total: int, tile_id: str = cloudy.tile_id) -> None:
            on_progress(tile_id, done, total)

        clear, gap_mask = fill_gaps(model, cloudy, options, report)
        if config.format == "cog":
            files = write_geotiffs(join_uri(config.output, cloudy.tile_id), clear, gap_mask, attributes)
        else:
            files = [join_uri(config.output, f"{cloudy.tile_id}.nc")]
            write_netcdf(files[0], clear, gap_mask, attributes)
        yield Reconstructed(cloudy, clear, gap_mask, files)


def sampling_options(config: SamplingConfig) -> SamplingOptions:
    """The sampler's options of a job's configuration."""
    return SamplingOptions(config.steps, config.seed, config.precision, config.batch_size)
