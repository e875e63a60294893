"""The S3 server that the environment names: its address, and how patiently this project talks to it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pyarrow import fs

from restore_dit.data.storage.addresses import on_loopback
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from botocore.client import BaseClient

CONNECT_SECONDS = 5
"""For a connection to be there, and for each block of a content to be taken."""

REQUEST_SECONDS = 6
"""For the next bytes of an answer. The client waits, in all, at most four times that and the pauses between."""

ATTEMPTS = 4
"""A request that fails in passing (500, 503 Slow Down, a broken connection) is sent so many times, with pauses that
grow."""

CONNECTIONS = 64
"""At most so many connections to a server a process keeps open: for eight threads that read tiles, each up to eight
ranges side by side. With fewer, the rest would be opened, and encryption agreed on, anew for every request."""


@dataclass(frozen=True)
class S3Service:
    """Where a server is, without any credentials, so that it may be pickled: `endpoint` such as `http://host:9000`,
    None for AWS itself."""

    endpoint: str | None
    region: str

    def filesystem(self) -> fs.S3FileSystem:
        """The server as pyarrow's file system, for libraries that take one."""
        return _filesystem(self, _keys())

    def client(self) -> BaseClient:
        """The server's own operations, each of which is one request."""
        with _making_a_client:
            return _client(self, _keys())


def s3_service(bucket: str) -> S3Service:
    """The server that holds `bucket`. Nothing is contacted but AWS, for a bucket's region that the environment does
    not say.

    Raises:
        UserError: an endpoint that is not an address.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not endpoint:
        return S3Service(None, region or _region_of(bucket))
    address = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if address.scheme not in ("http", "https") or not address.hostname or not _has_valid_port(address):
        raise UserError(f"AWS_ENDPOINT_URL={endpoint}: not an address; write http://host:port or https://host")
    return S3Service(f"{address.scheme}://{address.netloc}", region or "us-east-1")


def _has_valid_port(address: SplitResult) -> bool:
    try:
        return address.port != 0
    except ValueError:
        return False


@lru_cache(maxsize=16)
def _region_of(bucket: str) -> str:
    return fs.resolve_s3_region(bucket)


def _keys() -> tuple[str | None, ...]:
    """What changes when somebody mends the keys in a process that goes on, such as a notebook."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    return tuple(os.environ.get(name) for name in names)


@lru_cache(maxsize=16)
def _filesystem(service: S3Service, keys: tuple[str | None, ...]) -> fs.S3FileSystem:
    scheme, _, address = (service.endpoint or "").partition("://")
    if address:
        # Servers other than AWS's own reject the SDK's newer default checksums.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    return fs.S3FileSystem(
        scheme=scheme or None,
        endpoint_override=address or None,
        region=service.region,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        force_virtual_addressing=False,
    )


_making_a_client = threading.Lock()  # boto3 makes clients in one thread at a time; made, they serve any


@lru_cache(maxsize=16)
def _client(service: S3Service, keys: tuple[str | None, ...]) -> BaseClient:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=service.endpoint,
        region_name=service.region,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=REQUEST_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=CONNECTIONS,
            signature_version="s3v4",  # for signed addresses too, which otherwise have the old one in some regions
            # Servers without a wildcard name need the bucket in the path.
            s3={"addressing_style": "path" if service.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={} if on_loopback(service.endpoint or "") else None,
        ),
    )
    client.meta.events.register("after-call.s3", _require_s3)

    def redirect_at_most_once(model: Any, params: dict[str, Any], **_: Any) -> None:
        # botocore asks for the bucket's region whenever it is redirected, and again when that is redirected, without
        # end. Servers other than AWS's have no regions to go to.
        if service.endpoint or model.name == "HeadBucket":
            params["context"].setdefault("s3_redirect", {})["redirected"] = True

    client.meta.events.register("before-call.s3", redirect_at_most_once)
    return client


_ALWAYS_ANSWERED = {
    "GetObject": "ETag",
    "HeadObject": "ETag",
    "PutObject": "ETag",
    "CreateMultipartUpload": "UploadId",
    "UploadPart": "ETag",
    "CompleteMultipartUpload": "ETag",
    "ListObjectsV2": "IsTruncated",
    "ListMultipartUploads": "IsTruncated",
}


def _require_s3(http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """A login page or a proxy that answers 200 to everything would pass for an empty bucket, and for a write that was
    done: what every S3 server says must be there.

    Raises:
        ClientError: with the status for its code, which `explained` knows for no S3 server's.
    """
    from botocore.exceptions import ClientError

    wanted = _ALWAYS_ANSWERED.get(model.name)
    # To a deletion nothing is answered.
    missing = wanted not in parsed if wanted else "html" in http_response.headers.get("Content-Type", "")
    # botocore takes 200 with something else than XML for a 500, which would be worth another try.
    status, code = http_response.raw.status, parsed.get("Error", {}).get("Code", "")
    if status < 300 and (code.isdigit() or (not code and missing)):
        raise ClientError({"Error": {"Code": str(status), "Message": "not as S3 does"}}, model.name)
