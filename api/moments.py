"""How is a moment read and written? In UTC, ISO 8601, always with microseconds and Z."""

from datetime import UTC, datetime

from django.core.exceptions import ValidationError


def in_utc(moment: datetime) -> datetime:
    """PostgreSQL takes offsets to 16 hours, Python to 24. Raises ValidationError beyond year 1 or 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError("This moment is out of range.") from None


def as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
