"""Public cubes of several providers, through mappings alone: their numbers, dates and places are those that xarray and
GDAL read from the files themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray
from numpy.typing import NDArray
from rasterio.crs import CRS

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import plan_cubes
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.series import CLEAR, NO_DATA, S1_BANDS, SHADOW, THICK_CLOUD, THIN_CLOUD, TileSeries

TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
NINE = tuple(band for band in TEN if band != "B8A")


@dataclass(frozen=True)
class Site:
    """What a site's files hold, said once more.

    `tile` is read from `source` below the folder of sites by `mapping`. Band `B02` is variable `variable` of `file`, a
    reflectance × 10000 with `added` put onto it, where it is none of `empty`; its first pixel begins at `corner`.
    `radar`: file and variable of each band.
    """

    tile: str
    source: str
    mapping: str
    file: str
    bands: tuple[str, ...]
    variable: str
    corner: tuple[float, float]
    crs: int = 32631
    empty: tuple[int, ...] = (65535,)
    added: int = 0
    axes: tuple[str, str, str] = ("t", "y", "x")
    radar: tuple[str, str] | None = None

    def name(self, band: str) -> str:
        return self.variable.format(band=band, short=band.replace("B0", "B"))


flux = partial(Site, mapping="sits_utils", bands=TEN, variable="{band}", crs=3035, empty=(0,), added=1000)
flux = partial(flux, axes=("time", "y", "x"))
gfmap = partial(Site, mapping="gfmap", variable="S2-L2A-{band}", empty=(0, 65535))
months = partial(Site, source="hesbaye_months", bands=NINE)
months = partial(months, mapping=str(Path(__file__).parent / "mappings" / "worldcereal_months.yaml"))
minicube = partial(Site, mapping="minicube", bands=("B02", "B03", "B04", "B8A"), variable="s2_{band}", crs=4326)
minicube = partial(minicube, axes=("time", "lat", "lon"))

BELGE = ("hesbaye_months/belgium_good_2020-08-01_2022-03-31", "hesbaye_months/belgium_good_2020-12-01_2021-11-30")
HESBAYE, TERVUREN = "hesbaye_months/worldcereal_preprocessed_inputs.nc", "tervuren_dekads/inference_area_tevuren.nc"
PORTUGAL, SWEDEN = "JAS2021_0_29SND_39.29_-8.56_s2only", "MJJ2021_241_34VCL_59.04_17.96_s2only"
SITES = (
    flux("BE_Lcr", "flux_BE-Lcr", file="flux_BE-Lcr/S2_fid-BE_Lcr_image_2023-01-2023-12.nc", corner=(3890860, 3129400)),
    flux("DE-Hai", "flux_DE-Hai", file="flux_DE-Hai/S2_fid-DE-Hai_image_2023-01-2023-12.nc", corner=(4352600, 3107750)),
    gfmap(
        *("gfmap_flanders", "gfmap_flanders"),
        file="gfmap_flanders/cdse_sentinel2_l2a.nc",
        bands=("B01", "B04", "B08", "B11"),
        corner=(643260, 5676480),
        radar=("gfmap_flanders/cdse_sentinel1_grd.nc", "S1-SIGMA0-{band}"),
    ),
    gfmap(
        *("gfmap_antwerp", "gfmap_antwerp"),
        file="gfmap_antwerp/test_optical_cube.nc",
        bands=("B02", "B03", "B04", "B08"),
        corner=(587880, 5685430),
    ),
    gfmap(
        *("tervuren_dekads", "tervuren_dekads"),
        file=TERVUREN,
        bands=TEN,
        corner=(609430, 5630450),
        radar=(TERVUREN, "S1-SIGMA0-{band}"),
    ),
    gfmap(
        *("worldcereal_preprocessed_inputs", HESBAYE),
        file=HESBAYE,
        bands=NINE,
        corner=(664000, 5612120),
        radar=(HESBAYE, "S1-SIGMA0-{band}"),
    ),
    months(
        BELGE[0].partition("/")[2],
        file=f"{BELGE[0]}.nc",
        variable="{short}",
        corner=(664500, 5612650),
        radar=(f"{BELGE[0]}.nc", "{band}"),
    ),
    months(
        BELGE[1].partition("/")[2],
        file=f"{BELGE[1]}.nc",
        variable="{band}",
        corner=(664500, 5612640),
        radar=(f"{BELGE[1]}.nc", "{band}"),
    ),
    minicube(PORTUGAL, "minicube_portugal", file=f"minicube_portugal/{PORTUGAL}.nc", corner=(-8.57502953, 39.30168003)),
    minicube(SWEDEN, "minicube_sweden", file=f"minicube_sweden/{SWEDEN}.nc", corner=(17.93656107, 59.05208154)),
)
EVERY = pytest.mark.parametrize("site", SITES, ids=[site.tile for site in SITES])


@pytest.fixture(scope="module")
def ingested(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TileSeries]:
    """Every site, as a store has it."""
    found = {}
    for source, mapping in dict.fromkeys((site.source, site.mapping) for site in SITES):
        folder = tmp_path_factory.mktemp("store")
        manifest = run(plan_cubes(shared / "data" / "sites" / source, folder, load_cube_mapping(mapping))).committed
        assert manifest.quarantined == {}
        store = TileStore.open(folder)
        found |= {tile: store.load(tile).series() for tile in store.tile_ids}
    return found


def raw(shared: Path, file: str) -> xarray.Dataset:
    """A file's numbers as they are stored, its dates decoded."""
    return xarray.open_dataset(shared / "data" / "sites" / file, mask_and_scale=False, decode_coords=False)


def unsigned(stored: NDArray[np.integer]) -> NDArray[np.int64]:
    """All of these files hold 16 bits without a sign, as some of them say by `_Unsigned`."""
    return stored.view(np.uint16).astype(np.int64)


@EVERY
def test_every_pixel_and_date(site: Site, ingested: dict[str, TileSeries], shared: Path) -> None:
    series = ingested[site.tile]
    assert series.optical.bands == site.bands
    with raw(shared, site.file) as file:
        dates = file[site.axes[0]].values.astype("datetime64[D]")
        stored = np.stack([unsigned(file[site.name(band)].values) for band in site.bands], axis=1)
    empty = np.isin(stored, site.empty)
    expected = np.where(empty, NO_DATA, stored - site.added)
    seen = ~empty.all(axis=(1, 2, 3))
    np.testing.assert_array_equal(series.optical.dates, dates[seen])
    held = expected[seen] <= np.iinfo(np.int16).max  # saturated cloud may be brighter
    np.testing.assert_array_equal(series.optical.values[held], expected[seen][held])
    assert held.mean() > 0.997


@EVERY
def test_the_place(site: Site, ingested: dict[str, TileSeries], shared: Path) -> None:
    series = ingested[site.tile]
    assert series.georeference is not None
    assert CRS.from_user_input(series.georeference.crs).to_epsg() == site.crs
    right, _, left, _, down, top = series.georeference.transform
    assert (left, top) == pytest.approx(site.corner, abs=2e-8)
    path = shared / "data" / "sites" / site.file
    with rasterio.open(f"netcdf:{path}:{site.name(site.bands[0])}") as file:
        assert series.size == file.shape
        assert (right, down, left, top) == pytest.approx(
            (file.transform.a, file.transform.e, file.transform.c, file.transform.f), abs=2e-8
        )


@pytest.mark.parametrize("site", [site for site in SITES if site.radar], ids=lambda site: site.tile)
def test_the_radar(site: Site, ingested: dict[str, TileSeries], shared: Path) -> None:
    """dB = 20·log10(v) − 83."""
    assert site.radar is not None
    name, variable = site.radar
    (series,) = ingested[site.tile].radar.values()
    with raw(shared, name) as file:
        dates = file["t"].values.astype("datetime64[D]")
        stored = np.stack([file[variable.format(band=band)].values for band in S1_BANDS], axis=1)
    np.testing.assert_array_equal(series.dates, dates)
    known = series.values != NO_DATA
    assert known[stored > 0].all()
    decibel = 20 * np.log10(unsigned(stored)[known]) - 83
    assert np.abs(series.values[known] - 100 * decibel).max() <= 0.51
    assert -25 < np.median(decibel) < -8


def test_sites_without_radar_or_masks_have_none(ingested: dict[str, TileSeries]) -> None:
    assert {site.tile for site in SITES if not ingested[site.tile].radar} == {
        *("BE_Lcr", "DE-Hai", "gfmap_antwerp", PORTUGAL, SWEDEN)
    }
    assert {site.tile for site in SITES if ingested[site.tile].clouds is None} == {
        *("tervuren_dekads", "worldcereal_preprocessed_inputs"),
        *(name.partition("/")[2] for name in BELGE),
    }


@pytest.mark.parametrize(
    ("tile", "variable", "clear"),
    [
        ("BE_Lcr", "SCL", (2, 4, 5, 6, 7)),
        ("gfmap_flanders", "S2-L2A-SCL", (2, 4, 5, 6, 7)),
        ("gfmap_antwerp", "S2-L2A-SCL", (2, 4, 5, 6, 7)),
        (PORTUGAL, "s2_dlmask", (0,)),
        (SWEDEN, "s2_dlmask", (0,)),
    ],
)
def test_the_masks(
    tile: str, variable: str, clear: tuple[int, ...], ingested: dict[str, TileSeries], shared: Path
) -> None:
    series = ingested[tile]
    site = next(site for site in SITES if site.tile == tile)
    assert series.clouds is not None
    with raw(shared, site.file) as file:
        seen = np.isin(file[site.axes[0]].values.astype("datetime64[D]"), series.optical.dates)
        expected = np.isin(file[variable].values[seen], clear) & ~(series.optical.values == NO_DATA).all(axis=1)
    np.testing.assert_array_equal(series.clouds == 0, expected)


@pytest.mark.parametrize("tile", [PORTUGAL, SWEDEN])
def test_the_clouds_of_minicubes_are_bright_and_their_shadows_dark(tile: str, ingested: dict[str, TileSeries]) -> None:
    """The files do not say what their classes mean."""
    series = ingested[tile]
    assert series.clouds is not None
    blue, near = (np.ma.masked_equal(series.optical.values[:, channel], NO_DATA) for channel in (0, 3))
    clear, thick, thin, shadow = (series.clouds == value for value in (CLEAR, THICK_CLOUD, THIN_CLOUD, SHADOW))
    assert np.ma.median(blue[thick]) > 4 * np.ma.median(blue[thin])
    assert np.ma.median(blue[thin]) > 2 * np.ma.median(blue[clear])
    assert np.ma.median(near[shadow]) < 0.95 * np.ma.median(near[clear])
