"""PASTIS-R on object storage, as folder and as archive, ingested to object storage."""

from pathlib import Path

import pytest

from restore_dit.cli import main
from restore_dit.data import storage
from restore_dit.data.store.tile_store import TileStore
from tests.data.pastis.miniature import SIDE, fingerprint, ingest, pack
from tests.messages import assert_names, refused
from tests.s3.ceph_server import CephServer

pytestmark = pytest.mark.s3


def upload(folder: Path, uri: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes_atomically(f"{uri}/{path.relative_to(folder)}", path.read_bytes())


def test_folder_and_archive_on_s3_give_the_same_store_as_here(pastis, undamaged, tmp_path, bucket):
    root = f"s3://{bucket}/source/PASTIS-R"
    upload(pastis, root)
    archive = pack(pastis, tmp_path / "PASTIS-R.zip")
    storage.write_bytes_atomically(f"{root}.zip", archive.read_bytes())
    for name, source in (("folder", f"s3://{bucket}/source"), ("archive", f"{root}.zip")):
        report = ingest(source, f"s3://{bucket}/{name}")
        assert (len(report.results), report.failed) == (4, {})
        assert fingerprint(f"s3://{bucket}/{name}") == fingerprint(undamaged)
    storage.delete(f"{root}/DATA_S2/S2_20000.npy")
    report = ingest(root, f"s3://{bucket}/without")
    assert list(report.failed) == ["20000"]
    assert fingerprint(f"s3://{bucket}/without") == fingerprint(undamaged, "20000")


@pytest.mark.parametrize("kind", ["PASTIS-R", "PASTIS-R.zip"])
def test_a_server_that_goes_away_blames_no_patch(pastis, undamaged, tmp_path, s3: CephServer, bucket, capsys, kind):
    """The source is gone after two patches; what is done is kept, and the next run ends it."""
    from restore_dit.config.ingestion import PastisConfig
    from restore_dit.data.pastis.patch_plan import plan_patches
    from restore_dit.data.runner import run

    source = f"s3://{bucket}/{kind}"
    upload(pastis, f"s3://{bucket}/PASTIS-R")
    storage.write_bytes_atomically(f"s3://{bucket}/PASTIS-R.zip", pack(pastis, tmp_path / "PASTIS-R.zip").read_bytes())
    plan = plan_patches(PastisConfig(source=source, output=str(tmp_path / "store"), patch_size=SIDE))

    def stop(_: object, done: int, total: int) -> None:
        if done == 2:
            s3.stop_gateway()

    with refused(f"s3://{bucket}/", "AWS_ENDPOINT_URL"):
        run(plan, on_outcome=stop)
    assert TileStore.open(tmp_path / "store").tile_ids == ("10000", "20000")
    assert TileStore.open(tmp_path / "store").manifest.quarantined == {}
    s3.start_gateway()
    words = ["--workers", "0", f"patch_size={SIDE}"]
    assert main(["ingest-pastis", source, str(tmp_path / "store"), *words]) == 0
    assert fingerprint(tmp_path / "store") == fingerprint(undamaged)


def test_a_key_that_is_not_there_ends_in_one_line(bucket, tmp_path, capsys):
    assert main(["ingest-pastis", f"s3://{bucket}/PASTIS.zip", str(tmp_path / "store"), "--workers", "0"]) == 1
    err = capsys.readouterr().err
    assert_names(err, f"s3://{bucket}/PASTIS.zip")
    assert err.count("\n") == 1
