"""ISO 8601 dates, which may be whole years, months or days."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta


def span_of(text: str) -> tuple[datetime, datetime] | None:
    """The first instant of a date and the first after it; twice the same for a time of day. None: no date."""
    try:
        if match := re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text, re.ASCII):
            year, month, day = match.groups()
            start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
            if day:
                return start, start + timedelta(days=1)
            if month:
                return start, datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
            return start, datetime(start.year + 1, 1, 1, tzinfo=UTC)
        if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
            return None
        instant = datetime.fromisoformat(text)
        instant = (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant, instant
