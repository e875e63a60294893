"""A before-and-after picture of a reconstructed tile, from the data of a batch job."""

from __future__ import annotations

import numpy as np

from restore_dit.evaluation.figures import reconstruction_figure, to_png
from restore_dit.pictures.composites import FALSE_COLOUR, TRUE_COLOUR
from restore_dit.reconstruction.batch import Reconstructed
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE


def picture_of(done: Reconstructed) -> bytes:
    """The picture as PNG, in true and false colour as far as the bands allow."""
    bands = done.clear.optical.bands
    order = [done.cloudy.optical.bands.index(band) for band in bands]
    cloudy = done.cloudy.optical.values[:, order]
    figure = reconstruction_figure(
        np.where(cloudy == NO_DATA, np.nan, cloudy / REFLECTANCE_SCALE),
        done.clear.optical.values / REFLECTANCE_SCALE,
        done.gap_mask,
        done.clear.optical.dates,
        bands,
        composites=[one for one in (TRUE_COLOUR, FALSE_COLOUR) if one.available(bands)] or None,
        title=done.cloudy.tile_id,
    )
    return to_png(figure)
