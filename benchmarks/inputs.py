"""Benchmark inputs: queries, and arrays for the graphs (photographs, noise, tokens)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import click
import numpy as np

from sceneseek.bundle import Bundle, ImageInput
from sceneseek.encoders import Tokenizer
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.request import checked_query
from sceneseek.tables import read_lines, read_table
from sceneseek_indexer.load import Loaded, load
from sceneseek_indexer.walk import list_images

Feed = Mapping[str, np.ndarray[Any, Any]]

_WHO = ("a dog", "two children", "an old man with a grey beard", "a group of people in bright jackets")
_WHAT = ("running", "sitting quietly", "playing with a red ball", "waiting for the next bus to come")
_WHERE = ("on a beach", "in the snow", "in front of a brick wall", "beside a lake with mountains behind it")


def read_queries(path: Path) -> list[str]:
    """Read queries from a text file, one per line, or from the column `caption` of a TSV file.

    Lines that are not valid queries are skipped.

    Raises:
        DataError: the file cannot be read, or contains no query.
    """
    lines = read_lines(path, "queries")
    if "caption" in lines[0].split("\t"):
        lines = [row.fields["caption"] for row in read_table(path, "queries").rows]
    queries = list(_valid(lines))
    if not queries:
        raise DataError(f"the file {path} contains no query", "write one per line, or a TSV with a column caption")
    return queries


def own_queries() -> list[str]:
    """Built-in queries: sentences of 6 to 20 words."""
    return [f"{who} {what} {where}" for who, what, where in product(_WHO, _WHAT, _WHERE)]


def _texts(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> list[str]:
    return read_queries(path) if path else own_queries()


queries_option = click.option(
    "--queries",
    "texts",
    type=click.Path(path_type=Path),
    callback=_texts,
    help="Queries: one per line, or a TSV with a column `caption`.  [default: built-in sentences]",
)


def drawn(queries: list[str], count: int, seed: int) -> list[str]:
    """`count` queries in a random order given by the seed; they repeat only after all have been drawn."""
    order = np.random.default_rng(seed).permutation(len(queries))
    return [queries[i] for i in islice(cycle(order), count)]


def _valid(lines: list[str]) -> Iterator[str]:
    for line in lines:
        try:
            yield checked_query(line)
        except InvalidRequest:
            continue


def photographs(folder: Path, inputs: tuple[ImageInput, ...], count: int) -> Feed:
    """The first `count` photographs of a folder, as inputs of the image graph."""
    loaded: list[Loaded] = []
    for file in list_images(folder).files:
        found = load(file, inputs)
        if isinstance(found, Loaded):
            loaded.append(found)
        if len(loaded) == count:
            break
    return {spec.name: np.stack([image.pixels[i] for image in loaded]) for i, spec in enumerate(inputs)}


def noise(graph: Path, count: int) -> Feed:
    """Coarse coloured noise, or normally distributed numbers, in the input shapes of a graph."""
    draw = np.random.default_rng(0)
    feed: dict[str, np.ndarray[Any, Any]] = {}
    for node in _inputs(graph):
        shape = [count, *node.shape[1:]]
        if node.type == "tensor(uint8)":
            coarse = draw.integers(0, 256, (count, -(-shape[1] // 8), -(-shape[2] // 8), 3), np.uint8)
            feed[node.name] = np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)[:, : shape[1], : shape[2]])
        else:
            feed[node.name] = draw.standard_normal(shape, np.float32)
    return feed


def queries(bundle: Bundle, count: int) -> Feed:
    """Built-in queries as inputs of the text graph, padded together."""
    texts = list(islice(cycle(own_queries()), count))
    available: dict[str, np.ndarray[Any, Any]] = {}
    for spec in bundle.manifest.text_inputs:
        tokens = Tokenizer(bundle.tokenizer(spec), spec)(texts)
        available |= {f"{spec.name}.input_ids": tokens.ids, f"{spec.name}.attention_mask": tokens.mask}
    return {node.name: available[node.name] for node in _inputs(bundle.text_graph)}


def first(feed: Feed, rows: int) -> Feed:
    """The first `rows` rows of every array."""
    return {name: array[:rows] for name, array in feed.items()}


def _inputs(graph: Path) -> list[Any]:
    import onnxruntime  # noqa: PLC0415 - optional: the user chooses which runtime is installed

    inputs: list[Any] = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"]).get_inputs()
    return inputs
