"""Simulated tiles as a job, in this process."""

from jobs import simulate
from tests.messages import assert_names


def test_the_job_takes_keys_of_tiles_and_of_their_looks(tmp_path, capsys):
    words = [f"output={tmp_path}/store", "height=16", "width=20", "days=60", "tiles=2", "seed=4", "first=1"]
    assert simulate.main(words) == 0
    assert sorted(path.stem for path in tmp_path.glob("store/tiles/*")) == ["sim-4-000001", "sim-4-000002"]
    assert simulate.main(["height=16", "--dry-run"]) == 0
    assert "height: 16" in capsys.readouterr().out
    assert simulate.main(["height=16"]) == 2
    assert_names(capsys.readouterr().err, "output")
