"""Progress of long steps: a line that is redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO


class Progress:
    """Counts the completed items of a step, and reports the rate and the remaining time.

    On a terminal a line is redrawn at most ten times per second; elsewhere a line is written every `plain_every`
    seconds, so that logs stay readable.

    Args:
        what: the step, such as ``indexing``.
        total: the number of items; None if it is unknown.
        unit: the name of the items, such as ``images``.
        stream: where to write; None for standard error.
        plain_every: seconds between lines if the stream is not a terminal.
    """

    def __init__(
        self, what: str, total: int | None, unit: str, stream: TextIO | None = None, plain_every: float = 10.0
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every = 0.1 if self._live else plain_every
        self._start = self._last = time.monotonic()
        self._done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(final=True)
        elif self._live:
            self._stream.write("\n")

    def advance(self, items: int = 1) -> None:
        """Count completed items, and report if it is time."""
        self._done += items
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._write(final=False)

    def _write(self, final: bool) -> None:
        line = self.line(time.monotonic() - self._start)
        if self._live:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if final else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def line(self, seconds: float) -> str:
        """The line to show after `seconds`."""
        rate = self._done / seconds if seconds > 0 else 0.0
        of = f" of {self._total:,}" if self._total is not None else ""
        line = f"{self._what}: {self._done:,}{of} {self._unit}, {rate:,.1f}/s"
        if self._total is not None and 0 < self._done < self._total and rate > 0:
            line += f", {duration((self._total - self._done) / rate)} left"
        elif self._done:
            line += f", {duration(seconds)}"
        return line


def duration(seconds: float) -> str:
    """Format seconds for humans: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
