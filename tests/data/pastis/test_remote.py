"""The archive is read where it lies on a web server: little, once, and whatever the server does."""

import zipfile
from pathlib import Path

import pytest

from restore_dit.cli import main
from restore_dit.config.pastis import TransferConfig
from restore_dit.data.pastis.remote_file import RemoteFile
from restore_dit.data.pastis.source_error import SourceUnreachable
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from tests.data.pastis.miniature import SIDE, fingerprint, ingest, pack
from tests.data.pastis.web_server import Behaviour, serving

QUICK = {"first_wait": 0.001, "longest_wait": 0.01, "attempts": 12, "timeout": 5}


@pytest.fixture(scope="module")
def archive(pastis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(pastis, tmp_path_factory.mktemp("archive") / "PASTIS-R.zip")


def needed(archive: Path, *folders: str) -> int:
    """Bytes that an ingest cannot do without: the directory and the members in these folders."""
    with zipfile.ZipFile(archive) as directory:
        members = [
            entry
            for entry in directory.infolist()
            if entry.filename.split("/")[1] in {*folders, "metadata.geojson", "bad_frames.json"}
        ]
        return archive.stat().st_size - directory.start_dir + sum(member.compress_size + 100 for member in members)


def test_a_failing_server_gives_the_same_store_and_little_is_sent_twice(archive, undamaged, tmp_path):
    behaviour = Behaviour(archive.read_bytes(), drop=0.3, refuse=0.2, cut=3)
    with serving(behaviour) as url:
        report = ingest(url, tmp_path / "store", transfer=QUICK)
    assert report.quarantined == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)
    assert behaviour.dropped > 3
    assert behaviour.refused > 3
    assert behaviour.cut == 0
    folders = ("DATA_S2", "DATA_S1A", "DATA_S1D", "ANNOTATIONS", "REAL_MASKS")
    assert behaviour.sent <= 1.1 * needed(archive, *folders) + behaviour.sent_in_vain


def test_of_a_good_server_only_what_is_wanted_is_asked_and_each_member_once(archive, tmp_path):
    behaviour = Behaviour(archive.read_bytes())
    with serving(behaviour) as url:
        ingest(url, tmp_path / "store", transfer=QUICK, radar=["S1D"], annotations=False)
    assert behaviour.sent <= 1.1 * needed(archive, "DATA_S2", "DATA_S1D", "REAL_MASKS")
    directory_requests = behaviour.requests - 2 - 4 * 3
    assert directory_requests <= 6


def test_a_server_that_dies_for_good_leaves_what_is_done_and_the_next_run_ends_it(archive, undamaged, tmp_path, capsys):
    store = tmp_path / "store"
    words = ["--workers", "0", f"patch_size={SIDE}", "transfer.attempts=3", "transfer.first_wait=0.001"]
    behaviour = Behaviour(archive.read_bytes(), die_after=24)
    with serving(behaviour) as url:
        assert main(["ingest", "pastis", url, str(store), *words]) == 1
        err = capsys.readouterr().err
        assert "gave up after 3 failures in a row" in err
        assert "run the same command again" in err
        assert err.count("\n") == 1
        assert 0 < len(TileStore.open(store)) < 4
        assert TileStore.open(store).manifest.quarantined == {}
        assert not list(store.rglob("*.partial"))
        behaviour.die_after = None
        assert main(["ingest", "pastis", url, str(store), *words]) == 0
    assert fingerprint(store) == fingerprint(undamaged)


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ({"status": 404}, "HTTP 404: not found: check the address"),
        ({"status": 403}, "HTTP 403: the server refuses access"),
        ({"ranges": False}, "the server does not serve parts of a file (byte ranges): download the archive"),
        ({"status": 500}, "gave up after 3 failures in a row (HTTP 500)"),
        ({"content": b"<html>moved</html>"}, "not a ZIP archive, or one that was cut off"),
        ({"content": b""}, "HTTP 416"),
    ],
)
def test_a_server_without_the_archive_ends_in_one_line(archive, tmp_path, capsys, behaviour, line):
    with serving(Behaviour(**{"content": archive.read_bytes(), **behaviour})) as url:
        words = ["transfer.attempts=3", "transfer.first_wait=0.001"]
        assert main(["ingest", "pastis", url, str(tmp_path / "store"), "--workers", "0", *words]) == 1
        err = capsys.readouterr().err
    assert line in err
    assert url in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_waits_grow_up_to_the_longest_and_begin_anew_after_progress():
    waits: list[float] = []
    behaviour = Behaviour(bytes(1000), refuse=1.0)
    with serving(behaviour) as url:
        transfer = TransferConfig(attempts=6, first_wait=1, longest_wait=6, timeout=5)
        file = RemoteFile(url, transfer, sleep=waits.append)
        with pytest.raises(SourceUnreachable, match="HTTP 503"):
            file.read_range(0, 10)
        assert len(waits) == 5
        for wait, expected in zip(waits, (1, 2, 4, 6, 6), strict=True):
            assert 0.75 * expected <= wait <= 1.25 * expected
        behaviour.refuse = 0.0
        assert file.read_range(990, 2000) == bytes(10)
        assert file.size() == 1000


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(UserError) as caught:
        RemoteFile("https://me:secret@example.org/PASTIS-R.zip", TransferConfig())
    assert "credentials do not belong" in str(caught.value)
    assert "secret" not in str(caught.value)
