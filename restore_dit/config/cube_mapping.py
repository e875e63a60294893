"""How a family of data cubes reads: which files and variables hold what, in which units, with which classes."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from restore_dit.config.loading import build, read_yaml
from restore_dit.config.tree import Section
from restore_dit.errors import UserError
from restore_dit.series import S1_BANDS, S2_BANDS

CloudClass = Literal["clear", "thick_cloud", "thin_cloud", "shadow", "no_data"]


class Dimensions(Section):
    """Names of the dimensions, which must have coordinates: dates, and pixel centres in the unit of the CRS."""

    time: str = "time"
    x: str = "x"
    y: str = "y"


class Product(Section):
    """Files of one sensor on one grid. A value v means v · scale + offset, unless it is no data."""

    files: str = Field(description="pattern of file names, such as S2_L2A_10m_*.nc")
    scale: float = Field(1.0, description="what a stored value is multiplied by")
    offset: float = 0.0
    no_data: tuple[float, ...] = Field((), description="values that mean no data; NaN always does")
    no_data_at_or_below: float | None = Field(None, description="this value and all below mean no data")
    registration: tuple[float, float] = Field(
        (0.0, 0.0),
        description="columns and rows, in the product's own pixels, from where its coordinates say to where its "
        "content truly lies; products are brought together by it, the tile's grid stays where the finest product's "
        "coordinates say",
    )


class OpticalProduct(Product):
    """Optical bands; scale and offset lead to reflectance (1 = reflectance 1)."""

    bands: dict[str, str] = Field(description="our band name → variable")
    classification: str | None = Field(None, description="variable with the scene classification")
    resampling: Literal["bilinear", "nearest"] = Field("bilinear", description="onto a finer grid; classes: nearest")

    @field_validator("bands")
    @classmethod
    def _known(cls, bands: dict[str, str]) -> dict[str, str]:
        return _only(bands, S2_BANDS)


class RadarProduct(Product):
    """Radar bands of one track; scale and offset lead to dB or to linear power, as `unit` says."""

    track: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    bands: dict[str, str] = Field(description="VV, VH → variable")
    unit: Literal["db", "power"] = "db"

    @field_validator("bands")
    @classmethod
    def _known(cls, bands: dict[str, str]) -> dict[str, str]:
        if set(bands) != set(S1_BANDS):
            raise ValueError(f"must map {' and '.join(S1_BANDS)}")
        return bands


class CubeMapping(Section):
    """A family of cubes: one folder or group of files a site."""

    source: str = Field(description="name of the family, kept with every tile")
    tile_id: str | None = Field(
        None, description="pattern with one group that finds the tile id in a file's name; none: the folder's name"
    )
    dimensions: Dimensions = Dimensions()
    crs: str | None = Field(None, description="CRS of files that do not say it themselves, such as EPSG:32631")
    optical: tuple[OpticalProduct, ...] = Field(min_length=1)
    radar: tuple[RadarProduct, ...] = ()
    classes: dict[int, CloudClass] = Field(default={}, description="value of the scene classification → cloud class")

    @field_validator("tile_id")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"must have exactly one group, has {groups}")
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> CubeMapping:
        if any(product.classification for product in self.optical) and not self.classes:
            raise ValueError("classes: needed to read the scene classification that optical.classification names")
        return self


def _only(bands: dict[str, str], known: tuple[str, ...]) -> dict[str, str]:
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise ValueError(f"unknown band {unknown[0]}; bands are {', '.join(known)}")
    return bands


def shipped_cube_mappings() -> dict[str, Path]:
    """The mappings that come with the package, by name."""
    folder = Path(str(resources.files("restore_dit.config.mappings")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_cube_mapping(mapping: str | Path) -> CubeMapping:
    """The mapping in a YAML file, or the shipped one of that name.

    Raises:
        UserError: no such file or name, bad YAML, unknown key, bad value.
    """
    path = Path(mapping)
    if not path.is_file():
        shipped = shipped_cube_mappings()
        if str(mapping) not in shipped:
            raise UserError(f"{mapping}: no such file; shipped mappings: {', '.join(shipped)}", status=2)
        path = shipped[str(mapping)]
    return build(CubeMapping, read_yaml(path), str(path))
