"""Export of a pack, an alignment and a head to a verified bundle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx.external_data_helper import set_external_data

from sceneseek.bundle import IMAGE_GRAPH, MANIFEST, SCORE_GRAPH, TEXT_GRAPH, Bundle, Dimensions, Manifest, Precision
from sceneseek.bundle import Head as HeadEntry
from sceneseek.errors import ExportError
from sceneseek.files import directory_in_place, sha256_of
from sceneseek_export.composition import image_graph, score_graph, text_graph
from sceneseek_export.packs import Pack, TextTowerSpec
from sceneseek_export.parity import measure_parity_error
from sceneseek_export.towers import ImageTower, TextTower, Towers, load_towers
from sceneseek_export.trained import Trained

if TYPE_CHECKING:
    from sceneseek_export.quantization import Quantization, Sample

_PAGE_BYTES = 4096
_MAPPED_BYTES = 4 * _PAGE_BYTES


def export_bundle(
    pack: Pack,
    trained: Trained,
    out: Path,
    verify_on: Path | None = None,
    towers: Towers | None = None,
    quantization: Quantization | None = None,
) -> Bundle:
    """Compose, write and verify a bundle, then move it into place.

    Towers that neither the alignment nor the head reads are omitted. A bundle in a lower precision is compared with the
    same bundle in float32, which is verified first.

    Args:
        pack: the recipe.
        trained: alignment and head; they must fit the pack's towers.
        out: the bundle's directory; an existing bundle is replaced.
        verify_on: a folder of images to verify on in addition to generated pictures.
        towers: the pack's towers if already loaded.
        quantization: the conversion to a lower precision; None for float32.

    Raises:
        ExportError: the parts do not fit, a graph differs from its source, a lower precision loses too much accuracy,
            `out` has other content, or the disk is full.
    """
    _check_fit(pack, trained)
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not a bundle", "choose another --out")
    towers = (towers or load_towers(pack)).only(trained.towers_read)
    trained.check_weights(towers)
    sample = quantization.sample() if quantization else None
    try:
        with directory_in_place(out) as staging:
            _write(pack, trained, towers, towers.to_onnx(), staging)
            parity_error = measure_parity_error(Bundle.load(staging), towers, trained, verify_on)
            if quantization and sample:
                _quantize(pack, trained, towers, quantization, sample, staging)
            manifest = Manifest.read(staging / MANIFEST)
            replace(manifest, parity_error=parity_error).write(staging / MANIFEST)
    except OSError as error:
        raise ExportError(
            f"the bundle cannot be written to {out} ({error.strerror or error})",
            "free some space or choose another --out; an existing bundle is unchanged",
        ) from error
    return Bundle.load(out)


def _quantize(
    pack: Pack, trained: Trained, towers: Towers, quantization: Quantization, sample: Sample, directory: Path
) -> None:
    """Replace the float32 bundle in a directory by a lower precision, if its accuracy loss is acceptable."""
    from sceneseek_export.accuracy_loss import check, measure_accuracy_loss  # noqa: PLC0415 - float32 needs none of the converters
    from sceneseek_export.quantization import compared_texts, quantized  # noqa: PLC0415

    calibrated = sample.calibrated_on if quantization.precision == "int8" else ()
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}.fp32.") as scratch:
        fp32 = Path(scratch)
        for file in directory.iterdir():
            file.rename(fp32 / file.name)
        tower_graphs = quantized(towers, quantization.precision, sample.calibrated_on)
        _write(pack, trained, towers, tower_graphs, directory, quantization.precision, calibrated)
        converted = Bundle.load(directory)
        texts = compared_texts(quantization.data)
        loss = measure_accuracy_loss(Bundle.load(fp32), converted, sample.compared_on, texts, quantization.data)
        check(loss, quantization.forced)
    entry = {**loss.to_json(), "calibrated_on": len(calibrated), "forced": quantization.forced}
    replace(converted.manifest, accuracy_loss=entry).write(directory / MANIFEST)


def _write(
    pack: Pack,
    trained: Trained,
    towers: Towers,
    tower_graphs: Mapping[str, onnx.ModelProto],
    directory: Path,
    precision: Precision = "fp32",
    calibrated: Sequence[Path] = (),
) -> None:
    alignment, head = trained.alignment, trained.head
    graphs = {
        IMAGE_GRAPH: image_graph(towers.images, tower_graphs, alignment, head),
        TEXT_GRAPH: text_graph(towers.texts, tower_graphs, alignment, head),
        SCORE_GRAPH: score_graph(head, alignment.joint),
    }
    tokenizers = {tower.input.tokenizer: tower.tokenizer for tower in towers.texts}
    image_precision = f"{precision}, calibrated on {calibrated_on(calibrated)}" if calibrated else precision
    recipes = {
        IMAGE_GRAPH: graph_recipe(graphs[IMAGE_GRAPH], towers.images, image_precision),
        TEXT_GRAPH: graph_recipe(graphs[TEXT_GRAPH], towers.texts, precision),
        SCORE_GRAPH: graph_recipe(graphs[SCORE_GRAPH], (), precision),
        **{name: hashlib.sha256(content).hexdigest() for name, content in tokenizers.items()},
    }
    for name, model in graphs.items():
        _write_graph(model, directory / name)
    for name, content in tokenizers.items():
        (directory / name).write_bytes(content)
    written = sorted(file.name for file in directory.iterdir())
    Manifest.build(
        pack=pack.name,
        towers=towers.provenance(),
        dimensions=Dimensions(joint=alignment.joint, image_head=head.image_width, text_head=head.text_width),
        image_inputs=tuple(tower.input for tower in towers.images),
        text_inputs=tuple(tower.input for tower in towers.texts),
        head=HeadEntry(
            kind=head.kind, calibrated=trained.calibrated, validation=dict(head.validation), match=head.match
        ),
        alignment={"fingerprint": alignment.fingerprint, **alignment.card},
        precision=precision,
        recipes=recipes,
        files={name: sha256_of(directory / name) for name in written},
        parity_error={},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    ).write(directory / MANIFEST)


def _write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, moving its large weights (in place) to a separate file.

    ONNX Runtime maps that file into memory instead of reading it, so a session opens in half the time and processes
    share the pages. Each weight is page-aligned, as the ONNX specification advises.
    """
    data = path.with_name(f"{path.name}.data")
    weights = [weight for weight in model.graph.initializer if len(weight.raw_data) >= _MAPPED_BYTES]
    if weights:
        with data.open("wb") as file:
            for weight in weights:
                offset = -(-file.tell() // _PAGE_BYTES) * _PAGE_BYTES
                file.seek(offset)
                file.write(weight.raw_data)
                set_external_data(weight, data.name, offset, len(weight.raw_data))
                weight.ClearField("raw_data")
    path.write_bytes(model.SerializeToString(deterministic=True))


def _check_fit(pack: Pack, trained: Trained) -> None:
    alignment, head = trained.alignment, trained.head
    if alignment.pack != pack.name or not trained.towers_read <= {tower.name for tower in pack.towers}:
        raise ExportError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass this pack's alignment with --alignment",
        )
    fits_any = not head.alignment and head.reads == {"similarity"}
    if not fits_any and head.alignment != alignment.fingerprint:
        raise ExportError(
            f"the head was trained on another joint space ({head.alignment[:12] or 'not recorded'}, "
            f"this alignment is {alignment.fingerprint[:12]})",
            "train the head on this alignment with `sceneseek train heads`",
        )
    if "spread" in head.reads and not all(space.typical for space in alignment.spaces):
        raise ExportError(
            "the head reads the distribution of typical images, which the alignment lacks", "train the alignment again"
        )


# Increment it with every change to the exporter that changes the vectors of the same towers; a test compares the
# graphs of the pack `compact` with those of this version.
EXPORTER = 2


def calibrated_on(pictures: Iterable[Path]) -> str:
    """Hex sha256 of the contents of pictures, in the given order."""
    return hashlib.sha256("".join(map(sha256_of, pictures)).encode()).hexdigest()


def graph_recipe(model: onnx.ModelProto, towers: Sequence[ImageTower | TextTower], precision: str) -> str:
    """Hex sha256 of the sources of a composed graph.

    Args:
        model: from `sceneseek_export.composition`, where all names in a tower begin with the tower's name and a slash.
        towers: the towers in the graph.
        precision: precision of their graphs, and a hash of the calibration pictures.
    """
    prefixes = tuple(f"{tower.spec.name}/" for tower in towers)
    sources = {
        tower.spec.name: {
            "architecture": tower.spec.architecture,
            "pooling": tower.spec.pooling if isinstance(tower.spec, TextTowerSpec) else "",
            "weights": tower.sha256,
            "precision": precision,
            # Not a new `EXPORTER`: images are unchanged, and every index would have to be rebuilt.
            **({"products": "int8"} if isinstance(tower, TextTower) and tower.rounds else {}),
        }
        for tower in towers
    }
    graph, digest = model.graph, hashlib.sha256()
    digest.update(json.dumps([EXPORTER, sources], sort_keys=True).encode())
    parts = [
        *graph.input,
        *graph.output,
        *(node for node in graph.node if not node.output[0].startswith(prefixes)),
        *(weight for weight in graph.initializer if not weight.name.startswith(prefixes)),
    ]
    for part in parts:
        content = part.SerializeToString(deterministic=True)
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
