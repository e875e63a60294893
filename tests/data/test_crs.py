"""A reference system says itself what it is; what names a file or an address is none."""

from __future__ import annotations

import pytest
from rasterio.crs import CRS
from rasterio.errors import CRSError

from restore_dit.data.crs import crs_from_text

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
