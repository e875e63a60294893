"""The S3 server configured in the environment: its address, timeouts and retries."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pyarrow import fs

from restore_dit.data.storage.addresses import on_loopback
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from obstore.store import ClientConfig, S3Config, S3Store

CONNECT_SECONDS = 5
"""Timeout for establishing a connection, and for sending each block of content."""

REQUEST_SECONDS = 6
"""Timeout for the next bytes of a response. In total, the client waits at most four times this long, plus the pauses
between attempts."""

ATTEMPTS = 4
"""Number of attempts for a request that fails temporarily (500, 503 Slow Down, a broken connection), with increasing
pauses."""

CONNECTIONS = 64
"""Maximum number of connections per server that a process keeps open: enough for eight threads that read tiles with up
to eight parallel ranges each. With fewer, connections and TLS sessions would be set up anew for every further
request."""


@dataclass(frozen=True)
class S3Service:
    """Address of a server, without credentials, so that it can be pickled: `endpoint` such as `http://host:9000`, or
    None for AWS itself."""

    endpoint: str | None
    region: str

    def filesystem(self) -> fs.S3FileSystem:
        """The server as pyarrow's file system, for libraries that need one."""
        return _filesystem(self, _keys())

    def client(self) -> BaseClient:
        """The boto3 client of the server."""
        with _making_a_client:
            return _client(self, _keys())

    def store(self, bucket: str) -> S3Store:
        """The obstore client of a bucket, which reads ranges and tries each request once.

        Raises:
            ValueError: there are no keys.
        """
        with _making_a_client:
            return _store(self, bucket, _keys())


def s3_service(bucket: str) -> S3Service:
    """The server that holds `bucket`. Nothing is contacted except AWS, for the region of a bucket if the environment
    does not set it.

    Raises:
        UserError: the endpoint is not a valid address.
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
    """Cache key that changes when the user corrects the credentials in a running process, such as a notebook."""
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


_making_a_client = threading.Lock()  # creating boto3 clients is not thread-safe; using them is


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
            signature_version="s3v4",  # also for presigned URLs, which otherwise use the old version in some regions
            # Servers without a wildcard name need the bucket in the path.
            s3={"addressing_style": "path" if service.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={} if on_loopback(service.endpoint or "") else None,
        ),
    )
    client.meta.events.register("after-call.s3", _require_s3)

    def redirect_at_most_once(model: Any, params: dict[str, Any], **_: Any) -> None:
        # botocore looks up the bucket's region whenever it is redirected, and again if that is redirected, without
        # end. Servers other than AWS have no regions to redirect to.
        if service.endpoint or model.name == "HeadBucket":
            params["context"].setdefault("s3_redirect", {})["redirected"] = True

    client.meta.events.register("before-call.s3", redirect_at_most_once)
    return client


@lru_cache(maxsize=16)
def _store(service: S3Service, bucket: str, keys: tuple[str | None, ...]) -> S3Store:
    import botocore.session
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    session = botocore.session.get_session()
    options: ClientConfig = {
        "allow_http": (service.endpoint or "").startswith("http:"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=REQUEST_SECONDS),
        "timeout": timedelta(hours=1),  # its default of 30 s would cut off large pieces on slow connections
        "pool_max_idle_per_host": str(CONNECTIONS),
    }
    config: S3Config = {
        "region": service.region,
        "virtual_hosted_style_request": not service.endpoint and "." not in bucket,  # as boto3's "auto"
    }
    if service.endpoint:
        config["endpoint"] = service.endpoint
    if bundle := session.get_config_variable("ca_bundle"):
        options["root_certificate"] = Path(bundle).read_bytes()
    if service.endpoint and on_loopback(service.endpoint):
        # The only way to keep it from the environment's proxies: another proxy, from which this host is excluded.
        options |= {"proxy_url": "http://unused.invalid", "proxy_excludes": urlsplit(service.endpoint).hostname or ""}
    return S3Store(
        bucket,
        config=config,
        credential_provider=Boto3CredentialProvider(session),
        client_options=options,
        retry_config={"max_retries": 0},
    )


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
    """Rejects responses that do not come from an S3 server. A login page or proxy that returns 200 for everything would
    otherwise be mistaken for an empty bucket, or for a successful write. Every S3 server includes certain fields, which
    must be present.

    Raises:
        ClientError: with the HTTP status as its code, which `explained` recognises as not an S3 server's.
    """
    from botocore.exceptions import ClientError

    wanted = _ALWAYS_ANSWERED.get(model.name)
    # Responses to deletions have no body.
    missing = wanted not in parsed if wanted else "html" in http_response.headers.get("Content-Type", "")
    # botocore treats a 200 without XML as a 500, which it would retry.
    status, code = http_response.raw.status, parsed.get("Error", {}).get("Code", "")
    if status < 300 and (code.isdigit() or (not code and missing)):
        raise ClientError({"Error": {"Code": str(status), "Message": "not as S3 does"}}, model.name)
