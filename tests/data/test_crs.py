"""A reference system says itself what it is; what names a file or an address is none."""

from __future__ import annotations

import pytest
from rasterio.crs import CRS
from rasterio.errors import CRSError

from restore_dit.data.crs import crs_from_parameters, crs_from_text

UTM = CRS.from_epsg(32631)


@pytest.mark.parametrize(
    "text",
    [
        "EPSG:32631",
        "32631",
        "epsg:32631",
        "urn:ogc:def:crs:EPSG::32631",
        UTM.to_wkt(),
        UTM.to_wkt(version="WKT2_2019"),
        "+proj=utm +zone=31 +datum=WGS84 +units=m +no_defs",
        "+init=epsg:32631",
    ],
)
def test_what_says_what_it_is(text):
    assert crs_from_text(text).to_epsg() == 32631


def test_web_mercator_whose_wkt_speaks_of_no_grids():
    wkt = CRS.from_epsg(3857).to_wkt()
    assert "nadgrids=@null" in wkt
    assert crs_from_text(wkt).to_epsg() == 3857


@pytest.mark.parametrize("form", ["{}", "ESRI::{}", "+init={}:foo", "+proj=longlat +nadgrids={}", "PROJCS[{}", "x{}"])
def test_what_names_a_file_is_not_opened(tmp_path, form):
    """A file that would be one."""
    place = tmp_path / "utm.wkt"
    place.write_text(UTM.to_wkt() if "init" not in form else "<foo> +proj=utm +zone=31 <>")
    with pytest.raises(CRSError):
        crs_from_text(form.format(place))


@pytest.mark.parametrize("text", ["", "http://127.0.0.1:9/x", "ESRI::http://127.0.0.1:9/x", "/etc/passwd", "utm"])
def test_what_is_none(text):
    with pytest.raises(CRSError):
        crs_from_text(text)


@pytest.mark.parametrize(
    "key",
    ["crs_wkt", "spatial_ref", "geographic_crs_name", "horizontal_datum_name", "reference_ellipsoid_name", "towgs84"],
)
def test_parameters_that_name_a_file_open_none(tmp_path, key):
    """Kyiv's zone in a file; UTM by the numbers beside its name."""
    place = tmp_path / "utm.wkt"
    place.write_text(CRS.from_epsg(32636).to_wkt())
    parameters = {
        "grid_mapping_name": "transverse_mercator",
        "longitude_of_central_meridian": 3.0,
        "latitude_of_projection_origin": 0.0,
        "scale_factor_at_central_meridian": 0.9996,
        "false_easting": 500000.0,
        "false_northing": 0.0,
        "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257223563,
        key: str(place),
    }
    assert '"central_meridian",3]' in crs_from_parameters(parameters).to_wkt()


def test_parameters_that_make_no_system():
    with pytest.raises(CRSError):
        crs_from_parameters({"grid_mapping_name": "utm.wkt"})
