"""Pictures that are added while others search: how many a second, how soon they are found, what searches feel of it.

    python -m benchmarks.uploads --bundle bundles/compact --images photographs

The first pictures of the folder are indexed, the next ones uploaded by several clients, to a service with `sceneseek
index watch` beside it. Other clients search all the time: alone and beside uploads, in turns. Clients, service and
indexer share the machine's cores.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import AsyncResult
from pathlib import Path

import click

from benchmarks.inputs import queries_option
from benchmarks.load_generator import LoadGenerator, Outcomes, searches
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import HOST, serving
from benchmarks.timing import others, percentile
from sceneseek.bundle import Bundle
from sceneseek.client import Client
from sceneseek.store import open_store
from sceneseek_indexer.build import index_folder
from sceneseek_indexer.walk import list_images

FOUND, NONE = Goal("value", 2.0), Goal("value", 0.0)
_PROGRAM = str(Path(sys.executable).with_name("sceneseek"))
_SEARCHING, _LONE = 8, 10
# Seconds of one stretch of searches, and of the wait for all uploads to be found.
_STRETCH, _PATIENCE = 5.0, 120.0

Uploaded = list[tuple[float, float]]
"""By the clock of `time.monotonic`: when each upload was answered, and when it was found."""


def upload(url: str, key: str, pictures: list[Path], clients: int) -> Uploaded:
    """Upload pictures by so many clients, and look until all of them are found; in a process of its own."""
    answered: dict[str, float] = {}
    found: dict[str, float] = {}
    with Client(url, key, timeout=_PATIENCE) as client, ThreadPoolExecutor(clients) as pool:

        def put(picture: Path) -> None:
            status = client.upload(picture, f"uploads/{picture.name}")
            answered[status.id] = time.monotonic()

        def look() -> None:
            while len(found) < len(pictures):
                for identity in [each for each in list(answered) if each not in found]:
                    if client.status(identity).state != "indexed":
                        break  # those after it were answered later
                    found[identity] = time.monotonic()
                time.sleep(0.02)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        list(pool.map(put, pictures))
        looking.join(_PATIENCE)
    return [(answered[identity], found.get(identity, float("inf"))) for identity in answered]


def searching(generator: LoadGenerator, asked: Iterator[bytes], beside: AsyncResult[Uploaded] | None) -> Outcomes:
    """One stretch of searches; or as many as something else takes."""
    outcomes = generator.closed(asked, _SEARCHING, _STRETCH)
    while beside is not None and not beside.ready():
        more = generator.closed(asked, _SEARCHING, _STRETCH)
        outcomes = Outcomes(outcomes.taken + more.taken, outcomes.lost + more.lost, outcomes.seconds + more.seconds)
    return outcomes


def new_key(keys: Path) -> str:
    """A key that may write, added to a file of keys."""
    command = [_PROGRAM, "keys", "add", "benchmark", "--write", "--api-keys", str(keys)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def keyed(requests: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The requests with a key."""
    header = f"\r\nX-API-Key: {key}\r\n".encode("ascii")
    return (request.replace(b"\r\n", header, 1) for request in requests)


@contextlib.contextmanager
def watching(folder: Path, bundle: Path, url: str, log: Path) -> Iterator[None]:
    """`sceneseek index watch` beside the block."""
    command = [_PROGRAM, "index", "watch", str(folder)]
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, "--bundle", str(bundle), "--index", url], stdout=output, stderr=output) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def lone_section(uploaded: list[Uploaded]) -> Section:
    """Single uploads, with nothing else to do."""
    waits = [found - answered for each in uploaded for answered, found in each]
    return Section("One upload at a time", [Figure("from 202 to found", "s", waits, goal=FOUND)])


def section(uploaded: list[Uploaded], alone: list[Outcomes], beside: list[Outcomes], clients: int) -> Section:
    """The figures of all rounds."""
    waits = [found - answered for each in uploaded for answered, found in each]
    rates = [
        (len(each) - 1) / (max(answered for answered, _ in each) - min(answered for answered, _ in each))
        for each in uploaded
    ]
    failed = [float(o.lost + len(o.taken) - o.statuses()[200]) for o in (*alone, *beside)]
    figures = [
        Figure(f"uploads by {clients} clients", "a second", rates),
        Figure("from 202 to found, median", "s", [percentile(waits, 50)]),
        Figure("from 202 to found, p99", "s", [percentile(waits, 99)]),
        *(
            Figure(
                f"searches, p{p}",
                "ms",
                [each.milliseconds(p) for each in beside],
                "without uploads",
                [each.milliseconds(p) for each in alone],
            )
            for p in (50, 99)
        ),
        Figure("searches", "a second", [o.rate() for o in beside], "without uploads", [o.rate() for o in alone]),
        Figure("searches that failed", "", failed, goal=NONE),
        Figure("uploads that were never found", "", [float(sum(wait == float("inf") for wait in waits))], goal=NONE),
    ]
    return Section(f"{len(waits):,} uploads beside {_SEARCHING} searching clients", figures)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of pictures.")
@queries_option
@click.option("--indexed", type=int, default=1000, show_default=True, help="Pictures that are indexed before.")
@click.option("--uploads", type=int, default=1000, show_default=True, help="Pictures that are uploaded.")
@click.option("--clients", type=int, default=8, show_default=True, help="Clients that upload.")
@click.option("--rounds", type=int, default=4, show_default=True, help="Turns of searches alone and beside uploads.")
def main(bundle: Path, images: Path, texts: list[str], indexed: int, uploads: int, clients: int, rounds: int) -> None:
    """Measure uploads beside searches."""
    pictures = [images / file.relative for file in list_images(images).files[: indexed + uploads + _LONE]]
    report = Report()
    alone: list[Outcomes] = []
    beside: list[Outcomes] = []
    done: list[Uploaded] = []
    with tempfile.TemporaryDirectory(prefix="sceneseek-uploads-") as scratch, others(click.echo):
        home = Path(scratch)
        (home / "photos").mkdir()
        for picture in pictures[:indexed]:
            shutil.copy(picture, home / "photos")
        url = f"file:{home / 'index'}"
        index_folder(home / "photos", Bundle.load(bundle), open_store(url))
        key = new_key(home / "keys.json")
        options = ("--uploads", str(home / "photos"), "--api-keys", str(home / "keys.json"), "--query-cache", "0")
        with (
            serving(bundle, url, "cpu", 0, home / "service.log", options) as server,
            watching(home / "photos", bundle, url, home / "watch.log"),
            contextlib.closing(LoadGenerator(server.port)) as generator,
            multiprocessing.get_context("spawn").Pool(1) as uploader,
        ):
            address = f"http://{HOST}:{server.port}"
            lone = [upload(address, key, [picture], 1) for picture in pictures[indexed + uploads :]]
            report.sections.append(lone_section(lone))
            asked = keyed(searches(texts), key)
            generator.closed(asked, _SEARCHING, 2.0)  # the first queries of a service are not what is asked about
            for part in range(rounds):
                alone.append(searching(generator, asked, None))
                share = pictures[indexed : indexed + uploads][part::rounds]
                sent = uploader.apply_async(upload, (address, key, share, clients))
                beside.append(searching(generator, asked, sent))
                done.append(sent.get())
    report.sections.append(section(done, alone, beside, clients))
    report.finish()


if __name__ == "__main__":
    main()
