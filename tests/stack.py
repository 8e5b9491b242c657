"""The stack's configuration files as its tests read them, a stub server, and a lookup of commands."""

from __future__ import annotations

import dataclasses
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sceneseek.cli import cli
from sceneseek.store.qdrant import QdrantSettings
from sceneseek.store.vector_cache import VARIABLE as VECTOR_CACHE
from tests import compose, dockerfile

ROOT = Path(__file__).parents[1]
ONE = (ROOT / "docker-compose.yml",)
THREE = (*ONE, ROOT / "docker-compose.cluster.yml")
PUBLISHED = (*ONE, ROOT / "deploy" / "publish-qdrant.yml")
ON_RAY = (*ONE, ROOT / "docker-compose.ray.yml")
PROJECTS = {"one node": ONE, "cluster": THREE, "published Qdrant": PUBLISHED, "Ray": ON_RAY}
FILES = sorted({file for files in PROJECTS.values() for file in files})
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
# Variables that are set or commented out; Compose itself reads COMPOSE_FILE.
DOCUMENTED = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) - {"COMPOSE_FILE"}
STAGES = dockerfile.read(ROOT / "Dockerfile")
TARGETS = ("runtime-cpu", "runtime-gpu", "export", "export-hub")
OURS = ("server-cpu", "server-gpu", "index-cpu", "index-gpu", "export", "export-hub", "keys")
KEYS = {"SCENESEEK_QDRANT_API_KEY": "writes", "SCENESEEK_QDRANT_READ_ONLY_API_KEY": "reads"}
# Read by the Qdrant store; `known_settings` adds those that the command line declares.
QDRANT_SETTINGS = {f"SCENESEEK_QDRANT_{field.name.upper()}" for field in dataclasses.fields(QdrantSettings)}


def project(*files: Path, **environment: str) -> compose.Project:
    """Load a project as Compose does with the settings of .env.example and two keys."""
    return compose.load(*files, environment={**compose.settings(EXAMPLE), **KEYS, **environment})


def known_settings() -> set[str]:
    """Every environment variable that an option or the code reads."""
    declared: set[str] = set()
    for name in cli.list_commands(click.Context(cli)):
        command = (
            cli.get_command(click.Context(cli), name)
            if name in ("index", "serve", "search", "export", "keys")
            else None
        )
        for parameter in [*cli.params, *(command.params if command else [])]:
            declared |= {parameter.envvar} if isinstance(parameter.envvar, str) else set()
    return declared | {"SCENESEEK_API_KEYS", "SCENESEEK_CACHE", VECTOR_CACHE} | QDRANT_SETTINGS


@contextmanager
def answering(status: int, document: object = None) -> Iterator[tuple[int, list[str]]]:
    """Serve one status and document for every request; yield the port and the list of requested paths."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def command_of(name: str) -> click.Command:
    """Return a command of sceneseek.

    Raises:
        LookupError: there is no command of that name.
    """
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        raise LookupError(name)
    return command
