"""The HTTP interface beside its own OpenAPI document: thousands of cases against a real service.

    python -m benchmarks.contract --bundle bundles/compact --images DIR --cases 5000

The first pictures of a folder are indexed, `sceneseek serve` answers, and `benchmarks.fuzzing` makes cases until there
are enough. It ends with 1 if one of them breaks the contract, and says with which command it can be seen again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.client import Client
from benchmarks.fuzzing import PHASES, Held, contract, hold
from benchmarks.serving import HOST, serving
from sceneseek_indexer.walk import list_images


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of photographs.")
@click.option("--count", type=click.IntRange(1), default=1_000, show_default=True, help="How many of them to index.")
@click.option("--cases", type=click.IntRange(1), default=5_000, show_default=True, help="How many cases at least.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same cases for the same seed.")
def main(bundle: Path, images: Path, count: int, cases: int, seed: int) -> None:
    """Hold a service to its OpenAPI document."""
    held = Held()
    with tempfile.TemporaryDirectory(prefix="sceneseek-contract-") as scratch:
        home = Path(scratch)
        url = f"file:{home}/index"
        _index(_first(images, count, home / "pictures"), bundle, url)
        with serving(bundle, url, "cpu", 0, home / "server.log") as server:
            address = f"http://{HOST}:{server.port}"
            client = Client(server.port)
            document = json.loads(client.get("/openapi.json")[1])
            found = json.loads(client.get("/v1/search?q=a+dog&k=100")[1])
            client.close()
            ids = [result["id"] for result in found["results"]]
            while held.cases < cases and not held.failures:
                # The boundaries of a schema are the same for every seed.
                phases = PHASES if not held.cases else ("fuzzing", "stateful")
                examples = min(400, 20 + (cases - held.cases) // 8)
                hold(document, ids, held, contract(seed, examples, phases, address))
                click.echo(f"seed {seed}: {held.cases:,} cases, {len(held.failures)} failures")
                seed += 1
    for line in held.lines():
        click.echo(line)
    for report in held.failures.values():
        click.echo(f"\n{report}")
    sys.exit(int(bool(held.failures)))


def _first(images: Path, count: int, out: Path) -> Path:
    """A folder of copies of the first pictures of another."""
    out.mkdir()
    for number, file in enumerate(list_images(images).files[:count]):
        shutil.copyfile(file.path, out / f"{number:06}{file.path.suffix}")
    return out


def _index(images: Path, bundle: Path, url: str) -> None:
    command = [str(Path(sys.executable).with_name("sceneseek")), "index", str(images)]
    subprocess.run([*command, "--bundle", str(bundle), "--index", url], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
