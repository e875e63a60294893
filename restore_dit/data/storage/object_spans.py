"""Reading parts of objects, which readers of tiles do hundreds of times a second.

boto3's own way to a request costs about 1.4 ms of a processor, with the interpreter's lock held; an address that it has
signed, asked for over a connection that stays open, about 1 ms. Where anything else than the bytes comes back, boto3
goes its way: it tries more often, and says what the matter is. (pyarrow's files need 0.4 ms, but fill up with whatever
was in memory where an object has become shorter since they were opened.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError

from restore_dit.data.storage.addresses import on_loopback
from restore_dit.data.storage.locations import Location
from restore_dit.data.storage.objects import object_name, read_object
from restore_dit.data.storage.s3_service import CONNECT_SECONDS, CONNECTIONS, REQUEST_SECONDS

if TYPE_CHECKING:
    from botocore.httpsession import URLLib3Session

_VALID_SECONDS = 900
_PARTIAL_CONTENT = 206


def read_span(location: Location, start: int, stop: int) -> bytes:
    """The object's bytes from `start` up to `stop`, or fewer where it ends before. Failures are those of boto3."""
    from botocore.awsrequest import AWSRequest
    from botocore.response import StreamingBody

    assert location.s3 is not None
    address = location.s3.client().generate_presigned_url("get_object", object_name(location), ExpiresIn=_VALID_SECONDS)
    span = {"Range": f"bytes={start}-{stop - 1}"}
    request = AWSRequest("GET", address, headers=span, stream_output=True)
    try:
        answer = _connections(_server(address)).send(request.prepare())
        content: bytes = StreamingBody(answer.raw, content_length=None).read()
    except BotoCoreError:
        return read_object(location, (start, stop))
    if answer.status_code == _PARTIAL_CONTENT and len(content) == stop - start:
        return content
    return read_object(location, (start, stop))


def _server(address: str) -> str:
    """Scheme and host: what connections can be kept for. On AWS the host has the bucket in its name."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=16)
def _connections(server: str) -> URLLib3Session:
    import botocore.session
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    return URLLib3Session(
        verify=botocore.session.get_session().get_config_variable("ca_bundle") or True,
        proxies={} if on_loopback(server) else get_environ_proxies(server),
        timeout=(CONNECT_SECONDS, REQUEST_SECONDS),
        max_pool_connections=CONNECTIONS,
    )
