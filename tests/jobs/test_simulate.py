"""Simulated tiles as a job, in this process."""

import os

from jobs.entry import main
from restore_dit import cli
from tests.messages import assert_names


def test_the_job_takes_keys_of_tiles_and_of_their_looks(tmp_path, capsys):
    words = [f"output={tmp_path}/store", "height=16", "width=20", "days=60", "tiles=2", "seed=4", "first=1"]
    assert main("simulate", words) == 0
    assert sorted(path.stem for path in tmp_path.glob("store/tiles/*")) == ["sim-4-000001", "sim-4-000002"]
    assert main("simulate", ["height=16", "--dry-run"]) == 0
    assert "height: 16" in capsys.readouterr().out
    assert main("simulate", ["height=16"]) == 2
    assert_names(capsys.readouterr().err, "output")


def test_every_way_to_write_a_folder_is_the_same_folder(tmp_path, capsys):
    folder = tmp_path / "Grün #1: 50% [x]?"
    small = ["height=16", "width=16", "days=60"]
    assert cli.main(["simulate", f"file://{folder}/st", "--tiles", "1", *small]) == 0
    assert f"{folder}/st: 1 tiles" in capsys.readouterr().out
    assert main("simulate", [f"output={folder}/st", "tiles=2", *small]) == 0
    assert main("simulate", [f"output={folder.as_uri()}/st", "tiles=3", *small]) == 0
    assert os.listdir(tmp_path) == [folder.name]
    assert len(list(folder.glob("st/tiles/*"))) == 3
    assert cli.main(["export", folder.as_uri() + "/st", f"file://{folder}/series/a.nc"]) == 0
    assert (folder / "series" / "a.nc").is_file()
    assert cli.main(["inspect", f"file://{folder}/st", "--json"]) == 0
