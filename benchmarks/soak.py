"""A service over very many mixed requests, one in ten hostile: what grows.

    python -m benchmarks.soak --bundle bundles/compact --index index

Memory, threads and open files of the service are read after a warm-up of the same mix and again at the end. The mix is
that of a page's use: searches, thumbnails, originals, health; and requests that are malformed, unknown, too large, cut
off in the middle or never read.
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
# Requests between two that the load generator cannot make: connections of their own, cut off in the middle.
_BLOCK = 1000
# Longer than a connection lingers that is being closed.
_REST = 5.0

_HOSTILE = (
    b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/search?q=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/search?q=" + b"long+" * 1000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/images/../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/images/00000000-0000-0000-0000-000000000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{{{{{",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
)
_CUT_OFF = (
    b"GET /v1/sear",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
)


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has: megabytes that are its own, threads, open files."""

    megabytes: float
    threads: int
    files: int

    @classmethod
    def at_rest(cls, pid: int) -> Use:
        """Of the process that answers, the only child of `pid`, once it has closed what clients have left."""
        time.sleep(_REST)
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        home = Path(f"/proc/{worker}")
        return cls(memory(int(worker)).rss, len(list((home / "task").iterdir())), len(list((home / "fd").iterdir())))


def mixed(texts: list[str], ids: list[str], seed: int) -> Iterator[bytes]:
    """Requests for ever: of ten one hostile, and six searches, half of them for texts that come again."""
    chance, fresh = random.Random(seed), searches(texts)  # noqa: S311 - not a secret
    again = [next(fresh) for _ in range(200)]
    draw: list[Callable[[], bytes]] = [
        *[lambda: next(fresh)] * 3,
        *[lambda: chance.choice(again)] * 3,
        lambda: get(f"/v1/images/{chance.choice(ids)}/thumbnail"),
        lambda: get(f"/v1/images/{chance.choice(ids)}"),
        lambda: get(chance.choice(("/", "/readyz", "/healthz"))),
        lambda: chance.choice(_HOSTILE),
    ]
    while True:
        yield chance.choice(draw)()


def ask(
    generator: LoadGenerator, port: int, requests: Iterator[bytes], count: int, tell: Callable[[str], None]
) -> Counter[int]:
    """So many requests, and clients that leave in the middle between them; how many answers of each status."""
    statuses: Counter[int] = Counter()
    asked = 0
    while asked < count:
        outcomes = generator.closed(requests, _CLIENTS, 3600.0, most=min(_BLOCK, count - asked))
        asked += len(outcomes.taken) + outcomes.lost
        statuses += outcomes.statuses()
        statuses[0] += outcomes.lost
        for rubbish in _CUT_OFF:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=10) as client:
                client.sendall(rubbish)
        if asked % (10 * _BLOCK) == 0:
            tell(f"{asked:,} requests")
    return statuses


def some_ids(port: int, texts: list[str]) -> list[str]:
    """Images to look at."""
    client = Client(port)
    _, body = client.get(f"/v1/search?q={texts[0].split()[0]}&k=100")
    client.close()
    return [result["id"] for result in json.loads(body)["results"]]


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), required=True, help="A directory to copy.")
@queries_option
@click.option("--requests", type=int, default=100_000, show_default=True, help="After the warm-up.")
@click.option("--warm-up", type=int, default=20_000, show_default=True, help="Requests before; they fill the caches.")
def main(bundle: Path, index: Path, texts: list[str], requests: int, warm_up: int) -> None:
    """Measure what grows over very many requests."""

    def tell(what: str) -> None:
        click.echo(f"soak: {what}", err=True)

    with tempfile.TemporaryDirectory(prefix="sceneseek-soak-") as scratch:
        home = Path(scratch)
        shutil.copytree(index, home / "index")
        with serving(bundle, f"file:{home / 'index'}", "cpu", 0, home / "server.log") as server:
            generator, mix = LoadGenerator(server.port), mixed(texts, some_ids(server.port, texts), seed=1)
            generator.closed(mix, _MANY_CLIENTS, 3.0)  # so that all threads of the pool have started
            ask(generator, server.port, mix, warm_up, tell)
            before = Use.at_rest(server.pid)
            statuses = ask(generator, server.port, mix, requests, tell)
            after = Use.at_rest(server.pid)
            generator.close()
    figures = [
        Figure("resident memory", "MB", [after.megabytes], "after the warm-up", [before.megabytes], GROWTH),
        Figure("more threads", "", [float(after.threads - before.threads)], goal=NONE),
        Figure("more open files", "", [float(after.files - before.files)], goal=NONE),
        Figure("answers of 5xx", "", [float(sum(n for s, n in statuses.items() if s >= 500))], goal=NONE),
        Figure("requests without an answer", "", [float(statuses[0])], goal=NONE),
    ]
    notes = [f"answers: {', '.join(f'{status} {count:,}' for status, count in sorted(statuses.items()))}"]
    Report(sections=[Section(f"{requests:,} mixed requests, one in ten hostile", figures, notes)]).finish()


if __name__ == "__main__":
    main()
