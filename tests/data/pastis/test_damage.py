"""What is wrong with a patch is named in one line, the patch is quarantined, and the others are as they always are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_BZIP2, ZipFile

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.data import storage
from restore_dit.data.pastis.patch_plan import plan_patches
from restore_dit.data.pastis.zip_archive import StoredArchive, read_directory
from restore_dit.data.store.tile_store import TileStore
from tests.data.pastis.miniature import SIDE, fingerprint, ingest, pack
from tests.messages import assert_names, refused

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
    "no optical file": (removed(S2), [S2]),
    "no radar file": (removed(S1A), [S1A, "--radar"]),
    "no labels": (removed(TARGET), [TARGET]),
    "optical truncated": (content(S2, lambda b: b[:-100]), [S2, 25_500, 25_600]),
    "radar truncated in its header": (content(S1D, lambda b: b[:50]), [S1D, ".npy", "EOF"]),
    "header damaged": (content(S2, lambda b: b[:20] + b"\0(" + b[22:]), [S2, ".npy", "EOF"]),
    "negative lengths": (content(S2, header("(-2, -5)", bytes(20))), [S2, ".npy", "(-2, -5)", "int16"]),
    "beyond 64 bits": (content(S2, header(f"({2**70},)")), [S2, 2**71]),
    "64 bits wrapped": (content(S2, header(f"({2**62}, 4)")), [S2, 2**65]),
    "a length that is a truth": (content(S2, header("(True, 2)", bytes(4))), [S2, ".npy", "(True, 2)"]),
    "void": (content(S2, header("(3,)", type_="|V0")), [S2, ".npy", "(3,)", "|V0"]),
    "empty text": (content(S2, header("(3,)", type_="|S0")), [S2, ".npy", "(3,)", "|S0"]),
    "too long": (content(S2, lambda b: b + b"x"), [S2, 25_601, 25_600]),
    "empty file": (content(S2, lambda b: b""), [S2, ".npy", "empty"]),
    "not a .npy": (content(S2, lambda b: b"<html>rate limit</html>" * 9), [S2, ".npy", "b'<html>'"]),
    "pickled": (pickled, [S2, "pickled"]),
    "more dates than frames": (array(S2, lambda a: a[1:]), [S2, 4, "dates-S2", 5]),
    "more radar frames than dates": (array(S1A, lambda a: a[[0, *range(len(a))]]), [S1A, 11, "dates-S1A", 10]),
    "nine bands": (array(S2, lambda a: a[:, 1:]), [S2, 9, 10]),
    "two radar channels": (array(S1D, lambda a: a[:, :2]), [S1D, 2, 3]),
    "no time axis": (array(S2, lambda a: a[0]), [S2, "10×16×16", "T×10×H×W"]),
    "too small": (array(S2, lambda a: a[..., :8, :8]), [S2, "8×8", "16×16", "patch_size"]),
    "radar of another size": (array(S1A, lambda a: a[..., :8, :]), [S1A, "8×16", "16×16"]),
    "optical as float": (array(S2, lambda a: a.astype(np.float32)), [S2, "float32", "int16"]),
    "optical unsigned": (array(S2, lambda a: a.astype(np.uint16)), [S2, "uint16", "int16"]),
    "radar as integers": (array(S1A, lambda a: a.astype(np.int16)), [S1A, "int16", "float"]),
    "NaN": (array(S1A, with_value(np.nan, 0, 1, 2, 3)), [S1A, 1, 2560, "radar_nan=no_data"]),
    "infinite": (array(S1D, with_value(-np.inf, 0, 0, 0, 0)), [S1D, 1, 2560, "radar_nan=no_data"]),
    "no decibels": (array(S1A, lambda a: a * 1000), [S1A, 26180, "dB"]),
    "ratio is not VV - VH": (array(S1A, lambda a: a[:, [1, 0, 2]]), [S1A, "VV - VH", 28.4, "ratio_tolerance=null"]),
    "no dates": (properties(lambda p: p.pop("dates-S2")), [20000, "dates-S2"]),
    "empty dates": (properties(lambda p: p.update({"dates-S1A": {}})), [20000, "dates-S1A"]),
    "dates with a hole": (properties(lambda p: p["dates-S2"].pop("1")), [20000, "dates-S2", "'1'"]),
    "a date that does not exist": (
        properties(lambda p: p["dates-S2"].update({"0": 20180931})),
        [20000, "dates-S2", 20180931],
    ),
    "a date that is none": (properties(lambda p: p["dates-S1D"].update({"0": None})), [20000, "dates-S1D", "None"]),
    "no fold": (properties(lambda p: p.pop("Fold")), [20000, "Fold", "None", 5]),
    "fold 6": (properties(lambda p: p.update(Fold=6)), [20000, "Fold", 6, 5]),
    "masks of other frames": (array(MASKS, lambda a: a[1:]), [MASKS, "4×1×16×16", "5×1×16×16"]),
    "masks without their axis": (array(MASKS, lambda a: a[:, 0]), [MASKS, "5×16×16", "5×1×16×16"]),
    "masks with an unknown class": (array(MASKS, with_value(4, 0, 0, 0, 0)), [MASKS, 4]),
    "masks as float": (array(MASKS, lambda a: a / 1.0), [MASKS, "float64", "int8"]),
    "labels of another size": (array(TARGET, lambda a: a[:, :8]), [TARGET, "3×8×16", "3×16×16"]),
    "labels as float": (array(TARGET, lambda a: a / 2), [TARGET, "float64", "uint8"]),
    "parcels beyond 32 bits": (array(PARCELS, lambda a: a + np.int64(2**40)), [PARCELS, "int32"]),
    "bad frame that is none": (bad_frames(0, 999), ["bad_frames.json", 20000, 999]),
    "negative bad frame": (bad_frames(-1), ["bad_frames.json", 20000, "-1"]),
}


@pytest.mark.parametrize(("damage", "facts"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_patch_is_quarantined_and_the_others_are_whole(pastis, undamaged, tmp_path, damage, facts):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    damage(folder)
    # Lists of bad frames are another test's: here the others' are what they were.
    if "bad_frames.json" in facts:
        lists = json.loads((pastis / "bad_frames.json").read_text())
        (folder / "bad_frames.json").write_text(
            json.dumps(lists | json.loads((folder / "bad_frames.json").read_text()))
        )
    report = ingest(folder, tmp_path / "store")
    assert list(report.failed) == [PATCH]
    assert_names(report.failed[PATCH], *facts)
    assert "\n" not in report.failed[PATCH]
    assert TileStore.open(tmp_path / "store").manifest.quarantined == report.failed
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)
    assert not (tmp_path / "store" / "tiles" / f"{PATCH}.parquet").exists()


def test_a_mended_patch_is_taken_the_next_time(pastis, undamaged, tmp_path):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    removed(S2)(folder)
    ingest(folder, tmp_path / "store")
    shutil.copy(pastis / S2, folder / S2)
    report = ingest(folder, tmp_path / "store")
    assert (len(report.results), report.failed) == (1, {})
    assert TileStore.open(tmp_path / "store").manifest.quarantined == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)


@pytest.mark.parametrize(("at", "facts"), [(200, [S2]), (0, [S2, "header"])])
def test_a_damaged_member_of_an_archive_is_one_patch_less(pastis, undamaged, tmp_path, at, facts):
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x03\x04", raw.index(b"PASTIS-R/DATA_S2/S2_20000.npy") - 40) + at] ^= 0xFF
    archive.write_bytes(raw)
    report = ingest(archive, tmp_path / "store")
    assert list(report.failed) == [PATCH]
    assert_names(report.failed[PATCH], *facts)
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)


def test_a_patch_that_occurs_twice_is_taken_neither_way(pastis, undamaged, tmp_path):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    tree = json.loads((folder / "metadata.geojson").read_text())
    tree["features"] += [tree["features"][1], {"type": "Feature", "properties": {"Fold": 1}, "geometry": None}]
    (folder / "metadata.geojson").write_text(json.dumps(tree))
    report = ingest(folder, tmp_path / "store")
    assert_names(report.failed[PATCH], 20000)
    assert_names(report.failed["feature-5"], "ID_PATCH", "None")
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, PATCH)


def geojson(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        tree = json.loads(content)
        change(tree)
        return json.dumps(tree).encode()

    return changed


@pytest.mark.parametrize(
    ("name", "change", "fact"),
    [
        ("metadata.geojson", lambda b: b[: len(b) // 2], "JSON"),
        ("metadata.geojson", lambda b: b"\xff\xfe", "JSON"),
        ("metadata.geojson", lambda b: b"[]", "FeatureCollection"),
        ("metadata.geojson", geojson(lambda t: t.update(features=[])), "features"),
        ("metadata.geojson", geojson(lambda t: t.update(type="Topology")), "FeatureCollection"),
        (
            "metadata.geojson",
            geojson(lambda t: t["crs"]["properties"].update(name="urn:ogc:def:crs:OGC:1.3:CRS84")),
            "urn:ogc:def:crs:OGC:1.3:CRS84",
        ),
        (
            "metadata.geojson",
            geojson(lambda t: (t.pop("crs"), t["features"][0]["geometry"].update(coordinates=[[[2.3, 48.8]] * 4]))),
            "EPSG:2154",
        ),
        ("bad_frames.json", lambda b: b"{", "JSON"),
        ("bad_frames.json", lambda b: b'{"10000": "all"}', '{"10000": [0, 2]}'),
    ],
)
def test_broken_metadata_ends_everything_before_anything_is_written(pastis, tmp_path, name, change, fact):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    content(name, change)(folder)
    with refused(name, fact):
        ingest(folder, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("made", "facts"),
    [
        (lambda archive: archive.write_bytes(archive.read_bytes()[:-5000]), ["ZIP"]),
        (lambda archive: archive.write_bytes(b"PK\x03\x04" * 999), ["ZIP"]),
        (lambda archive: archive.write_bytes(b""), ["ZIP"]),
        (lambda archive: pack(archive.parent / "other", archive), ["metadata.geojson"]),
        (lambda archive: archive.unlink(), []),
        (lambda archive: pack(archive.parent / "PASTIS-R", archive, ZIP_BZIP2), ["metadata.geojson", 12]),
    ],
)
def test_a_broken_archive_ends_in_one_line(pastis, tmp_path, capsys, made, facts):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README").write_text("not PASTIS")
    shutil.copytree(pastis, tmp_path / "PASTIS-R")
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    made(archive)
    status = main(["ingest-pastis", str(archive), str(tmp_path / "store"), "--workers", "0"])
    err = capsys.readouterr().err
    assert status == 1
    assert_names(err, *facts or [str(archive)])
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_the_command_line_says_what_is_quarantined(pastis, tmp_path, capsys):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    removed(S1A)(folder)
    words = ["ingest-pastis", str(folder), str(tmp_path / "store"), "--workers", "0", f"patch_size={SIDE}"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert_names(err, "20000", S1A)
    assert "3 tiles, 1 quarantined" in out
    assert main([*words, "--allow-bad-tiles"]) == 0
    assert main([*words, "--radar", "S1D"]) == 0
    assert "4 tiles, 0 quarantined" in capsys.readouterr().out
    assert main([*words, "--patches", "123"]) == 1
    assert_names(capsys.readouterr().err, str(folder), 123)


def test_nothing_is_written_while_planning(pastis, tmp_path):
    from restore_dit.config.ingestion import PastisConfig

    plan = plan_patches(PastisConfig(source=str(pastis), output=str(tmp_path / "store")))
    assert len(plan.todo) == 4
    assert not (tmp_path / "store").exists()


def test_a_directory_that_names_places_outside_the_archive_or_no_name_is_one_line(pastis, tmp_path):
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    good = archive.read_bytes()
    first = good.index(b"PK\x01\x02")
    archive.write_bytes(good[: first + 45] + b"\x7f" + good[first + 46 :])
    with refused(str(archive), "ZIP", "directory"):
        read_directory(StoredArchive(storage.locate(archive)))
    with ZipFile(archive, "w") as unnamed:
        unnamed.writestr("a", b"")
    nameless = bytearray(archive.read_bytes())
    begin = nameless.index(b"PK\x01\x02")
    nameless[begin + 28] = 0  # the length of its name, whose letter becomes its comment
    nameless[begin + 32] = 1
    archive.write_bytes(nameless)
    assert list(read_directory(StoredArchive(storage.locate(archive)))) == [""]
