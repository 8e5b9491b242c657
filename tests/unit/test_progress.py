"""Progress: one line redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from sceneseek.progress import Progress, duration


class Terminal(io.StringIO):
    """A stream whose `isatty` is true."""

    def isatty(self) -> bool:
        return True


def test_log_output_has_plain_lines_with_rate_and_time_left() -> None:
    stream = io.StringIO()
    with Progress("indexing", 100, "images", stream, plain_every=0) as progress:
        progress.advance(50)
        progress.advance(50)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("indexing: 50 of 100 images, ")
    assert lines[0].endswith(" left")
    assert lines[-1].startswith("indexing: 100 of 100 images, ")
    assert "\r" not in stream.getvalue()


def test_terminal_output_redraws_one_line() -> None:
    stream = Terminal()
    with Progress("indexing", 2, "images", stream) as progress:
        progress.advance()
        progress.advance()
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")


def test_time_left_is_estimated_from_the_average_rate() -> None:
    progress = Progress("x", 300, "images", io.StringIO())
    progress.advance(100)
    assert progress.line(seconds=10) == "x: 100 of 300 images, 10.0/s, 20.0 s left"


def test_failure_prints_no_final_line() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Progress("x", 2, "images", stream):
        raise RuntimeError
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "0.0 s"), (4.21, "4.2 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_duration_is_human_readable(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
