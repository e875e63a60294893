"""What tests ask of a message: that it names the facts (files, keys, options, values, counts), in whatever words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from restore_dit.errors import UserError


def assert_names(message: str, *facts: str | float) -> None:
    """Every fact is in `message`, and not as a part of a longer word or number: 2 is not in "24 of 0.2"."""
    assert facts, "without facts every message would do"
    lacking = [fact for fact in facts if not re.search(_alone(str(fact)), message)]
    assert not lacking, f"{lacking} not in: {message}"


@contextmanager
def refused(
    *facts: str | float, status: int = 1, kind: type[UserError] = UserError
) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """What is done inside ends in a `UserError` of one line that names every fact, for this exit status."""
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert_names(message, *facts)
    assert "\n" not in message
    assert caught.value.status == status


def _alone(fact: str) -> str:
    before = r"(?<!\w)(?<!\d\.)" if fact[0].isalnum() else ""
    after = r"(?!\w|\.\d)" if fact[-1].isalnum() else ""
    return before + re.escape(fact) + after
