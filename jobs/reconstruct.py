"""Reconstruction as a job: `python -m jobs.reconstruct --config F key=value`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from jobs.entry import job_main, require
from restore_dit.config.jobs import ReconstructionConfig
from restore_dit.config.loading import load_section
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, TileSeries


def run(config: ReconstructionConfig, display: Console) -> int:
    """Reconstructs every series of the input and says where the results are."""
    from restore_dit.data.storage import join_uri
    from restore_dit.evaluation.figures import reconstruction_figure, save_figure
    from restore_dit.pictures.composites import FALSE_COLOUR, TRUE_COLOUR
    from restore_dit.reconstruction.batch import reconstruct_all
    from restore_dit.reconstruction.model_directory import load_model

    require(config, "model", "input", "output")
    model = load_model(config.model)

    def on_progress(tile_id: str, done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            display.print(f"{tile_id}: window {done} of {total}", highlight=False)

    for result in reconstruct_all(model, series_of(config), config, on_progress):
        tile_id, bands = result.cloudy.tile_id, result.clear.optical.bands
        if config.figures:
            composites = [c for c in (TRUE_COLOUR, FALSE_COLOUR) if c.available(bands)] or None
            picture = join_uri(config.output, f"{tile_id}.png")
            order = [result.cloudy.optical.bands.index(band) for band in bands]
            cloudy = result.cloudy.optical.values[:, order]
            figure = reconstruction_figure(
                np.where(cloudy == NO_DATA, np.nan, cloudy / REFLECTANCE_SCALE),
                result.clear.optical.values / REFLECTANCE_SCALE,
                result.gap_mask,
                result.clear.optical.dates,
                bands,
                composites=composites,
                title=tile_id,
            )
            save_figure(figure, picture)
        display.print(
            f"{tile_id}: {len(result.clear.optical)} dates, {result.gap_mask.mean():.0%} of pixels reconstructed",
            highlight=False,
        )
    display.print(f"results: {config.output}", soft_wrap=True, highlight=False)
    return 0


def series_of(config: ReconstructionConfig) -> Iterator[TileSeries]:
    """The series of a tile store, or of a data cube's folder."""
    from restore_dit.config.cube_mapping import load_cube_mapping
    from restore_dit.data.cubes.site_series import read_cube
    from restore_dit.data.storage import exists, join_uri
    from restore_dit.data.store.manifest import MANIFEST_NAME
    from restore_dit.data.store.tile_store import TileStore

    if not exists(join_uri(config.input, MANIFEST_NAME)):
        yield read_cube(config.input, load_cube_mapping(config.mapping))
        return
    store = TileStore.open(config.input)
    for tile_id in config.tiles or store.tile_ids:
        yield store.load(tile_id).series()


def main(argv: list[str] | None = None) -> int:
    """Entry point."""

    def read(path: str | None, overrides: list[str]) -> ReconstructionConfig:
        return load_section(ReconstructionConfig, overrides, Path(path) if path else None)

    return job_main("reconstruct", "Fills gaps; the same configuration as `restore-dit reconstruct`.", read, run, argv)


if __name__ == "__main__":
    sys.exit(main())
