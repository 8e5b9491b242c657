"""Run `sceneseek`: in this process, which spares an interpreter's imports, or as a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sceneseek import cli

PROGRAM = Path(sys.executable).with_name("sceneseek")
_PATIENCE = 280.0
# Python's own, since pytest turns warnings of the libraries that commands use into errors.
_SILENT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class CommandLine:
    """`sceneseek("search", "a dog", SCENESEEK_INDEX=url)`: never raises on failure."""

    def __call__(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """In this process: a command that ends by itself and whose imports, limits and signals are not the subject."""
        words, code = list(map(str, arguments)), 0
        with CliRunner().isolation(env=environment) as (out, err, _), _process_state(words):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            sys.stdout.flush()
            sys.stderr.flush()
            said = [stream.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)]
        return subprocess.CompletedProcess(words, code, *said)

    def process(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """As a user starts it."""
        return subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_PATIENCE,
            env={**os.environ, **environment},
            check=False,
        )


@contextmanager
def _process_state(words: list[str]) -> Iterator[None]:
    """Arguments for the command, and afterwards what a command changes of its process as it was."""
    root = logging.getLogger()
    handlers, level, stops = root.handlers[:], root.level, (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in stops]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", [str(PROGRAM), *words])
        patch.setattr(os, "nice", lambda _: 0)
        for category in _SILENT:
            warnings.simplefilter("ignore", category)
        root.handlers[:] = []
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in zip(stops, before, strict=True):
                signal.signal(number, handler)
            torch: Any = sys.modules.get("torch")
            if torch is not None:
                torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
