"""RESTORE-DiT: gap-free Sentinel-2 series from what is visible, the radar series and the dates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restore_dit.threads import settle

if TYPE_CHECKING:
    import xarray

__version__ = "0.1.0"

settle()  # before anything loads PyTorch


def fill(dataset: xarray.Dataset, model: Any, *, mask: str | None = None, **options: Any) -> xarray.Dataset:
    """A Sentinel-2 series without its gaps, in this process.

    Args:
        dataset: dimensions time, y, x; a variable a band (`B02`, …), as reflectance with NaN where it is missing, or
            as integers of reflectance × 10000 (or with `scale_factor`, `add_offset` and `_FillValue` among its
            attributes); dates that ascend. What more there is to go by: `clouds` (0 clear, 1 thick, 2 thin, 3 shadow,
            255 no data) or `gap_mask` (true: missing) over the same dimensions; radar in dB as `S1A_VV`, `S1A_VH` over
            `S1A_time`, y, x, and `S1D_…` of the descending track; coordinates and CRS as rioxarray writes them.
        model: a model directory, or a loaded `Model`.
        mask: another variable that is true where a pixel is missing, in place of `clouds` and `gap_mask`.
        options: of `SamplingOptions`, such as `mask_dilation`, `steps`, `seed`.

    Returns:
        the same dataset with the gaps of its bands filled and every observed value as it was; besides, `gap_mask`
        (what was filled), `never_observed` (on no date at all), `uncertainty` (band, time, y, x: the standard deviation
        of what was filled, in reflectance; of models that know it) and attributes that say how it was made.

    Raises:
        UserError: no band, too few for the model, other dimensions, nothing observed at all.
    """
    from restore_dit.filling import fill as filled

    return filled(dataset, model, mask=mask, **options)
