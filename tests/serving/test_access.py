"""Who gets in, what may be named, and what of it is never said."""

from __future__ import annotations

import asyncio
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.config.loading import load_section
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from serving.access import RateLimit, Tokens, own_token_file, tokens_from_environment
from serving.config import ServingConfig
from serving.inputs import Inputs, NamedInput
from serving.records import Records, Request, RequestOptions, State
from tests.messages import refused

SECRET = "0123456789abcdef"


def test_a_token_is_its_holders_and_nothing_near_it_is():
    tokens = Tokens({"ann": SECRET, "bob": SECRET[::-1]})
    assert tokens.holder(f"Bearer {SECRET}") == "ann"
    assert tokens.holder(f"bearer {SECRET[::-1]}") == "bob"
    for header in (
        None,
        "",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        "Bearer ",
        "Bearer é",
    ):
        assert tokens.holder(header) is None


@pytest.mark.parametrize("text", ["", "ann", "ann:short", f"a b:{SECRET}", f"ann:{SECRET},:{SECRET}", "# nothing"])
def test_bad_tokens_are_refused_without_being_shown(monkeypatch, text):
    monkeypatch.setenv("RESTORE_DIT_TOKENS", text)
    with pytest.raises(UserError) as refusal:
        tokens_from_environment()
    assert SECRET not in str(refusal.value)
    assert "short" not in str(refusal.value)


def test_tokens_come_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.delenv("RESTORE_DIT_TOKENS", raising=False)
    assert tokens_from_environment() is None
    path = own_token_file(tmp_path / "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert own_token_file(tmp_path / "new").read_text() == path.read_text()
    monkeypatch.setenv("RESTORE_DIT_TOKEN_FILE", str(path))
    secret = path.read_text().strip().partition(":")[2]
    assert tokens_from_environment().holder(f"Bearer {secret}") == "owner"
    monkeypatch.setenv("RESTORE_DIT_TOKEN_FILE", str(tmp_path / "none"))
    with refused(f"{tmp_path}/none"):
        tokens_from_environment()


def test_who_calls_too_often_waits_and_nobody_else():
    limit = RateLimit(3)
    assert [limit.seconds_to_wait("ann") for _ in range(3)] == [0, 0, 0]
    assert 55 < limit.seconds_to_wait("ann") <= 60
    assert limit.seconds_to_wait("bob") == 0


def test_without_tokens_it_listens_on_loopback_only():
    assert load_section(ServingConfig, ["open=true"]).open
    with refused("host", "127.0.0.1", status=2):
        load_section(ServingConfig, ["open=true", "host=0.0.0.0"])


ALLOWED = ServingConfig(storage=("s3://open/series", "/srv/data"))


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd", "etc/passwd", "file:///etc/passwd", "/srv/data/a.nc", "s3://open/series", "s3://open/series/",
        "s3://open/seriesother/a.nc", "s3://open/series/../secret/a.nc", "s3://open/series/./a.nc", "s3://other/a.nc",
        "s3://open/series//a.nc", "s3://open/series/%2e%2e/a.nc", "s3://key:secret@open/series/a.nc", "http://open/series/a",
        "s3://open/series/a.nc?x=1", "s3://open/series/a\n.nc", "S3://open/series/a.nc", "s3:/open/series/a.nc",
    ],
)  # fmt: skip
def test_what_lies_outside_the_allowed_storage_is_refused(uri):
    inputs = Inputs.of(ALLOWED)
    with pytest.raises(UserError) as refusal:
        asyncio.run(inputs.read("uri", "uri", NamedInput(uri=uri).model_dump_json().encode()))
    assert "open" not in str(refusal.value)


def test_what_lies_inside_is_not():
    Inputs.of(ALLOWED).require_allowed("s3://open/series/2024/a.nc")


@given(st.text(max_size=40))
def test_no_text_is_an_id_that_leads_out_of_the_folder(text):
    records = Records(locate("/nowhere/state"))
    try:
        place = records.place(text)
    except KeyError:
        return
    assert place.path == f"/nowhere/state/{text}"
    assert "/" not in text
    assert "." not in text


def test_records_come_back_and_expire(tmp_path):
    records = Records(locate(str(tmp_path)))
    request = Request(
        id=records.new_id(),
        owner="ann",
        wanted=RequestOptions(seed=4, dates=("2019-01-01",)),
        kind="netcdf",
        name="a",
        created=1.0,
    )
    records.put_input(request, b"content")
    assert (records.ids(), records.expired(10, 10)) == ([request.id], [])
    records.add(request)
    assert records.ids() == [request.id]
    assert records.request(request.id) == request
    assert (records.state(request.id).status, records.state(request.id).attempts) == ("queued", 0)
    assert records.input(request) == b"content"
    assert records.expired(10, 0) == []
    records.set_state(request.id, State(status="done", ended=5.0))
    assert records.expired(10, 10) == [request.id]
    records.delete(request.id)
    assert records.ids() == []
    with pytest.raises(KeyError):
        records.state(request.id)
    (tmp_path / request.id).mkdir()
    (tmp_path / request.id / "state.json").write_text("{")
    with pytest.raises(KeyError):
        records.state(request.id)
    assert records.expired(10, 10) == []  # it may be about to be written
    assert records.expired(10, 0) == [request.id]
