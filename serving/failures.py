"""Errors that are the service's fault rather than the caller's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from restore_dit.errors import StorageUnavailable, UserError

log = logging.getLogger(__name__)


class ServiceFailure(Exception):
    """An error that the operator must fix. Its details are only logged, because they name the service's own paths."""


@contextmanager
def hiding_operator_errors() -> Iterator[None]:
    """Hides from the caller any `UserError` raised inside: it is logged for the operator and replaced.
    `StorageUnavailable` passes through, because a retry may succeed.

    Raises:
        ServiceFailure: in place of a `UserError`.
    """
    try:
        yield
    except StorageUnavailable:
        raise
    except UserError as error:
        log.error("%s", error)
        raise ServiceFailure from None
