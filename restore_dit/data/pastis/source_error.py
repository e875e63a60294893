"""The failure that is not one patch's: the place that they all come from has gone."""

from restore_dit.errors import UserError


class SourceUnreachable(UserError):
    """The source as a whole cannot be read any more: no patch is to blame, and the ingest must stop."""
