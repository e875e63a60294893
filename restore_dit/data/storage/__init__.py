"""Files at any URI: a plain path, `file://` or `s3://`.

Every function takes a URI or a `Location`, which can be pickled. For `s3://`, the endpoint comes from
`AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, the region from `AWS_REGION` or `AWS_DEFAULT_REGION`, and credentials from
AWS's usual chain (environment, profile, instance role); they are never part of a URI or a pickle. Every failure is a
one-line `UserError`.
"""

from restore_dit.data.storage.addresses import without_secrets
from restore_dit.data.storage.files import (
    delete,
    delete_abandoned_writes,
    delete_folder,
    exists,
    is_folder,
    list_names,
    open_file,
    read_bytes,
    write_bytes_atomically,
)
from restore_dit.data.storage.locations import Location, Place, locate
from restore_dit.data.storage.ranges import read_ranges
from restore_dit.data.storage.versions import read_versioned, write_if_version

__all__ = [
    "Location",
    "Place",
    "delete",
    "delete_abandoned_writes",
    "delete_folder",
    "exists",
    "is_folder",
    "list_names",
    "locate",
    "open_file",
    "read_bytes",
    "read_ranges",
    "read_versioned",
    "without_secrets",
    "write_bytes_atomically",
    "write_if_version",
]
