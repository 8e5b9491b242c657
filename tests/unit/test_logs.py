"""Log lines: one line each, as text or as JSON, with what holds where they are written."""

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
    made = logging.getLogger("a.logger").makeRecord("a.logger", logging.WARNING, "f.py", 1, message, arguments, None)
    vars(made).update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert line.isascii()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def failed() -> logging.LogRecord:
    try:
        raise ValueError("no\nway")
    except ValueError:
        made = record("it failed")
        made.exc_info = sys.exc_info()
        return made


def test_json_has_time_level_logger_message_and_what_the_line_was_given() -> None:
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


def test_json_takes_names_that_are_no_text_and_values_that_are_no_json() -> None:
    line = as_json(record("%s", "caf\udce9.jpg\n", where=object))
    assert line["message"] == "caf\udce9.jpg\n"
    assert "object" in line["where"]


def test_what_is_given_cannot_pass_for_something_else() -> None:
    assert as_json(record("true", level="forged", time="forged"))["level"] == "warning"


def test_a_traceback_is_a_member_in_json_and_lines_in_text() -> None:
    assert "ValueError: no\nway" in as_json(failed())["exception"]
    assert TextFormatter().format(failed()).splitlines()[1] == "Traceback (most recent call last):"


def test_text_is_one_line_whatever_a_client_sends() -> None:
    line = TextFormatter().format(record("GET %s", "/\n2026-01-01 00:00:00,000 ERROR forged: line\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith(r"WARNING a.logger: GET /\n2026-01-01 00:00:00,000 ERROR forged: line\x1b[2J")


def test_every_line_of_a_context_carries_its_fields() -> None:
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
def test_text_is_quiet_unless_asked_and_json_tells_what_was_chosen(options: tuple[str, ...], logged: list[str]) -> None:
    program = (
        "import logging, sys, sceneseek.cli as cli\n"
        "@cli.cli.command()\n"
        "def speak():\n"
        "    log = logging.getLogger('speaker'); log.debug('detail'); log.info('told'); log.warning('warned')\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *options, "speak"], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stderr.splitlines()
    said = [json.loads(line)["message"] if "json" in options else line.rpartition(": ")[2] for line in lines]
    assert said == [*logged, "warned"]


def test_a_failure_is_a_json_line_where_lines_are_json(sceneseek: CommandLine) -> None:
    done = sceneseek("search", "a dog", "--bundle", "no/such", SCENESEEK_LOG_FORMAT="json")
    line = json.loads(done.stderr)
    assert (done.returncode, line["level"]) == (1, "error")
    assert "no bundle at no/such" in line["message"]
    told = sceneseek("search", "a dog", "--bundle", "no/such").stderr
    assert told.startswith("error: no bundle at no/such")
