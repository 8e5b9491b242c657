"""`scripts/install-torch` selects a torch build, with the real pip, stub wheels and local package indexes."""

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
# A stub for the CUDA packages that the registry's torch needs and the CPU build does not.
CUDA = "stub-cuda"
NOTHING_LISTENS = "http://127.0.0.1:9/simple"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package index whose torch depends on CUDA."""
    folder = tmp_path_factory.mktemp("registry")
    wheel(folder / "torch", "torch", PINNED, needs=CUDA)
    wheel(folder / CUDA, CUDA, "1.0")
    yield from served(folder)


@pytest.fixture(scope="module")
def cpu_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An index of CPU builds that has torch but not its dependencies."""
    folder = tmp_path_factory.mktemp("cpu")
    wheel(folder / "torch", "torch", f"{PINNED}+cpu", needs="stub-math")
    yield from served(folder)


@pytest.fixture(scope="module")
def pip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that contains only this environment's pip."""
    folder = tmp_path_factory.mktemp("pip")
    (folder / "pip").symlink_to(Path(pip.__file__).parent)
    return folder


@pytest.fixture
def environment(pip_folder: Path, tmp_path: Path) -> Path:
    """An empty virtual environment that uses that pip; faster than `pip --python`, which starts pip twice."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "pip.pth").write_text(f"{pip_folder}\n", encoding="utf-8")
    return folder


def test_local_wheel_is_preferred(environment: Path, tmp_path: Path, registry: str, cpu_index: str) -> None:
    wheel(tmp_path / "wheels", "torch", f"{PINNED}+local")
    output = install(environment, "cpu", registry, cpu_index, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert installed(environment) == {"torch": f"{PINNED}+local"}
    assert "from a local wheel" in output


def test_cpu_index_is_second_choice_with_dependencies_from_registry(
    environment: Path, tmp_path: Path, cpu_index: str
) -> None:
    wheel(tmp_path / "registry" / "stub-math", "stub-math", "1.0")
    for address in served(tmp_path / "registry"):
        output = install(environment, "cpu", address, cpu_index)
    assert installed(environment) == {"torch": f"{PINNED}+cpu", "stub-math": "1.0"}
    assert f"from {cpu_index}" in output


def test_registry_is_last_resort_and_download_size_is_announced(
    environment: Path, tmp_path: Path, registry: str
) -> None:
    # Local wheels of another version and for another Python do not fit.
    wheel(tmp_path / "wheels", "torch", "0.1")
    wheel(tmp_path / "wheels", "torch", f"{PINNED}+mine", tags="cp27-none-any")
    # A user may list the registry as an extra index too; it must not be mistaken for the CPU index.
    settings = {"PIP_EXTRA_INDEX_URL": registry, "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    output = install(environment, "cpu", registry, NOTHING_LISTENS, **settings)
    assert installed(environment) == {"torch": PINNED, CUDA: "1.0"}
    assert "brings several GB of CUDA libraries" in output


def test_gpu_runtime_installs_registry_build(environment: Path, registry: str, cpu_index: str) -> None:
    output = install(environment, "gpu", registry, cpu_index)
    assert installed(environment) == {"torch": PINNED, CUDA: "1.0"}
    assert "several GB" not in output


def test_installed_torch_of_pinned_version_is_kept(environment: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path / "wheels", "torch", f"{PINNED}+mine")
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.unpack_archive(made, packages, "zip")
    output = install(environment, "cpu", NOTHING_LISTENS, NOTHING_LISTENS)
    assert installed(environment) == {"torch": f"{PINNED}+mine"}
    assert "is installed" in output


def test_installation_fails_when_torch_is_unavailable(environment: Path) -> None:
    done = run(environment, "cpu", NOTHING_LISTENS, NOTHING_LISTENS, PIP_RETRIES="0")
    assert done.returncode != 0
    assert installed(environment) == {}


@pytest.mark.parametrize("arguments", [[], ["tpu", "pip"], ["cpu"]])
def test_invalid_arguments_print_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "install-torch", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(
    ("settings", "wanted"), [([], False), (["EXTRAS=hub"], True), (["EXTRAS=train"], True), (["EXTRAS=qdrant"], False)]
)
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_installs_torch_if_an_extra_needs_it(settings: list[str], wanted: bool) -> None:
    assert ("scripts/install-torch cpu .venv/bin/pip" in recipe(".venv/.installed", *settings)) == wanted


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_dev_installs_torch_before_packages_that_depend_on_it() -> None:
    steps = recipe(".venv/.dev", "RUNTIME=gpu")
    assert 0 < steps.index("scripts/install-torch gpu") < steps.index("[gpu,train,dev]")


def recipe(target: str, *settings: str) -> str:
    """The commands that make would run."""
    command = ["make", "--dry-run", "--always-make", *settings, target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def install(environment: Path, runtime: str, registry: str, cpu_index: str, **settings: str) -> str:
    """Run the script, check that it succeeds, and return its messages."""
    done = run(environment, runtime, registry, cpu_index, **settings)
    assert done.returncode == 0, done.stderr
    return done.stderr


def run(
    environment: Path, runtime: str, registry: str, cpu_index: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "install-torch", runtime, environment / "bin" / "python", "-m", "pip"],
        env={**clean_environment(), "PIP_INDEX_URL": registry, "TORCH_INDEX": cpu_index, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def clean_environment() -> dict[str, str]:
    """The environment without the user's pip settings and proxies."""
    rest = {k: v for k, v in os.environ.items() if not k.upper().startswith("PIP_") and "proxy" not in k.lower()}
    return {**rest, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def installed(environment: Path) -> dict[str, str]:
    """Names and versions of the packages in an environment."""
    folders = environment.glob("lib/python*/site-packages/*.dist-info")
    return {name.replace("_", "-"): version for name, version in (f.stem.split("-") for f in folders)}


def wheel(folder: Path, name: str, version: str, tags: str = "py3-none-any", needs: str | None = None) -> Path:
    """Write a wheel of an empty package."""
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
    """Serve a package index over HTTP and yield its URL; directory listings serve as project pages."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
