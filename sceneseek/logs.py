"""Log lines, for people or for programs: one format for the whole process.

As text a line is `time LEVEL logger: message`, as JSON one object with the members `time` (ISO 8601, UTC), `level`,
`logger` and `message`, then what the line has been given (`extra`), and `exception` with a traceback. What holds for
everything that is written in some context, such as the id of the request that is being answered, is in `log_fields`
and goes into every line of that context. A line is one line, whatever a file's name or a client's words hold;
only a traceback in the text format takes more.
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

log_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039 - a Mapping is not written to
"""What every line of the present context carries."""

# What a record has of itself; the rest came as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """Lines for people; the fields of the context stand in brackets after the logger's name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(context)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without a traceback."""
        record.message = one_line(record.message)
        fields = log_fields.get()
        record.context = f" [{' '.join(fields.values())}]" if fields else ""
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Lines for programs; see the module's docstring. ASCII, since the name of a file may be no text at all."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_fields.get(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _OWN and name not in line}
        # Libraries mark every record of the process with names such as _ray_timestamp_ns.
        line |= {name: value for name, value in given.items() if not name.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str, separators=(",", ":"))


def set_up(log_format: LogFormat, debug: bool = False, verbose: bool = False) -> None:
    """Write to standard error from now on, in this process and in those that it forks.

    Text is for a person at a terminal, who sees only warnings and errors, unless they ask for more. JSON is for a
    collector, which filters for itself: it gets what was chosen and why, and each request, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    usual = logging.INFO if verbose or log_format == "json" else logging.WARNING
    logging.basicConfig(level=logging.DEBUG if debug else usual, handlers=[handler])
    logging.getLogger("PIL").setLevel(logging.INFO)
    if not debug:
        # A line for each call to Qdrant, beside the one of the request that made it.
        logging.getLogger("httpx").setLevel(logging.WARNING)


def in_json() -> bool:
    """Whether this process's lines are JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
