"""What attributes say of stored values: fill values of every kind, unsigned integers, valid ranges."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
import pytest
from numpy.typing import NDArray

from restore_dit.data.cubes.cf_values import scale_and_offset, stored_numbers
from restore_dit.errors import UserError


def known(values: NDArray[Any], **attributes: Any) -> list[float | None]:
    """The numbers, None where there is no data."""
    numbers, missing = stored_numbers(values, attributes, "file.nc: red")
    return [None if gone else number for number, gone in zip(numbers.tolist(), missing.tolist(), strict=True)]


@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_was_never_written_is_no_data(kind: str) -> None:
    values = np.array([netCDF4.default_fillvals[kind], 1000], kind)
    assert known(values) == [None, 1000]
    assert known(values.astype(values.dtype.newbyteorder(">"))) == [None, 1000]
    assert known(values, _FillValue=np.array(0, kind))[0] is not None  # then another value marks it


@pytest.mark.parametrize("kind", ["i1", "u1"])
def test_every_value_of_a_byte_may_be_meant(kind: str) -> None:
    assert None not in known(np.array([netCDF4.default_fillvals[kind], 4], kind))


@pytest.mark.parametrize(
    ("stored", "stated"),
    [
        ("f4", np.float64(1e20)),
        ("f8", np.float32(1e20)),
        ("f4", np.float64(-3.4028234663852886e38)),
        ("f4", np.float64(-0.1)),
        ("f4", np.int32(-9999)),
        ("i2", np.float64(-9999)),
        ("i2", "-9999"),
        ("f4", [np.float64(1e20), np.float64(-1.0)]),
        ("f4", np.array([-1.0, 1e20])),
    ],
)
@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "nodata"])
def test_a_fill_value_of_another_type_is_no_data(stored: str, stated: Any, name: str) -> None:
    for fill in np.ravel(stated).astype(np.float64):
        assert known(np.array([fill, 0.5 if stored[0] == "f" else 7], stored), **{name: stated})[0] is None
    assert known(np.array([7], stored), **{name: stated}) == [7]


def test_a_fill_value_that_the_type_does_not_hold_hides_nothing() -> None:
    assert known(np.array([55537, 1], np.uint16), _FillValue=np.int16(-9999)) == [55537, 1]


@pytest.mark.parametrize("fill", [np.int16(-1), np.uint16(65535), np.int32(65535), np.float64(65535), -1])
def test_shorts_are_unsigned_where_they_say_so(fill: Any) -> None:
    values = np.array([-25536, -1, 1000], np.int16)
    assert known(values, _Unsigned="true", _FillValue=fill) == [40000, None, 1000]
    assert known(values, _Unsigned="true", _FillValue=np.int16(0)) == [40000, 65535, 1000]
    assert known(values, _FillValue=np.int16(-1)) == [-25536, None, 1000]


def test_bytes_are_unsigned_or_signed_where_they_say_so() -> None:
    assert known(np.array([-1, -56, 4], np.int8), _Unsigned="true", _FillValue=np.int8(-1)) == [None, 200, 4]
    assert known(np.array([255, 4], np.uint8), _Unsigned="false") == [-1, 4]
    assert known(np.array([-32767, 4], np.int16), _Unsigned="true") == [None, 4]  # 32769 was never written


@pytest.mark.parametrize(
    "attributes",
    [
        {"valid_range": np.array([0, 10000], np.int16)},
        {"valid_min": np.int16(0), "valid_max": np.int16(10000)},
        {"valid_min": np.float64(0), "valid_max": np.float64(10000)},
        {"valid_range": np.array([0.0, 1.0]), "scale_factor": 1e-4},
        {"valid_range": np.array([-0.1, 0.9]), "scale_factor": 1e-4, "add_offset": -0.1},
    ],
)
def test_what_lies_outside_of_the_valid_range_is_no_data(attributes: dict[str, Any]) -> None:
    assert known(np.array([-1, 0, 10000, 10001], np.int16), **attributes) == [None, 0, 10000, None]


def test_a_valid_range_of_unsigned_numbers_is_unsigned() -> None:
    valid = np.array([0, -25536], np.int16)  # 40000
    assert known(np.array([-25536, -25535, 9], np.int16), _Unsigned="true", valid_range=valid) == [40000, None, 9]


def test_one_limit_leaves_the_other_side_open() -> None:
    assert known(np.array([-5.0, 1e9]), valid_min=0.0) == [None, 1e9]
    assert known(np.array([-5.0, 1e9]), valid_max=0.0) == [-5.0, None]


@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "valid_range"])
def test_an_attribute_that_is_no_number_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=rf"^file\.nc: red: .*{name} 'n/a'"):
        known(np.array([1.0]), **{name: "n/a"})


def test_scales_are_one_for_all_images_or_one_each() -> None:
    scale, offset = scale_and_offset({"scale_factor": np.float32(0.5)}, 2, "file.nc: red")
    assert (scale.tolist(), offset.tolist()) == ([0.5], [0])
    scale, offset = scale_and_offset({"add_offset": [1, 2]}, 2, "file.nc: red")
    assert (scale.tolist(), offset.tolist()) == ([1], [1, 2])
    for stated in ([1, 2, 3], "much", np.nan):
        with pytest.raises(UserError, match=r"^file\.nc: red: .*add_offset"):
            scale_and_offset({"add_offset": stated}, 2, "file.nc: red")
