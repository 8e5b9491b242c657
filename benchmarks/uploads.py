"""Uploads during searches: uploads per second, time until the pictures are found, and latency of the searches.

    python -m benchmarks.uploads --bundle bundles/compact --images photographs

The first pictures of the folder are indexed, the next ones uploaded by several clients to a service, with `sceneseek
index watch` running. Other clients search all the time, alternately without and during uploads. Clients, service and
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
from benchmarks.timing import other_load, percentile
from sceneseek.bundle import Bundle
from sceneseek.client import Client
from sceneseek.store import open_store
from sceneseek_indexer.build import index_folder
from sceneseek_indexer.walk import list_images

FOUND, NONE = Goal("value", 2.0), Goal("value", 0.0)
_PROGRAM = str(Path(sys.executable).with_name("sceneseek"))
_SEARCHING, _LONE = 8, 10
# Seconds of one stretch of searches, and the timeout until all uploads are found.
_STRETCH, _TIMEOUT = 5.0, 120.0

Uploaded = list[tuple[float, float]]
"""When each upload was accepted and when it was found, by `time.monotonic`."""


def upload(url: str, key: str, pictures: list[Path], clients: int) -> Uploaded:
    """Upload pictures with `clients` threads, and poll until all are found. Runs in its own process."""
    accepted: dict[str, float] = {}
    found: dict[str, float] = {}
    with Client(url, key, timeout=_TIMEOUT) as client, ThreadPoolExecutor(clients) as pool:

        def put(picture: Path) -> None:
            status = client.upload(picture, f"uploads/{picture.name}")
            accepted[status.id] = time.monotonic()

        def poll() -> None:
            while len(found) < len(pictures):
                for identity in [each for each in list(accepted) if each not in found]:
                    if client.status(identity).state != "indexed":
                        break  # later uploads were accepted after it
                    found[identity] = time.monotonic()
                time.sleep(0.02)

        poller = threading.Thread(target=poll, daemon=True)
        poller.start()
        list(pool.map(put, pictures))
        poller.join(_TIMEOUT)
    return [(accepted[identity], found.get(identity, float("inf"))) for identity in accepted]


def searching(generator: LoadGenerator, requests: Iterator[bytes], uploading: AsyncResult[Uploaded] | None) -> Outcomes:
    """Search for one stretch, and for further ones until the uploads are done."""
    outcomes = generator.closed(requests, _SEARCHING, _STRETCH)
    while uploading is not None and not uploading.ready():
        more = generator.closed(requests, _SEARCHING, _STRETCH)
        outcomes = Outcomes(
            outcomes.responses + more.responses, outcomes.lost + more.lost, outcomes.seconds + more.seconds
        )
    return outcomes


def new_key(keys: Path) -> str:
    """Add a key with write access to a file of keys, and return it."""
    command = [_PROGRAM, "keys", "add", "benchmark", "--write", "--api-keys", str(keys)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def keyed(requests: Iterator[bytes], key: str) -> Iterator[bytes]:
    """Add an API key to the requests."""
    header = f"\r\nX-API-Key: {key}\r\n".encode("ascii")
    return (request.replace(b"\r\n", header, 1) for request in requests)


@contextlib.contextmanager
def watching(folder: Path, bundle: Path, url: str, log: Path) -> Iterator[None]:
    """Run `sceneseek index watch` for the duration of the block."""
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
    """Report single uploads to an idle service."""
    waits = [found - accepted for each in uploaded for accepted, found in each]
    return Section("One upload at a time", [Figure("from 202 to found", "s", waits, goal=FOUND)])


def section(uploaded: list[Uploaded], alone: list[Outcomes], during: list[Outcomes], clients: int) -> Section:
    """Report all rounds."""
    waits = [found - accepted for each in uploaded for accepted, found in each]
    rates = [
        (len(each) - 1) / (max(accepted for accepted, _ in each) - min(accepted for accepted, _ in each))
        for each in uploaded
    ]
    failed = [float(o.lost + len(o.responses) - o.statuses()[200]) for o in (*alone, *during)]
    figures = [
        Figure(f"uploads by {clients} clients", "per second", rates),
        Figure("from 202 to found, median", "s", [percentile(waits, 50)]),
        Figure("from 202 to found, p99", "s", [percentile(waits, 99)]),
        *(
            Figure(
                f"searches, p{p}",
                "ms",
                [each.milliseconds(p) for each in during],
                "without uploads",
                [each.milliseconds(p) for each in alone],
            )
            for p in (50, 99)
        ),
        Figure("searches", "per second", [o.rate() for o in during], "without uploads", [o.rate() for o in alone]),
        Figure("searches that failed", "", failed, goal=NONE),
        Figure("uploads that were never found", "", [float(sum(wait == float("inf") for wait in waits))], goal=NONE),
    ]
    return Section(f"{len(waits):,} uploads during searches by {_SEARCHING} clients", figures)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="The bundle directory.")
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of pictures.")
@queries_option
@click.option("--indexed", type=int, default=1000, show_default=True, help="Pictures to index beforehand.")
@click.option("--uploads", type=int, default=1000, show_default=True, help="Pictures to upload.")
@click.option("--clients", type=int, default=8, show_default=True, help="Concurrent uploads.")
@click.option("--rounds", type=int, default=4, show_default=True, help="Rounds: searches without, then during uploads.")
def main(bundle: Path, images: Path, texts: list[str], indexed: int, uploads: int, clients: int, rounds: int) -> None:
    """Measure uploads during searches."""
    pictures = [images / file.relative for file in list_images(images).files[: indexed + uploads + _LONE]]
    report = Report()
    alone: list[Outcomes] = []
    during: list[Outcomes] = []
    done: list[Uploaded] = []
    with tempfile.TemporaryDirectory(prefix="sceneseek-uploads-") as scratch, other_load(click.echo):
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
            requests = keyed(searches(texts), key)
            generator.closed(requests, _SEARCHING, 2.0)  # warm up
            for part in range(rounds):
                alone.append(searching(generator, requests, None))
                share = pictures[indexed : indexed + uploads][part::rounds]
                sent = uploader.apply_async(upload, (address, key, share, clients))
                during.append(searching(generator, requests, sent))
                done.append(sent.get())
    report.sections.append(section(done, alone, during, clients))
    report.finish()


if __name__ == "__main__":
    main()
