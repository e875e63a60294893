"""What is wrong with a patch is named in one line, the patch is quarantined, and the others are as they always are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_BZIP2, ZipFile

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.data import storage
from restore_dit.data.pastis.ingest import plan_ingest
from restore_dit.data.pastis.zip_archive import StoredArchive, read_directory
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from tests.data.pastis.miniature import SIDE, fingerprint, ingest, pack

PATCH = "20000"
S2, S1A, S1D = "DATA_S2/S2_20000.npy", "DATA_S1A/S1A_20000.npy", "DATA_S1D/S1D_20000.npy"
TARGET, PARCELS = "ANNOTATIONS/TARGET_20000.npy", "ANNOTATIONS/ParcelIDs_20000.npy"
MASKS = "REAL_MASKS/20000.npy"

Damage = Callable[[Path], None]


def removed(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def content(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def with_value(value: float, *place: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


def properties(change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        tree = json.loads((folder / "metadata.geojson").read_text())
        for feature in tree["features"]:
            if feature["properties"]["ID_PATCH"] == int(PATCH):
                change(feature["properties"])
        (folder / "metadata.geojson").write_text(json.dumps(tree))

    return damage


def bad_frames(*frames: int) -> Damage:
    return lambda folder: (folder / "bad_frames.json").write_text(json.dumps({PATCH: frames})) and None


def pickled(folder: Path) -> None:
    np.save(folder / S2, np.array([{"a": 1}, None], object), allow_pickle=True)


def header(shape: str, pixels: bytes = b"", type_: str = "<i2") -> Callable[[bytes], bytes]:
    """A file that says it is of this shape."""
    text = f"{{'descr': '{type_}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return lambda _: b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + pixels


DAMAGES = {
    "no optical file": (removed(S2), f"{S2}: missing"),
    "no radar file": (removed(S1A), f"{S1A}: missing: a patch without radar"),
    "no labels": (removed(TARGET), f"{TARGET}: missing"),
    "optical truncated": (content(S2, lambda b: b[:-100]), f"{S2}: truncated: \\d+ bytes of pixels instead of \\d+"),
    "radar truncated in its header": (content(S1D, lambda b: b[:50]), f"{S1D}: not a .npy file"),
    "header damaged": (content(S2, lambda b: b[:20] + b"\0(" + b[22:]), f"{S2}: not a .npy file"),
    "negative lengths": (content(S2, header("(-2, -5)", bytes(20))), f"{S2}: not a .npy file .*is no array"),
    "beyond 64 bits": (content(S2, header(f"({2**70},)")), f"{S2}: truncated"),
    "64 bits wrapped": (content(S2, header(f"({2**62}, 4)")), f"{S2}: truncated"),
    "a length that is a truth": (content(S2, header("(True, 2)", bytes(4))), f"{S2}: not a .npy file .*is no array"),
    "void": (content(S2, header("(3,)", type_="|V0")), f"{S2}: not a .npy file .*is no array"),
    "empty text": (content(S2, header("(3,)", type_="|S0")), f"{S2}: not a .npy file .*is no array"),
    "too long": (content(S2, lambda b: b + b"x"), f"{S2}: too long"),
    "empty file": (content(S2, lambda b: b""), f"{S2}: not a .npy file \\(it is empty\\)"),
    "not a .npy": (content(S2, lambda b: b"<html>rate limit</html>" * 9), f"{S2}: not a .npy file"),
    "pickled": (pickled, f"{S2}: holds pickled Python objects, which are never loaded"),
    "more dates than frames": (array(S2, lambda a: a[1:]), f"{S2}: \\d+ frames, but dates-S2 has \\d+"),
    "more radar frames than dates": (array(S1A, lambda a: a[[0, *range(len(a))]]), f"{S1A}: .*dates-S1A has"),
    "nine bands": (array(S2, lambda a: a[:, 1:]), f"{S2}: 9 bands instead of 10"),
    "two radar channels": (array(S1D, lambda a: a[:, :2]), f"{S1D}: 2 bands instead of 3"),
    "no time axis": (array(S2, lambda a: a[0]), f"{S2}: shape 10×16×16 instead of T×10×H×W"),
    "too small": (array(S2, lambda a: a[..., :8, :8]), f"{S2}: 8×8 pixels instead of 16×16"),
    "radar of another size": (array(S1A, lambda a: a[..., :8, :]), f"{S1A}: 8×16 pixels, but optical has 16×16"),
    "optical as float": (array(S2, lambda a: a.astype(np.float32)), f"{S2}: float32 instead of int16"),
    "optical unsigned": (array(S2, lambda a: a.astype(np.uint16)), f"{S2}: uint16 instead of int16"),
    "radar as integers": (array(S1A, lambda a: a.astype(np.int16)), f"{S1A}: int16 instead of float"),
    "NaN": (array(S1A, with_value(np.nan, 0, 1, 2, 3)), f"{S1A}: 1 of \\d+ pixels are NaN or infinite"),
    "infinite": (array(S1D, with_value(-np.inf, 0, 0, 0, 0)), f"{S1D}: 1 of \\d+ pixels are NaN or infinite"),
    "no decibels": (array(S1A, lambda a: a * 1000), f"{S1A}: .* is no backscatter in dB"),
    "ratio is not VV - VH": (array(S1A, lambda a: a[:, [1, 0, 2]]), f"{S1A}: the third channel differs from VV - VH"),
    "no dates": (properties(lambda p: p.pop("dates-S2")), "patch 20000: no dates-S2"),
    "empty dates": (properties(lambda p: p.update({"dates-S1A": {}})), "patch 20000: no dates-S1A"),
    "dates with a hole": (properties(lambda p: p["dates-S2"].pop("1")), "patch 20000: dates-S2 has no entry '1'"),
    "a date that does not exist": (
        properties(lambda p: p["dates-S2"].update({"0": 20180931})),
        "patch 20000: dates-S2: 20180931 is no date",
    ),
    "a date that is none": (properties(lambda p: p["dates-S1D"].update({"0": None})), "dates-S1D: None is no date"),
    "no fold": (properties(lambda p: p.pop("Fold")), "patch 20000: Fold is None, must be 1 to 5"),
    "fold 6": (properties(lambda p: p.update(Fold=6)), "patch 20000: Fold is 6, must be 1 to 5"),
    "masks of other frames": (array(MASKS, lambda a: a[1:]), f"{MASKS}: shape .* instead of"),
    "masks without their axis": (array(MASKS, lambda a: a[:, 0]), f"{MASKS}: shape .* instead of"),
    "masks with an unknown class": (array(MASKS, with_value(4, 0, 0, 0, 0)), f"{MASKS}: class 4 is unknown"),
    "masks as float": (array(MASKS, lambda a: a / 1.0), f"{MASKS}: float64 instead of int8"),
    "labels of another size": (array(TARGET, lambda a: a[:, :8]), f"{TARGET}: shape 3×8×16 instead of 3×16×16"),
    "labels as float": (array(TARGET, lambda a: a / 2), f"{TARGET}: float64 instead of uint8"),
    "parcels beyond 32 bits": (array(PARCELS, lambda a: a + np.int64(2**40)), f"{PARCELS}: values beyond int32"),
    "bad frame that is none": (bad_frames(0, 999), "bad_frames.json: patch 20000 has no frame 999"),
    "negative bad frame": (bad_frames(-1), "bad_frames.json: patch 20000 has no frame -1"),
}


@pytest.mark.parametrize(("damage", "line"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_patch_is_quarantined_and_the_others_are_whole(pastis, undamaged, tmp_path, damage, line):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    damage(folder)
    # Lists of bad frames are another test's: here the others' are what they were.
    if "bad_frames" in line:
        lists = json.loads((pastis / "bad_frames.json").read_text())
        (folder / "bad_frames.json").write_text(
            json.dumps(lists | json.loads((folder / "bad_frames.json").read_text()))
        )
    report = ingest(folder, tmp_path / "store")
    assert list(report.quarantined) == [PATCH]
    assert re.search(line, report.quarantined[PATCH]), report.quarantined[PATCH]
    assert "\n" not in report.quarantined[PATCH]
    assert TileStore.open(tmp_path / "store").manifest.quarantined == report.quarantined
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)
    assert not (tmp_path / "store" / "tiles" / f"{PATCH}.parquet").exists()


def test_a_mended_patch_is_taken_the_next_time(pastis, undamaged, tmp_path):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    removed(S2)(folder)
    ingest(folder, tmp_path / "store")
    shutil.copy(pastis / S2, folder / S2)
    report = ingest(folder, tmp_path / "store")
    assert (report.added, report.quarantined) == (1, {})
    assert TileStore.open(tmp_path / "store").manifest.quarantined == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (200, "DATA_S2/S2_20000.npy: damaged in the archive"),
        (0, "DATA_S2/S2_20000.npy: damaged in the archive \\(no file header there\\)"),
    ],
)
def test_a_damaged_member_of_an_archive_is_one_patch_less(pastis, undamaged, tmp_path, at, line):
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x03\x04", raw.index(b"PASTIS-R/DATA_S2/S2_20000.npy") - 40) + at] ^= 0xFF
    archive.write_bytes(raw)
    report = ingest(archive, tmp_path / "store")
    assert re.search(line, report.quarantined[PATCH])
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)


def test_a_patch_that_occurs_twice_is_taken_neither_way(pastis, undamaged, tmp_path):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    tree = json.loads((folder / "metadata.geojson").read_text())
    tree["features"] += [tree["features"][1], {"type": "Feature", "properties": {"Fold": 1}, "geometry": None}]
    (folder / "metadata.geojson").write_text(json.dumps(tree))
    report = ingest(folder, tmp_path / "store")
    assert "occurs twice" in report.quarantined[PATCH]
    assert "ID_PATCH is None" in report.quarantined["feature-5"]
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)


def geojson(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        tree = json.loads(content)
        change(tree)
        return json.dumps(tree).encode()

    return changed


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("metadata.geojson", lambda b: b[: len(b) // 2], "metadata.geojson: not JSON"),
        ("metadata.geojson", lambda b: b"\xff\xfe", "metadata.geojson: not JSON"),
        ("metadata.geojson", lambda b: b"[]", "not a GeoJSON FeatureCollection"),
        ("metadata.geojson", geojson(lambda t: t.update(features=[])), "no features"),
        ("metadata.geojson", geojson(lambda t: t.update(type="Topology")), "not a GeoJSON FeatureCollection"),
        (
            "metadata.geojson",
            geojson(lambda t: t["crs"]["properties"].update(name="urn:ogc:def:crs:OGC:1.3:CRS84")),
            "CRS urn:ogc:def:crs:OGC:1.3:CRS84 instead of EPSG:2154",
        ),
        (
            "metadata.geojson",
            geojson(lambda t: (t.pop("crs"), t["features"][0]["geometry"].update(coordinates=[[[2.3, 48.8]] * 4]))),
            "says no CRS, and its coordinates are not EPSG:2154",
        ),
        ("bad_frames.json", lambda b: b"{", "bad_frames.json: not JSON"),
        ("bad_frames.json", lambda b: b'{"10000": "all"}', "bad_frames.json: must map patches to lists"),
    ],
)
def test_broken_metadata_ends_everything_before_anything_is_written(pastis, tmp_path, name, change, line):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    content(name, change)(folder)
    with pytest.raises(UserError, match=re.escape(line)) as caught:
        ingest(folder, tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            lambda archive: archive.write_bytes(archive.read_bytes()[:-5000]),
            "not a ZIP archive, or one that was cut off",
        ),
        (lambda archive: archive.write_bytes(b"PK\x03\x04" * 999), "not a ZIP archive, or one that was cut off"),
        (lambda archive: archive.write_bytes(b""), "not a ZIP archive, or one that was cut off"),
        (lambda archive: pack(archive.parent / "other", archive), "no metadata.geojson in the archive"),
        (lambda archive: archive.unlink(), "no such folder or file"),
        (
            lambda archive: pack(archive.parent / "PASTIS-R", archive, ZIP_BZIP2),
            "metadata.geojson: packed by method 12, which is not supported",
        ),
    ],
)
def test_a_broken_archive_ends_in_one_line(pastis, tmp_path, capsys, made, line):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README").write_text("not PASTIS")
    shutil.copytree(pastis, tmp_path / "PASTIS-R")
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    made(archive)
    status = main(["ingest", "pastis", str(archive), str(tmp_path / "store"), "--workers", "0"])
    err = capsys.readouterr().err
    assert status == 1
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_the_command_line_says_what_is_quarantined(pastis, tmp_path, capsys):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    removed(S1A)(folder)
    words = ["ingest", "pastis", str(folder), str(tmp_path / "store"), "--workers", "0", f"patch_size={SIDE}"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert f"quarantined 20000: {S1A}: missing" in err
    assert "3 tiles, 1 quarantined" in out
    assert main([*words, "--allow-bad-tiles"]) == 0
    assert main([*words, "--radar", "S1D"]) == 0
    assert "4 tiles, 0 quarantined" in capsys.readouterr().out
    assert main([*words, "--patches", "123"]) == 1
    assert "no patch 123" in capsys.readouterr().err


def test_nothing_is_written_while_planning(pastis, tmp_path):
    from restore_dit.config.pastis import PastisConfig

    plan = plan_ingest(PastisConfig(source=str(pastis), output=str(tmp_path / "store")))
    assert len(plan.todo) == 4
    assert not (tmp_path / "store").exists()


def test_a_directory_that_names_places_outside_the_archive_or_no_name_is_one_line(pastis, tmp_path):
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    good = archive.read_bytes()
    first = good.index(b"PK\x01\x02")
    archive.write_bytes(good[: first + 45] + b"\x7f" + good[first + 46 :])
    with pytest.raises(UserError, match="its directory is damaged"):
        read_directory(StoredArchive(storage.locate(archive)))
    with ZipFile(archive, "w") as unnamed:
        unnamed.writestr("a", b"")
    nameless = bytearray(archive.read_bytes())
    begin = nameless.index(b"PK\x01\x02")
    nameless[begin + 28] = 0  # the length of its name, whose letter becomes its comment
    nameless[begin + 32] = 1
    archive.write_bytes(nameless)
    assert list(read_directory(StoredArchive(storage.locate(archive)))) == [""]
