"""The archive is read where it lies on a web server: little, once, and whatever the server does."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from restore_dit.cli import main
from restore_dit.config.ingestion import PastisConfig, TransferConfig
from restore_dit.data.pastis.patch_plan import plan_patches
from restore_dit.data.pastis.remote_file import RemoteFile, SourceUnreachable
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from tests.data.pastis.miniature import SIDE, fingerprint, ingest, pack
from tests.data.pastis.web_server import Behaviour, serving
from tests.messages import assert_names, refused

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


FOLDERS = ("DATA_S2", "DATA_S1A", "DATA_S1D", "ANNOTATIONS", "REAL_MASKS")


@pytest.mark.parametrize("together", [1, 3])
def test_a_failing_server_gives_the_same_store_and_little_is_sent_twice(archive, undamaged, tmp_path, together):
    behaviour = Behaviour(archive.read_bytes(), drop=0.3, refuse=0.2, cut=3)
    with serving(behaviour) as url:
        report = ingest(url, tmp_path / "store", transfer={**QUICK, "patches_a_request": together})
    assert report.failed == {}
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)
    assert behaviour.dropped > 0
    assert behaviour.refused > 0
    assert behaviour.cut == 0
    assert behaviour.sent <= 1.1 * needed(archive, *FOLDERS) + behaviour.sent_in_vain


@pytest.mark.parametrize(("together", "most_requests"), [(1, 4 * 6), (2, 2 * 6), (4, 6)])
def test_of_a_good_server_everything_is_asked_once_and_neighbours_together(archive, tmp_path, together, most_requests):
    behaviour = Behaviour(archive.read_bytes())
    with serving(behaviour) as url:
        ingest(url, tmp_path / "store", transfer={**QUICK, "patches_a_request": together})
    assert behaviour.sent <= 1.1 * needed(archive, *FOLDERS)
    assert behaviour.requests <= most_requests + 8  # for the directory and the lists


def test_what_is_not_wanted_is_not_read(archive, tmp_path):
    behaviour = Behaviour(archive.read_bytes())
    options = {"radar": ["S1D"], "annotations": False, "transfer": {**QUICK, "patches_a_request": 1}}
    with serving(behaviour) as url:
        ingest(url, tmp_path / "store", **options)
    assert behaviour.sent <= 1.1 * needed(archive, "DATA_S2", "DATA_S1D", "REAL_MASKS")


def test_a_damaged_member_among_neighbours_is_one_patch_less(archive, undamaged, tmp_path):
    content = bytearray(archive.read_bytes())
    content[content.index(b"PASTIS-R/DATA_S2/S2_20000.npy") + 300] ^= 0xFF
    with serving(Behaviour(bytes(content))) as url:
        report = ingest(url, tmp_path / "store", transfer=QUICK)
    assert list(report.failed) == ["20000"]
    assert_names(report.failed["20000"], "DATA_S2/S2_20000.npy")
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged, "20000")


def test_a_server_that_refuses_halfway_blames_no_patch(archive, tmp_path):
    behaviour = Behaviour(archive.read_bytes())
    with serving(behaviour) as url:
        config = PastisConfig(source=url, output=str(tmp_path / "store"), patch_size=SIDE, transfer=QUICK)
        plan = plan_patches(config)
        behaviour.status = 403
        with refused(url, "HTTP 403"):
            run(plan)
    assert not (tmp_path / "store").exists()


def test_a_server_that_dies_for_good_leaves_what_is_done_and_the_next_run_ends_it(archive, undamaged, tmp_path, capsys):
    store = tmp_path / "store"
    words = ["--workers", "0", f"patch_size={SIDE}", "transfer.attempts=3", "transfer.first_wait=0.001"]
    words.append("transfer.patches_a_request=1")
    behaviour = Behaviour(archive.read_bytes(), die_after=24)
    with serving(behaviour) as url:
        assert main(["ingest-pastis", url, str(store), *words]) == 1
        err = capsys.readouterr().err
        assert_names(err, url, 3)
        assert err.count("\n") == 1
        assert 0 < len(TileStore.open(store)) < 4
        assert TileStore.open(store).manifest.quarantined == {}
        assert not list(store.rglob("*.partial"))
        behaviour.die_after = None
        assert main(["ingest-pastis", url, str(store), *words]) == 0
    assert fingerprint(store) == fingerprint(undamaged)


@pytest.mark.parametrize(
    ("behaviour", "fact"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 403}, "HTTP 403"),
        ({"ranges": False}, "byte ranges"),
        ({"status": 500}, "HTTP 500"),
        ({"content": b"<html>moved</html>"}, "ZIP"),
        ({"content": b""}, "HTTP 416"),
    ],
)
def test_a_server_without_the_archive_ends_in_one_line(archive, tmp_path, capsys, behaviour, fact):
    with serving(Behaviour(**{"content": archive.read_bytes(), **behaviour})) as url:
        words = ["transfer.attempts=3", "transfer.first_wait=0.001"]
        assert main(["ingest-pastis", url, str(tmp_path / "store"), "--workers", "0", *words]) == 1
        err = capsys.readouterr().err
    assert_names(err, url, fact)
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_waits_grow_up_to_the_longest():
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


def test_a_server_that_counts_requests_gets_its_pause_which_is_no_failure():
    waits: list[float] = []
    behaviour = Behaviour(bytes(1000), limit=7, retry_after=59)
    with serving(behaviour) as url:
        transfer = TransferConfig(attempts=2, timeout=5, longest_limit=600)
        file = RemoteFile(url, transfer, sleep=waits.append)
        assert file.read_range(0, 1000) == bytes(1000)
        assert waits == [59.0] * 7
        behaviour.limit = 11
        with refused(url, "HTTP 429", "59 s", kind=SourceUnreachable):
            file.read_range(0, 10)
        assert sum(waits[7:]) <= 600


@pytest.mark.parametrize(
    "behaviour",
    [{}, {"status": 403}, {"status": 500}, {"ranges": False}, {"content": b"<html>"}],
    ids=["a bad patch", "refused", "failing", "no ranges", "no archive"],
)
def test_a_signature_in_an_address_is_used_but_never_shown_nor_kept(pastis, tmp_path, capsys, behaviour):
    folder = tmp_path / "PASTIS-R"
    shutil.copytree(pastis, folder)
    tree = json.loads((folder / "metadata.geojson").read_text())
    tree["features"][1]["properties"]["Fold"] = 9
    (folder / "metadata.geojson").write_text(json.dumps(tree))
    content = pack(folder, tmp_path / "PASTIS-R.zip").read_bytes()
    words = ["--workers", "0", f"patch_size={SIDE}", "transfer.attempts=2", "transfer.first_wait=0.001"]
    with serving(Behaviour(**{"content": content, **behaviour})) as url:
        source = f"{url}?X-Amz-Signature=SECRET"
        assert main(["ingest-pastis", source, str(tmp_path / "store"), *words, "--dry-run"]) == 0
        assert main(["ingest-pastis", source, str(tmp_path / "store"), *words]) == 1
    shown = capsys.readouterr()
    assert url in shown.err
    kept = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert (b"Fold is 9" in kept) == (not behaviour)
    assert "SECRET" not in shown.out + shown.err
    assert b"SECRET" not in kept


def test_no_address_at_all_is_one_line_without_its_secrets():
    with pytest.raises(UserError, match=r"^http://\[bad/x\.zip:") as caught:
        RemoteFile("http://me:secret@[bad/x.zip?token=secret", TransferConfig())
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(UserError) as caught:
        RemoteFile("https://me:secret@example.org/PASTIS-R.zip", TransferConfig())
    assert_names(str(caught.value), "example.org", "credentials")
    assert "secret" not in str(caught.value)
