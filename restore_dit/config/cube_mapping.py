"""How a family of data cubes is read: which files and variables hold what, in which units and classes."""

from __future__ import annotations

import datetime
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from restore_dit.config.examples import Section
from restore_dit.config.loading import build, read_yaml
from restore_dit.errors import UserError
from restore_dit.series import S1_BANDS, S2_ALL_BANDS

TrackName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

CloudClass = Literal["clear", "thick_cloud", "thin_cloud", "shadow", "no_data"]


class Dimensions(Section):
    """Names of the dimensions, which must have coordinates: dates, and pixel centres in units of the CRS. `band`
    applies where one variable has a product's bands along a dimension."""

    time: str = Field("time", description="dimension of the dates")
    x: str = Field("x", description="dimension of the columns")
    y: str = Field("y", description="dimension of the rows")
    band: str = Field("band", description="dimension of the bands, for variables that have all of them")


class Product(Section):
    """Files of one sensor on one grid. The physical value is stored · scale + offset, except for no-data values."""

    files: str = Field(description="pattern of file names, such as S2_L2A_10m_*.nc")
    variable: str | None = Field(
        None,
        description="pattern of the one variable that has all bands along a dimension; if unset, one variable per band",
    )
    date: str | None = Field(
        None, description="GeoTIFF: regular expression with one group that captures the acquisition date in a file name"
    )
    date_format: str | None = Field(
        None,
        description="GeoTIFF: strptime format of what `date` captures, such as '%d-%m-%Y'; if unset, inferred where "
        "only one order is possible",
    )
    band: str | None = Field(
        None,
        description="GeoTIFF: regular expression with one group that captures the band in a file name; if unset, a "
        "file has several bands",
    )
    optional: bool = Field(
        False,
        description="files may lack any of the variables; a file without any band does not belong to this product",
    )
    packed: bool = Field(False, description="apply the file's own scale_factor and add_offset first")
    scale: float = Field(1.0, description="factor applied to stored values")
    offset: float = 0.0
    no_data: tuple[float, ...] = Field((), description="stored values that mean no data; NaN and _FillValue always do")
    no_data_at_or_below: float | None = Field(None, description="stored values at or below this mean no data")
    registration: tuple[float, float] = Field(
        (0.0, 0.0),
        description="shift (columns, rows), in the product's own pixels, from where its coordinates place it to "
        "where its content really lies; aligns the products, while the tile's grid keeps the "
        "coordinates of the finest product",
    )

    @field_validator("date", "band")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        return _pattern_with_one_group(pattern)

    @field_validator("date_format")
    @classmethod
    def _complete_date(cls, date_format: str | None) -> str | None:
        if date_format is not None:
            any_day = datetime.datetime(2019, 12, 31, tzinfo=datetime.UTC)
            try:
                read = datetime.datetime.strptime(any_day.strftime(date_format), date_format)
            except ValueError as error:
                raise ValueError(f"not a valid strptime format: {error}") from None
            if read.date() != any_day.date():
                raise ValueError("must contain year, month and day, or year and day of the year (%j)")
        return date_format


class OffsetChange(Section):
    """A different offset for acquisitions from a date or a processing baseline onwards. If both are given, the baseline
    decides where the file states it, otherwise the date."""

    offset: float
    since: datetime.date | None = None
    since_baseline: float | None = None

    @field_validator("since_baseline", mode="before")
    @classmethod
    def _number(cls, baseline: object) -> float | None:
        return None if baseline is None else baseline_number(baseline)

    @model_validator(mode="after")
    def _conditional(self) -> OffsetChange:
        if self.since is None and self.since_baseline is None:
            raise ValueError("needs since (a date), since_baseline, or both")
        return self


def baseline_number(text: object) -> float:
    """A processing baseline as a number: 5.09 for "05.09", "N0509", "0509" or 5.09.

    Raises:
        ValueError: the text has none of these forms.
    """
    found = re.fullmatch(r"N?(\d{2})\.?(\d{2})|(\d{1,2}(?:\.\d+)?)", str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is not a processing baseline such as '05.09'")
    return float(f"{found[1]}.{found[2]}" if found[1] else found[3])


class CloudProbability(Section):
    """Cloud probability or mask from s2cloudless, used after `detect-clouds --method s2cloudless`."""

    variable: str = Field(description="variable, or label along the band dimension")
    cloud_from: float = Field(
        description="minimum stored value for a pixel to be cloud, such as 40 (percent), or 1 for a mask"
    )
    no_data: tuple[float, ...] = Field(
        (), description="stored values that mean no data, in addition to the product's own"
    )


class OpticalProduct(Product):
    """Optical bands. Scale and offset convert to reflectance (1 = reflectance 1)."""

    bands: dict[str, str] = Field(
        description="our band name → variable, or label along the band dimension; empty for files that only hold masks"
    )
    classification: str | None = Field(None, description="variable or label of the scene classification")
    cloud_probability: CloudProbability | None = None
    resampling: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="resampling to a finer grid; classes always use nearest"
    )
    offsets: tuple[OffsetChange, ...] = Field((), description="the last entry whose condition holds replaces `offset`")
    baseline: str | None = Field(None, description="variable or attribute with the processing baseline")

    @field_validator("bands", mode="before")
    @classmethod
    def _known(cls, bands: dict[str, object]) -> dict[str, str]:
        return _only(bands, S2_ALL_BANDS)

    @model_validator(mode="after")
    def _baseline_known(self) -> OpticalProduct:
        if any(change.since_baseline is not None for change in self.offsets) and self.baseline is None:
            raise ValueError("baseline: name the variable that offsets.since_baseline is compared with")
        return self


class TrackVariable(Section):
    """Acquisitions of several orbits in one file, distinguished by a variable along time."""

    variable: str = Field(description="such as sat:orbit_state or sat:relative_orbit")
    names: dict[str, TrackName] = Field(
        default={}, description="value of the variable → track; if empty, each value becomes a track, S1-<value>"
    )

    @field_validator("names", mode="before")
    @classmethod
    def _as_text(cls, names: dict[object, object]) -> dict[str, object]:
        return {str(value): track for value, track in names.items()} if isinstance(names, dict) else names


class RadarProduct(Product):
    """Radar bands of one or several tracks. Scale and offset convert to `unit`."""

    track: TrackName | TrackVariable
    bands: dict[str, str] = Field(description="VV, VH → variable, or label along the band dimension")
    unit: Literal["db", "power", "amplitude"] = Field(
        "db", description="dB, linear power, or amplitude (the square root of power)"
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _known(cls, bands: dict[str, object]) -> dict[str, str]:
        if set(bands) != set(S1_BANDS):
            raise ValueError(f"must map {' and '.join(S1_BANDS)}")
        return _only(bands, S1_BANDS)


class CubeMapping(Section):
    """Mapping of a family of cubes, with one folder or group of files per site."""

    source: str = Field(description="name of the family, stored with every tile")
    tile_id: str | None = Field(
        None,
        description="regular expression with one group that captures the tile id in a file name; if unset, the "
        "folder's name",
    )
    dimensions: Dimensions = Dimensions()
    crs: str | None = Field(None, description="CRS of files that do not specify it, such as EPSG:32631")
    optical: tuple[OpticalProduct, ...] = Field(
        min_length=1, description="files with optical bands, and how they are read"
    )
    radar: tuple[RadarProduct, ...] = Field((), description="files with radar bands, and how they are read")
    classes: dict[int, CloudClass] = Field(
        default={}, description="every value of the scene classification → its class"
    )

    @field_validator("tile_id")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        return _pattern_with_one_group(pattern)

    @model_validator(mode="after")
    def _consistent(self) -> CubeMapping:
        if any(product.classification for product in self.optical) and not self.classes:
            raise ValueError("classes: required to read the scene classification named by optical.classification")
        return self


def _pattern_with_one_group(pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"must have exactly one group, has {groups}")
    return pattern


def _only(bands: dict[str, object], known: tuple[str, ...]) -> dict[str, str]:
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise ValueError(f"unknown band {unknown[0]}; bands are {', '.join(known)}")
    return {band: str(label) for band, label in bands.items()}  # labels may be numbers


def shipped_cube_mappings() -> dict[str, Path]:
    """The mappings that come with the package, by name."""
    folder = Path(str(resources.files("restore_dit.config.mappings")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_cube_mapping(mapping: str | Path) -> CubeMapping:
    """The mapping from a YAML file, or the shipped one of that name.

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
