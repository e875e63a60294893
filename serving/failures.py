"""What goes wrong without any fault of the caller."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from restore_dit.errors import StorageAway, UserError

log = logging.getLogger(__name__)


class ServiceFailure(Exception):
    """What the service's operator must mend; its text, which names the service's own paths, is in the log."""


@contextmanager
def of_the_service() -> Iterator[None]:
    """Whatever one line would say of what happens here is for the operator. That storage is away stays as it is: the
    same may work later.

    Raises:
        ServiceFailure: in place of a `UserError`.
    """
    try:
        yield
    except StorageAway:
        raise
    except UserError as error:
        log.error("%s", error)
        raise ServiceFailure from None
