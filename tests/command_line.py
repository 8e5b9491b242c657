"""Run `sceneseek` in this process, which saves the start of an interpreter, or in a subprocess."""

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
# Python ignores these by default, but pytest turns them into errors.
_SILENT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class CommandLine:
    """Run `sceneseek("search", "a dog", SCENESEEK_INDEX=url)`; a failing command does not raise."""

    def __call__(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process. For tests of imports, limits or signals use `process`."""
        words, code = list(map(str, arguments)), 0
        with CliRunner().isolation(env=environment) as (out, err, _), _process_state(words):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            sys.stdout.flush()
            sys.stderr.flush()
            outputs = [stream.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)]
        return subprocess.CompletedProcess(words, code, *outputs)

    def process(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a subprocess, as a user does."""
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
    """Set the command's arguments, and restore the process state that a command changes."""
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
