"""What a cluster cannot reach, and what must not be known to all of its users, is refused before anything is sent."""

import json

import pytest
import yaml

from jobs.registry import JOBS
from jobs.submission import places
from jobs.submission.submission import CONFIG_FILE, prepare
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.loading import dump
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from tests.messages import refused

S3 = {
    "simulate": ["output=s3://b/o"],
    "ingest-cubes": ["source=s3://b/c", "output=s3://b/o"],
    "ingest-pastis": ["source=s3://b/p", "output=s3://b/o"],
    "detect-clouds": ["store=s3://b/s"],
    "train-clouds": ["stores=[s3://b/1, s3://b/2]", "output=s3://b/o"],
    "train": ["data.store=s3://b/s", "output=s3://b/o"],
    "evaluate": ["model=s3://b/m", "store=s3://b/s", "output=s3://b/o"],
    "reconstruct": ["model=s3://b/m", "input=s3://b/s", "output=s3://b/o"],
}


def sent(name: str, *overrides: str) -> tuple[dict, dict[str, bytes]]:
    """The configuration that the job reads, and the files that go along."""
    job = JOBS[name]
    config = job.read(None, [*S3[name], *overrides])
    places.refuse_secrets(config)
    config, files = places.as_on_the_cluster(job, config)
    return yaml.safe_load(dump(config)), files


@pytest.mark.parametrize("name", S3)
def test_object_storage_and_shared_folders_are_taken(name):
    assert sent(name)[1] == {}
    shared = [word.replace("s3://b", "file:///mnt/shared") for word in S3[name]]
    assert sent(name, *shared)[1] == {}


@pytest.mark.parametrize(
    ("name", "override", "facts"),
    [
        ("train", "data.store=stores/site", ["data.store=stores/site", "file:///", "/stores/site"]),
        ("train", "data.store=/data/site", ["data.store=/data/site", "file:///data/site"]),
        ("train", "data.store=~/site", ["data.store=~/site", "file:///"]),
        ("train", "output=runs", ["output=runs", "file:///", "/runs"]),
        ("train", "training.init_from=models/a", ["training.init_from=models/a", "file:///", "/models/a"]),
        ("train", "data.store=''", ["data.store=URI"]),
        ("train-clouds", "stores=[s3://b/1, stores/2]", ["stores=stores/2", "file:///", "/stores/2"]),
        ("train-clouds", "stores=[]", ["stores", "train-clouds STORES…"]),
        ("evaluate", "output=evaluation", ["output=evaluation", "file:///", "/evaluation"]),
        ("detect-clouds", "weights=best.pth", ["weights=best.pth", "file:///", "/best.pth"]),
        ("detect-clouds", "store=gs://b/s", ["store=gs://b/s", "s3://"]),
        ("evaluate", "store=https://b/s", ["store=https://b/s", "s3://"]),
        ("ingest-pastis", "cloud_masks=REAL_MASKS", ["cloud_masks=REAL_MASKS", "file:///", "/REAL_MASKS"]),
        ("ingest-pastis", "bad_frames=nowhere.json", ["bad_frames=nowhere.json", "s3://bucket/…"]),
        ("reconstruct", "mapping=worldcerea", ["worldcerea", "worldcereal"]),
        ("reconstruct", "mapping=s3://b/mine.yaml", ["s3://b/mine.yaml", "worldcereal"]),
    ],
)
def test_what_the_cluster_cannot_reach_is_refused(name, override, facts):
    with refused(*facts, status=2):
        sent(name, override)


@pytest.mark.parametrize(
    "address",
    [
        "file:///mnt/with space/st", "file:///mnt/with%20space/st", "file:///mnt/Grünland/st", "file:///mnt/feld #1/st",
        "file:///mnt/was?/st", "file:///mnt/50%/st", "file:/mnt/a: b", "s3://b/feld #1/was?/50%", "s3://b/a@b",
    ],
)  # fmt: skip
def test_a_name_may_hold_anything_and_is_sent_as_it_is(address):
    config, files = sent("simulate", f"output={address}")
    assert config["output"] == address
    assert files == {}


@pytest.mark.parametrize(
    "address", ["file://mnt/st", "file://~/st", "file:///mnt/a b/c%20d", "s3:/b/st", "s3://über/st", "C:/st"]
)
def test_what_the_job_would_refuse_is_refused_before(address):
    with pytest.raises(UserError, match=f"output.*{address}|{address}.*c://|output=C:/st") as refusal:
        sent("simulate", f"output={address}")
    assert refusal.value.status == 2


def test_the_proposed_address_is_that_of_the_path(tmp_path):
    folder = tmp_path / "100%20 #1"
    with pytest.raises(UserError) as refusal:
        sent("simulate", f"output={folder}")
    proposed = str(refusal.value).rpartition("mounts, ")[2]
    assert locate(proposed).path == str(folder)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("ingest-pastis", "source=https://me:TOP-SECRET@example.org/p.zip"),
        ("ingest-pastis", "source=https://example.org/p.zip?X-Amz-Signature=TOP-SECRET"),
        ("ingest-pastis", "source=https://example.org/p.zip?download=1&token=TOP-SECRET"),
        ("ingest-pastis", "source=https://example.org/p.zip?TOP-SECRET"),
        ("ingest-pastis", "source=https://example.org/p.zip#TOP-SECRET"),
        ("ingest-pastis", "source=https://me:TOP-/SECRET@example.org/p.zip"),
        ("train", "data.store=s3://key:TOP-SECRET@b/s"),
        ("train", "data.store=s3://key:TOP-/SECRET@b/s"),
        ("train-clouds", "stores=[s3://b/1, 's3://key:TOP-SECRET@b/2']"),
        ("detect-clouds", "tiles=['https://key:TOP-SECRET@h/x']"),  # wherever it stands
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_shown(name, override):
    with pytest.raises(UserError, match="credentials") as refusal:
        sent(name, override)
    assert "TOP-" not in str(refusal.value)
    assert "SECRET" not in str(refusal.value)


def test_a_harmless_query_is_none():
    assert sent("ingest-pastis", "source=https://example.org/p.zip?download=1")[0]["source"].endswith("?download=1")


def test_small_files_go_along(tmp_path):
    bad = tmp_path / "bad_frames.json"
    bad.write_text(json.dumps({"10000": [2]}))
    config, files = sent("ingest-pastis", f"bad_frames={bad}")
    assert files == {config["bad_frames"]: bad.read_bytes()}
    assert not config["bad_frames"].startswith("/")

    config, files = sent("simulate", "layout=pastis", f"dates={bad}", f"bad_frames={bad}")
    assert files == {config["dates"]: bad.read_bytes(), config["bad_frames"]: bad.read_bytes()}
    assert config["dates"] != config["bad_frames"]

    mapping = tmp_path / "mine.yaml"
    mapping.write_text(dump(load_cube_mapping("theia")))
    config, files = sent("reconstruct", f"mapping={mapping}")
    assert files == {config["mapping"]: mapping.read_bytes()}
    assert sent("reconstruct", "mapping=theia")[0]["mapping"] == "theia"
    assert sent("ingest-pastis", "bad_frames=s3://b/bad.json")[1] == {}

    mapping.write_text("bands: nonsense")
    with refused(str(mapping), "source:", status=2):
        sent("reconstruct", f"mapping={mapping}")
    bad.write_bytes(b" " * (places.MAX_BYTES_OF_A_FILE + 1))
    with refused(f"bad_frames={bad}", f"{places.MAX_BYTES_OF_A_FILE / 1e6:.0f} MB", status=2):
        sent("ingest-pastis", f"bad_frames={bad}")


def test_what_is_sent_says_nothing_of_this_machine(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "TOP-SECRET")
    submission = prepare(JOBS["train"], JOBS["train"].read("tiny", [*S3["train"], "name=site"]), 120)
    assert submission.job_id.startswith("train-site-20")
    assert submission.metadata.keys() - {"commit"} == {"job", "run", "version", "seconds_to_stop"}
    assert submission.environment.keys() - {"RESTORE_DIT_COMMIT"} == {"RAY_JOB_STOP_WAIT_TIME_S", "OMP_WAIT_POLICY"}
    assert submission.entrypoint == f"python -m jobs.train --config {CONFIG_FILE}"
    assert b"TOP-SECRET" not in submission.package
