"""Growth of a service's resources over very many mixed requests, one in ten hostile.

    python -m benchmarks.soak --bundle bundles/compact --index index

Memory, threads and open files of the service are read after a warm-up with the same mix and again at the end. The mix
resembles the traffic of the search page: searches, thumbnails, originals and health checks. Hostile requests are
malformed, for unknown images, too large, truncated or not HTTP.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.footprint import memory
from benchmarks.inputs import queries_option
from benchmarks.load_generator import LoadGenerator, get, searches
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import HOST, Client, serving

GROWTH, NONE = Goal("ratio", 1.02), Goal("value", 0.0)
_CLIENTS, _MANY_CLIENTS = 16, 64
# Requests between two rounds of truncated ones, which the load generator cannot send.
_BLOCK = 1000
# Longer than a closing connection lingers.
_SETTLE_SECONDS = 5.0

_HOSTILE = (
    b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/search?q=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/search?q=" + b"long+" * 1000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/images/../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/images/00000000-0000-0000-0000-000000000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{{{{{",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
)
_TRUNCATED = (
    b"GET /v1/sear",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process: resident megabytes, threads, open files."""

    megabytes: float
    threads: int
    files: int

    @classmethod
    def settled(cls, pid: int) -> Usage:
        """Measure the worker, the only child of `pid`, once it has closed abandoned connections."""
        time.sleep(_SETTLE_SECONDS)
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        home = Path(f"/proc/{worker}")
        return cls(memory(int(worker)).rss, len(list((home / "task").iterdir())), len(list((home / "fd").iterdir())))


def mixed(texts: list[str], ids: list[str], seed: int) -> Iterator[bytes]:
    """Yield requests endlessly: one in ten is hostile, six are searches, half of them with repeated texts."""
    rng, fresh = random.Random(seed), searches(texts)  # noqa: S311 - not a secret
    repeated = [next(fresh) for _ in range(200)]
    draw: list[Callable[[], bytes]] = [
        *[lambda: next(fresh)] * 3,
        *[lambda: rng.choice(repeated)] * 3,
        lambda: get(f"/v1/images/{rng.choice(ids)}/thumbnail"),
        lambda: get(f"/v1/images/{rng.choice(ids)}"),
        lambda: get(rng.choice(("/", "/readyz", "/healthz"))),
        lambda: rng.choice(_HOSTILE),
    ]
    while True:
        yield rng.choice(draw)()


def send(
    generator: LoadGenerator, port: int, requests: Iterator[bytes], count: int, log: Callable[[str], None]
) -> Counter[int]:
    """Send `count` requests, with truncated ones in between; return the responses by status, 0 for none."""
    statuses: Counter[int] = Counter()
    sent = 0
    while sent < count:
        outcomes = generator.closed(requests, _CLIENTS, 3600.0, limit=min(_BLOCK, count - sent))
        sent += len(outcomes.responses) + outcomes.lost
        statuses += outcomes.statuses()
        statuses[0] += outcomes.lost
        for fragment in _TRUNCATED:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=10) as client:
                client.sendall(fragment)
        if sent % (10 * _BLOCK) == 0:
            log(f"{sent:,} requests")
    return statuses


def some_ids(port: int, texts: list[str]) -> list[str]:
    """The ids of some images."""
    client = Client(port)
    _, body = client.get(f"/v1/search?q={texts[0].split()[0]}&k=100")
    client.close()
    return [result["id"] for result in json.loads(body)["results"]]


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="The bundle directory.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), required=True, help="The index; it is copied.")
@queries_option
@click.option("--requests", type=int, default=100_000, show_default=True, help="Requests after the warm-up.")
@click.option("--warm-up", type=int, default=20_000, show_default=True, help="Requests before, which fill the caches.")
def main(bundle: Path, index: Path, texts: list[str], requests: int, warm_up: int) -> None:
    """Measure the growth of a service's resources over very many requests."""

    def log(line: str) -> None:
        click.echo(f"soak: {line}", err=True)

    with tempfile.TemporaryDirectory(prefix="sceneseek-soak-") as scratch:
        home = Path(scratch)
        shutil.copytree(index, home / "index")
        with serving(bundle, f"file:{home / 'index'}", "cpu", 0, home / "server.log") as server:
            generator, mix = LoadGenerator(server.port), mixed(texts, some_ids(server.port, texts), seed=1)
            generator.closed(mix, _MANY_CLIENTS, 3.0)  # start all threads of the pool
            send(generator, server.port, mix, warm_up, log)
            before = Usage.settled(server.pid)
            statuses = send(generator, server.port, mix, requests, log)
            after = Usage.settled(server.pid)
            generator.close()
    figures = [
        Figure("resident memory", "MB", [after.megabytes], "after the warm-up", [before.megabytes], GROWTH),
        Figure("additional threads", "", [float(after.threads - before.threads)], goal=NONE),
        Figure("additional open files", "", [float(after.files - before.files)], goal=NONE),
        Figure("5xx responses", "", [float(sum(n for s, n in statuses.items() if s >= 500))], goal=NONE),
        Figure("requests without a response", "", [float(statuses[0])], goal=NONE),
    ]
    notes = [f"responses: {', '.join(f'{status} {count:,}' for status, count in sorted(statuses.items()))}"]
    Report(sections=[Section(f"{requests:,} mixed requests, one in ten hostile", figures, notes)]).finish()


if __name__ == "__main__":
    main()
