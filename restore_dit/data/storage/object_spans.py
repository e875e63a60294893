"""Reads parts of objects, which tile readers do hundreds of times per second.

A request through boto3 costs about 1.4 ms of CPU time with the interpreter's lock held; a presigned URL requested over
a persistent connection about 1 ms. If anything other than the expected bytes is returned, the request is repeated
through boto3, which retries and reports what is wrong. (pyarrow's files need 0.4 ms, but return arbitrary memory
contents if an object has become shorter since it was opened.)
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
    """The object's bytes from `start` up to but not including `stop`, or fewer if it ends before. Raises boto3's
    errors."""
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
    """Scheme and host, by which connections are kept. On AWS the host name includes the bucket."""
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
