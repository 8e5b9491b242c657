"""Log formatters: one line per record, as text or JSON, with context fields."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from sceneseek.logs import JsonFormatter, TextFormatter, log_fields
from tests.command_line import CommandLine


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    log_record = logging.getLogger("a.logger").makeRecord(
        "a.logger", logging.WARNING, "f.py", 1, message, arguments, None
    )
    vars(log_record).update(extra)
    return log_record


def as_json(log_record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(log_record)
    assert "\n" not in line
    assert line.isascii()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def record_with_traceback() -> logging.LogRecord:
    try:
        raise ValueError("no\nway")
    except ValueError:
        log_record = record("it failed")
        log_record.exc_info = sys.exc_info()
        return log_record


def test_json_line_has_time_level_logger_message_and_extra_fields() -> None:
    line = as_json(record("%d of %s", 3, "four", status=200, stages={"encode": 1.5}, _of_a_library=1))
    assert line.pop("time").endswith("Z")
    expected = {
        "level": "warning",
        "logger": "a.logger",
        "message": "3 of four",
        "status": 200,
        "stages": {"encode": 1.5},
    }
    assert line == expected


def test_json_line_handles_surrogates_and_unserializable_values() -> None:
    line = as_json(record("%s", "caf\udce9.jpg\n", where=object))
    assert line["message"] == "caf\udce9.jpg\n"
    assert "object" in line["where"]


def test_extra_fields_cannot_override_standard_fields() -> None:
    assert as_json(record("true", level="forged", time="forged"))["level"] == "warning"


def test_traceback_is_exception_field_in_json_and_lines_in_text() -> None:
    assert "ValueError: no\nway" in as_json(record_with_traceback())["exception"]
    assert TextFormatter().format(record_with_traceback()).splitlines()[1] == "Traceback (most recent call last):"


def test_text_line_escapes_control_characters() -> None:
    line = TextFormatter().format(record("GET %s", "/\n2026-01-01 00:00:00,000 ERROR forged: line\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith(r"WARNING a.logger: GET /\n2026-01-01 00:00:00,000 ERROR forged: line\x1b[2J")


def test_context_fields_are_added_to_every_line() -> None:
    token = log_fields.set({"request_id": "abc"})
    try:
        assert as_json(record("said"))["request_id"] == "abc"
        assert TextFormatter().format(record("said")).endswith(" WARNING a.logger [abc]: said")
    finally:
        log_fields.reset(token)
    assert "request_id" not in as_json(record("said"))


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        ((), []),
        (("--verbose",), ["told"]),
        (("--log-format", "json"), ["told"]),
        (("--debug",), ["detail", "told"]),
    ],
)
def test_default_level_depends_on_format_and_options(options: tuple[str, ...], logged: list[str]) -> None:
    program = (
        "import logging, sys, sceneseek.cli as cli\n"
        "@cli.cli.command()\n"
        "def speak():\n"
        "    log = logging.getLogger('speaker'); log.debug('detail'); log.info('told'); log.warning('warned')\n"
        "cli.main()"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, *options, "speak"], capture_output=True, text=True, check=True, timeout=60
    )
    lines = completed.stderr.splitlines()
    messages = [json.loads(line)["message"] if "json" in options else line.rpartition(": ")[2] for line in lines]
    assert messages == [*logged, "warned"]


def test_error_is_json_line_with_json_log_format(sceneseek: CommandLine) -> None:
    completed = sceneseek("search", "a dog", "--bundle", "no/such", SCENESEEK_LOG_FORMAT="json")
    line = json.loads(completed.stderr)
    assert (completed.returncode, line["level"]) == (1, "error")
    assert "no bundle at no/such" in line["message"]
    told = sceneseek("search", "a dog", "--bundle", "no/such").stderr
    assert told.startswith("error: no bundle at no/such")
