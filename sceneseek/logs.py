"""Logging as text or JSON, in one format for the whole process.

A text line is `time LEVEL logger: message`. A JSON line is an object with the members `time` (ISO 8601, UTC), `level`,
`logger` and `message`, the `extra` fields of the record, and `exception` with a traceback. The fields of the context
variable `log_fields`, such as the id of the current request, are added to all lines. Messages are escaped to one line;
only tracebacks in the text format span several.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from sceneseek.errors import one_line

LogFormat = Literal["text", "json"]

log_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039 - a Mapping is read-only
"""Fields of every log line in the current context."""

# The standard attributes of a record; all others are `extra` fields.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """Formats records as text; the fields of the context are in brackets after the logger's name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(context)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the line, without a traceback."""
        record.message = one_line(record.message)
        fields = log_fields.get()
        record.context = f" [{' '.join(fields.values())}]" if fields else ""
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Formats records as JSON; see the module's docstring. ASCII, since file names may not be valid UTF-8."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a JSON object."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_fields.get(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        # Libraries add private attributes, such as _ray_timestamp_ns, to every record of the process.
        line |= {name: value for name, value in extra.items() if not name.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str, separators=(",", ":"))


def set_up(log_format: LogFormat, debug: bool = False, verbose: bool = False) -> None:
    """Log to standard error, in this process and its forks.

    Text is for terminals and has only warnings and errors by default. JSON is for log collectors, which filter
    themselves, so it includes informational messages, such as requests and the reasons of automatic choices.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    default = logging.INFO if verbose or log_format == "json" else logging.WARNING
    logging.basicConfig(level=logging.DEBUG if debug else default, handlers=[handler])
    logging.getLogger("PIL").setLevel(logging.INFO)
    if not debug:
        # httpx logs each call to Qdrant, in addition to the request that caused it.
        logging.getLogger("httpx").setLevel(logging.WARNING)


def in_json() -> bool:
    """Whether this process logs JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
