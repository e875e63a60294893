"""Folders as people name them: which tile ids they get."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import yaml

from restore_dit.cli import main
from restore_dit.data.cubes.sites import Site, find_sites
from restore_dit.data.store.manifest import is_safe_name
from restore_dit.data.store.tile_store import TileStore
from tests.data.cubes.test_damaged import MAPPING, write

NAMES = ["Feld Süd 1", "Feld Sud 1", "Feld-Sud-1", "feld süd 1", "Feld Süd  1", "水田", ".git", "-1", "a/b", "x" * 200]


def tile_id(name: str) -> str:
    return Site(name, "", ()).tile_id


def test_a_name_that_is_no_id_gets_one_of_its_own() -> None:
    ids = [tile_id(name) for name in NAMES]
    assert ids[2] == "Feld-Sud-1"
    assert all(map(is_safe_name, ids))
    assert len(set(ids)) == len(NAMES)
    assert ids[0] == "Feld-Sud-1-ec6696f8"  # wherever and whenever it is ingested
    assert tile_id(unicodedata.normalize("NFD", NAMES[0])) == ids[0]


def test_such_a_folder_is_ingested_and_its_name_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Feld Süd 1", "Feld-Sud-1"):
        write(tmp_path / "fields" / name)
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(MAPPING.model_dump(mode="json")))
    words = ["ingest-cubes", str(tmp_path / "fields"), str(tmp_path / "store")]
    assert main([*words, "--mapping", str(tmp_path / "mapping.yaml")]) == 0
    renamed = tile_id("Feld Süd 1")
    assert len([line for line in capsys.readouterr().out.splitlines() if "Feld Süd 1" in line and renamed in line]) == 1
    store = TileStore.open(tmp_path / "store")
    assert set(store.tile_ids) == {"Feld-Sud-1", renamed}
    assert store.load(renamed).series().properties["name"] == "Feld Süd 1"
    assert "name" not in store.load("Feld-Sud-1").series().properties


def test_folders_that_derive_the_same_id_are_told(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write(tmp_path / unicodedata.normalize(form, "Süd"))
    (site,) = find_sites(tmp_path, MAPPING)
    assert site.problem is not None
    assert site.tile_id in site.problem
