"""Towers, alignment and head joined into the three graphs of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, compose, helper

from export import graphs
from export.towers import OPSET, ImageTower, TextTower
from sceneseek.alignment import Alignment
from sceneseek.heads import CosineHead, Head, MlpHead
from sceneseek.manifest import ImageInput


class Composition:
    """A graph under construction: pieces are added with a prefix and wired by tensor names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, prefix: str, piece: onnx.ModelProto, **wires: str) -> dict[str, str]:
        """Add a piece.

        Args:
            prefix: put before every name inside the piece; unique within the composition.
            piece: a model of the composition's opset.
            wires: for each input of the piece the tensor that feeds it.

        Returns:
            For each output of the piece the name of its tensor here.
        """
        wanted = {node.name for node in piece.graph.input} - {w.name for w in piece.graph.initializer}
        if wanted != set(wires):
            raise ValueError(f"{prefix} takes {sorted(wanted)}, not {sorted(wires)}")
        named = compose.add_prefix(piece, f"{prefix}/")
        # An Identity a wire: the runtime removes it, and the piece's inner graph stays untouched.
        self._nodes += [
            helper.make_node("Identity", [tensor], [f"{prefix}/{name}"], name=f"{prefix}/{name}/wire")
            for name, tensor in sorted(wires.items())
        ]
        self._nodes += named.graph.node
        self._weights += named.graph.initializer
        return {output.name: f"{prefix}/{output.name}" for output in piece.graph.output}

    def build(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, tuple[str, list[str | int]]]
    ) -> onnx.ModelProto:
        """The finished model; `outputs` maps each output's name to its tensor and shape (float32)."""
        ends = [helper.make_node("Identity", [tensor], [out], name=out) for out, (tensor, _) in outputs.items()]
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, s) for o, (_, s) in outputs.items()]
        graph = helper.make_graph([*self._nodes, *ends], name, inputs, infos, self._weights)
        return finish(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=graphs.IR_VERSION)
        )


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Strip what does not belong to the function (so the same input gives the same bytes), and check it."""
    model.producer_name, model.producer_version, model.doc_string = "sceneseek", "", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def tower_features(
    composition: Composition, towers: Sequence[ImageTower], inputs: Sequence[ImageInput]
) -> tuple[list[onnx.ValueInfoProto], dict[str, str], dict[str, str]]:
    """Add the image towers; gives the graph's inputs and, by tower name, features' and logits' tensors."""
    infos, features, logits = [], {}, {}
    for tower, spec in zip(towers, inputs, strict=True):
        name = tower.spec.name
        shape: list[str | int] = ["N", spec.height, spec.width, 3]
        infos.append(helper.make_tensor_value_info(spec.name, TensorProto.UINT8, shape))
        pixels = composition.add(f"{name}.input", graphs.pixels_to_tower(spec), pixels=spec.name)
        out = composition.add(name, tower.to_onnx(spec), pixels=pixels["normalised"])
        features[name], logits[name] = out["features"], out["logits"]
    return infos, features, logits


def image_graph(
    towers: Sequence[ImageTower], inputs: Sequence[ImageInput], alignment: Alignment, head: Head
) -> onnx.ModelProto:
    """`image.onnx`: pixel tensors to ``joint`` (N, D) and ``head`` (N, H_i)."""
    composition = Composition()
    infos, features, logits = tower_features(composition, towers, inputs)
    names = None
    if alignment.names is not None:
        source = logits[alignment.names.tower]
        names = composition.add("names", graphs.class_names(alignment.names), logits=source)["names"]
    parts = []
    for i, block in enumerate(alignment.blocks):
        columns = [features[tower] for tower in block.towers] + ([names] if names else [])
        x = _side_by_side(composition, f"block{i}.input", columns)
        parts.append(composition.add(f"block{i}", graphs.image_block(block), x=x)["y"])
    if names and alignment.names_share > 0:
        parts.append(composition.add("named", graphs.scaled(alignment.names_share), x=names)["y"])
    joint = _side_by_side(composition, "joint.parts", parts)
    if isinstance(head, MlpHead):
        x = _side_by_side(composition, "head.input", [features[tower] for tower in head.towers])
        share, width = composition.add("head.share", graphs.image_share(head), x=x)["head"], len(head.bias)
    else:
        share, width = composition.add("head.share", graphs.no_head(), x=joint)["head"], 0
    return composition.build("image", infos, {"joint": (joint, ["N", alignment.joint]), "head": (share, ["N", width])})


def text_graph(tower: TextTower, alignment: Alignment, head: Head) -> onnx.ModelProto:
    """`text.onnx`: token ids and mask to ``joint`` (N, D) and ``head`` (N, H_t)."""
    composition = Composition()
    infos = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "L"]) for name in ("input_ids", "attention_mask")
    ]
    out = composition.add(tower.spec.name, tower.to_onnx(), input_ids="input_ids", attention_mask="attention_mask")
    text = composition.add("text", graphs.unit("tower", "unit"), tower=out["text"])["unit"]
    parts = [
        composition.add(f"block{i}", graphs.text_block(block), x=text)["y"] for i, block in enumerate(alignment.blocks)
    ]
    if alignment.names is not None and alignment.names_share > 0:
        parts.append(composition.add("named", graphs.scaled(alignment.names_share), x=text)["y"])
    joint = _side_by_side(composition, "joint.parts", parts)
    if isinstance(head, MlpHead):
        share, width = composition.add("head.share", graphs.text_share(head), x=text)["head"], len(head.bias)
    else:
        share, width = composition.add("head.share", graphs.no_head(), x=joint)["head"], 0
    return composition.build("text", infos, {"joint": (joint, ["N", alignment.joint]), "head": (share, ["N", width])})


def score_graph(head: Head) -> onnx.ModelProto:
    """`score.onnx`: candidates to ``score`` (N)."""
    piece = graphs.cosine_score(head.calibration) if isinstance(head, CosineHead) else graphs.mlp_score(head)
    return finish(piece)


def features_graph(towers: Sequence[ImageTower], inputs: Sequence[ImageInput]) -> onnx.ModelProto:
    """What `training` runs: pixel tensors to ``NAME.features`` and ``NAME.logits`` of each image tower."""
    composition = Composition()
    infos, features, logits = tower_features(composition, towers, inputs)
    outputs: dict[str, tuple[str, list[str | int]]] = {}
    for tower in towers:
        name = tower.spec.name
        outputs[f"{name}.features"] = (features[name], ["N", tower.features])
        outputs[f"{name}.logits"] = (logits[name], ["N", tower.classes])
    return composition.build("features", infos, outputs)


def _side_by_side(composition: Composition, prefix: str, columns: list[str]) -> str:
    if len(columns) == 1:
        return columns[0]
    wires = {f"x{i}": tensor for i, tensor in enumerate(columns)}
    return composition.add(prefix, graphs.side_by_side(len(columns)), **wires)["y"]
