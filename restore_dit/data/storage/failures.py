"""Storage failures as one line: what failed, where, and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from restore_dit.errors import StorageUnavailable, UserError

_OVERLOADED = "the storage server is overloaded or failing: try again later"
_UNREACHABLE = "the storage server cannot be reached: check AWS_ENDPOINT_URL, the network, and that the server runs"

# Messages of servers and of the AWS client, and what the user can do about them; the first match counts.
_ADVICE = (
    (
        r"NO_SUCH_BUCKET|NoSuchBucket|InvalidBucketName|Bucket '.*' not found",
        "the bucket does not exist: correct its name or create it first",
    ),
    (
        r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|INVALID_SIGNATURE"
        r"|UNRECOGNIZED_CLIENT|TokenRefreshRequired|EXPIRED_TOKEN|ExpiredToken|INVALID_CLIENT_TOKEN_ID|InvalidToken",
        "the server rejects these keys: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    ),
    (
        r"Unable to locate credentials|Partial credentials",
        "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    (
        r"RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|RequestExpired",
        "the server rejects the time of the request: correct this machine's clock",
    ),
    (
        r"PermanentRedirect|TemporaryRedirect|IncorrectEndpoint|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket is in another region: set AWS_REGION to that region",
    ),
    (
        r"ACCESS_DENIED|AccessDenied|AllAccessDisabled|HTTP status 403|\(403\)|Forbidden",
        "access denied: check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and their permissions on this bucket",
    ),
    (
        r"SlowDown|SLOW_DOWN|ServiceUnavailable|InternalError|HTTP status 50[0234]|\(50[0234]\)",
        _OVERLOADED,
    ),
    (
        r"SSL validation failed|SSL_CONNECT",
        "no secure connection: check whether AWS_ENDPOINT_URL is http:// or https://, and AWS_CA_BUNDLE",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|Couldn't connect|Could not connect|Connection was closed|Connection broken"
        r"|REQUEST_TIMEOUT|[Tt]imed? ?out|Could not resolve",
        _UNREACHABLE,
    ),
    (r"NO_SUCH_KEY|NoSuchKey|Path does not exist|RESOURCE_NOT_FOUND", "not found: check the path"),
    # S3 error codes are names; a numeric code comes from some other server.
    (
        r"error occurred \(\d+\)|[Uu]nable to parse response|HTTP status 501",
        "the server that responds is not an S3 server: check AWS_ENDPOINT_URL",
    ),
)


@contextmanager
def explained(uri: str, action: str) -> Iterator[None]:
    """Context that turns a storage failure into a one-line `UserError`: what failed, where, and what to do."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{uri}: not found: check the path") from None
    except PermissionError:
        raise UserError(
            f"{uri}: cannot {action}: permission denied: check the permissions of the file and its folder"
        ) from None
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{uri}: cannot {action}: {error.strerror or _first_line(error)}; check the path") from None
    except (OSError, pa.ArrowException, ClientError, BotoCoreError) as error:
        message = str(error)
        advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, message)), None)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "no space left: free some space or choose another location"
        kind = StorageUnavailable if advice in (_OVERLOADED, _UNREACHABLE) else UserError
        raise kind(f"{uri}: cannot {action}: {advice or _first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
