"""Selects the bands that the rule uses."""

from __future__ import annotations

from dataclasses import dataclass

from restore_dit.errors import UserError

_SHORT = ("B02", "B03", "B04", "B05")
_NEAR_INFRARED = ("B8A", "B08")
_SHORTWAVE = ("B11",)


@dataclass(frozen=True)
class RuleBands:
    """Band names: `short`, in which cloud stands out most; `green`, in which snow is bright; `near` and `shortwave`
    infrared, in which shadow is dark. At most one of the two infrared bands may be missing."""

    short: str
    green: str
    near: str | None
    shortwave: str | None

    @property
    def used(self) -> tuple[str, ...]:
        """All of these bands, each once."""
        return tuple(dict.fromkeys(band for band in (self.short, self.green, self.near, self.shortwave) if band))


def require_rule_bands(bands: tuple[str, ...]) -> None:
    """Raises `UserError` if these bands do not suffice for the rule."""
    rule_bands(bands)


def rule_bands(bands: tuple[str, ...]) -> RuleBands:
    """The bands that the rule uses, out of those available.

    Raises:
        UserError: there is no band for detecting cloud, or none for shadow.
    """
    short = _first(_SHORT, bands)
    near, shortwave = _first(_NEAR_INFRARED, bands), _first(_SHORTWAVE, bands)
    if short is None or (near is None and shortwave is None):
        needed = _SHORT if short is None else (*_NEAR_INFRARED, *_SHORTWAVE)
        raise UserError(
            f"the cloud rule needs one of the bands {', '.join(needed)}; the tile has {', '.join(bands)}: ingest one "
            "of them, or use another method"
        )
    return RuleBands(short, "B03" if "B03" in bands else short, near, shortwave)


def _first(wanted: tuple[str, ...], bands: tuple[str, ...]) -> str | None:
    return next((band for band in wanted if band in bands), None)
