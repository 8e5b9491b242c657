"""`scripts/install-torch`: which torch it takes, with the real pip, stub wheels, and indexes on this machine."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pip
import pytest

from tests.stack import ROOT

(PINNED,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
# What the registry's wheel of torch needs and the CPU build does not, in small.
CUDA = "stub-cuda"
NOTHING_LISTENS = "http://127.0.0.1:9/simple"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package index with a torch that brings CUDA."""
    folder = tmp_path_factory.mktemp("registry")
    wheel(folder / "torch", "torch", PINNED, needs=CUDA)
    wheel(folder / CUDA, CUDA, "1.0")
    yield from served(folder)


@pytest.fixture(scope="module")
def cpu_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An index of CPU builds, which has torch and not what it needs."""
    folder = tmp_path_factory.mktemp("cpu")
    wheel(folder / "torch", "torch", f"{PINNED}+cpu", needs="stub-math")
    yield from served(folder)


@pytest.fixture(scope="module")
def pip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds this environment's pip and nothing else."""
    folder = tmp_path_factory.mktemp("pip")
    (folder / "pip").symlink_to(Path(pip.__file__).parent)
    return folder


@pytest.fixture
def environment(pip_folder: Path, tmp_path: Path) -> Path:
    """An empty virtual environment whose Python finds that pip: faster than `pip --python`, which starts pip twice."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "pip.pth").write_text(f"{pip_folder}\n", encoding="utf-8")
    return folder


def test_a_local_wheel_is_taken_first(environment: Path, tmp_path: Path, registry: str, cpu_index: str) -> None:
    wheel(tmp_path / "wheels", "torch", f"{PINNED}+local")
    output = install(environment, "cpu", registry, cpu_index, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert installed(environment) == {"torch": f"{PINNED}+local"}
    assert "from a local wheel" in output


def test_the_cpu_index_is_second_and_dependencies_come_from_the_registry(
    environment: Path, tmp_path: Path, cpu_index: str
) -> None:
    wheel(tmp_path / "registry" / "stub-math", "stub-math", "1.0")
    for address in served(tmp_path / "registry"):
        output = install(environment, "cpu", address, cpu_index)
    assert installed(environment) == {"torch": f"{PINNED}+cpu", "stub-math": "1.0"}
    assert f"from {cpu_index}" in output


def test_the_registry_is_the_last_resort_and_its_size_is_announced(
    environment: Path, tmp_path: Path, registry: str
) -> None:
    # Local wheels of another version and for another Python do not fit.
    wheel(tmp_path / "wheels", "torch", "0.1")
    wheel(tmp_path / "wheels", "torch", f"{PINNED}+mine", tags="cp27-none-any")
    # It is among the extra indexes too, as a user may have it: it must not be taken for the one of CPU builds.
    settings = {"PIP_EXTRA_INDEX_URL": registry, "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    output = install(environment, "cpu", registry, NOTHING_LISTENS, **settings)
    assert installed(environment) == {"torch": PINNED, CUDA: "1.0"}
    assert "brings several GB of CUDA libraries" in output


def test_a_gpu_gets_the_registrys_build(environment: Path, registry: str, cpu_index: str) -> None:
    output = install(environment, "gpu", registry, cpu_index)
    assert installed(environment) == {"torch": PINNED, CUDA: "1.0"}
    assert "several GB" not in output


def test_an_installed_one_of_that_version_is_left_alone(environment: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path / "wheels", "torch", f"{PINNED}+mine")
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.unpack_archive(made, packages, "zip")
    output = install(environment, "cpu", NOTHING_LISTENS, NOTHING_LISTENS)
    assert installed(environment) == {"torch": f"{PINNED}+mine"}
    assert "is installed" in output


def test_where_there_is_none_it_fails(environment: Path) -> None:
    done = run(environment, "cpu", NOTHING_LISTENS, NOTHING_LISTENS, PIP_RETRIES="0")
    assert done.returncode != 0
    assert installed(environment) == {}


@pytest.mark.parametrize("arguments", [[], ["tpu", "pip"], ["cpu"]])
def test_wrong_arguments_get_the_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "install-torch", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(
    ("settings", "wanted"), [([], False), (["EXTRAS=hub"], True), (["EXTRAS=train"], True), (["EXTRAS=qdrant"], False)]
)
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_installs_torch_where_an_extra_needs_it(settings: list[str], wanted: bool) -> None:
    assert ("scripts/install-torch cpu .venv/bin/pip" in recipe(".venv/.installed", *settings)) == wanted


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_tests_need_it_and_get_it_before_anything_that_depends_on_it() -> None:
    steps = recipe(".venv/.dev", "RUNTIME=gpu")
    assert 0 < steps.index("scripts/install-torch gpu") < steps.index("[gpu,train,dev]")


def recipe(target: str, *settings: str) -> str:
    """What make would run."""
    command = ["make", "--dry-run", "--always-make", *settings, target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def install(environment: Path, runtime: str, registry: str, cpu_index: str, **settings: str) -> str:
    """Run the script; what it said."""
    done = run(environment, runtime, registry, cpu_index, **settings)
    assert done.returncode == 0, done.stderr
    return done.stderr


def run(
    environment: Path, runtime: str, registry: str, cpu_index: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "install-torch", runtime, environment / "bin" / "python", "-m", "pip"],
        env={**alone(), "PIP_INDEX_URL": registry, "TORCH_INDEX": cpu_index, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def alone() -> dict[str, str]:
    """The environment without what this machine's user has set for pip, and without a proxy."""
    rest = {k: v for k, v in os.environ.items() if not k.upper().startswith("PIP_") and "proxy" not in k.lower()}
    return {**rest, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def installed(environment: Path) -> dict[str, str]:
    """Name and version of what is in an environment."""
    found = environment.glob("lib/python*/site-packages/*.dist-info")
    return {name.replace("_", "-"): version for name, version in (f.stem.split("-") for f in found)}


def wheel(folder: Path, name: str, version: str, tags: str = "py3-none-any", needs: str | None = None) -> Path:
    """A wheel of a package with nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tags}\n",
    }
    record = "".join(f"{stem}.dist-info/{file},,\n" for file in [*files, "RECORD"])
    with zipfile.ZipFile(folder / f"{stem}-{tags}.whl", "w") as archive:
        for file, content in {**files, "RECORD": record}.items():
            archive.writestr(f"{stem}.dist-info/{file}", content)
    return folder / f"{stem}-{tags}.whl"


def served(folder: Path) -> Iterator[str]:
    """The address of a package index over HTTP: a folder's listing is a project's page."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
