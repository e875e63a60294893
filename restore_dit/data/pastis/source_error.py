"""The error for a source that is unavailable as a whole."""

from restore_dit.errors import UserError


class SourceUnreachable(UserError):
    """The source as a whole can no longer be read: no individual patch is at fault, and the ingest must stop."""
