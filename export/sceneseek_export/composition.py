"""Composes towers, alignment and head into the three graphs of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, compose, helper

from sceneseek_export import head_subgraphs, subgraphs
from sceneseek_export.alignment import Alignment
from sceneseek_export.alignment_maps import ClassNames, Space
from sceneseek_export.heads import OF_TEXT, Head
from sceneseek_export.towers import ImageTower, TextTower

Output = tuple[str, list[str | int]]  # an output's tensor and shape


class Composition:
    """A graph under construction: subgraphs are added under a prefix and wired by tensor names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, prefix: str, subgraph: onnx.ModelProto, **wires: str) -> dict[str, str]:
        """Add a subgraph.

        Args:
            prefix: prefix of every name in the subgraph; unique within the composition.
            subgraph: a model of the composition's opset.
            wires: the tensor that feeds each input of the subgraph.

        Returns:
            The name of the tensor of each output of the subgraph.
        """
        expected = {node.name for node in subgraph.graph.input} - {w.name for w in subgraph.graph.initializer}
        if expected != set(wires):
            raise ValueError(f"{prefix} takes {sorted(expected)}, not {sorted(wires)}")
        named = compose.add_prefix(subgraph, f"{prefix}/")
        # One Identity per wire: the runtime removes it, and the subgraph itself is unchanged.
        self._nodes += [
            helper.make_node("Identity", [tensor], [f"{prefix}/{name}"], name=f"{prefix}/{name}/wire")
            for name, tensor in sorted(wires.items())
        ]
        self._nodes += named.graph.node
        self._weights += named.graph.initializer
        return {output.name: f"{prefix}/{output.name}" for output in subgraph.graph.output}

    def build(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, Output]) -> onnx.ModelProto:
        """Return the finished model; `outputs` maps each output's name to its tensor and shape (float32)."""
        ends = [helper.make_node("Identity", [tensor], [out], name=out) for out, (tensor, _) in outputs.items()]
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, s) for o, (_, s) in outputs.items()]
        graph = helper.make_graph([*self._nodes, *ends], name, inputs, infos, self._weights)
        return finish(
            helper.make_model(graph, opset_imports=subgraphs.opsets(graph.node), ir_version=subgraphs.IR_VERSION)
        )


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Strip and check a bundle's graph, in place."""
    subgraphs.strip(model).producer_name = "sceneseek"
    onnx.checker.check_model(model, full_check=True)
    return model


def tower_features(
    composition: Composition, towers: Sequence[ImageTower], tower_graphs: Mapping[str, onnx.ModelProto]
) -> tuple[list[onnx.ValueInfoProto], dict[str, str], dict[str, str]]:
    """Add the image towers; return the graph's inputs and, by tower name, the tensors of features and of logits."""
    infos, features, logits = [], {}, {}
    for tower in towers:
        name, spec = tower.spec.name, tower.input
        shape: list[str | int] = ["N", spec.height, spec.width, 3]
        infos.append(helper.make_tensor_value_info(spec.name, TensorProto.UINT8, shape))
        pixels = composition.add(f"{name}.input", subgraphs.pixels_to_tower(spec), pixels=spec.name)
        out = composition.add(name, tower_graphs[name], pixels=pixels["normalised"])
        features[name] = out["features"]
        if tower.classes:
            logits[name] = out["logits"]
    return infos, features, logits


def image_graph(
    towers: Sequence[ImageTower], tower_graphs: Mapping[str, onnx.ModelProto], alignment: Alignment, head: Head
) -> onnx.ModelProto:
    """`image.onnx`: pixel tensors to ``joint`` (N, D) and ``head`` (N, H_i).

    Args:
        towers: the towers that the alignment and the head read.
        tower_graphs: their graphs by name, from `to_onnx` or in a lower precision.
        alignment: maps their outputs into the joint space.
        head: the head whose image share is computed.
    """
    composition = Composition()
    infos, features, logits = tower_features(composition, towers, tower_graphs)
    for tower, limits in alignment.ranges.items():
        if tower in features:
            features[tower] = composition.add(f"{tower}.range", subgraphs.clipped(limits), x=features[tower])["y"]
    names = {text: _class_names(composition, text, names, logits) for text, names in alignment.names.items()}
    joints = [
        _image_joint(composition, f"space{i}", space, features, names.get(space.text))
        for i, space in enumerate(alignment.spaces)
    ]
    joint = joints[0] if alignment.mixing is None else _joined(composition, joints)
    if head.image_width:
        read = [features[tower] for tower in head.towers if tower in features]
        x = _side_by_side(composition, "head.input", read)
        share = composition.add("head.share", head_subgraphs.image_share(head), image=x)["head"]
    else:
        share = composition.add("head.share", head_subgraphs.no_head(), x=joint)["head"]
    outputs: dict[str, Output] = {"joint": (joint, ["N", alignment.joint]), "head": (share, ["N", head.image_width])}
    return composition.build("image", infos, outputs)


def _image_joint(
    composition: Composition, prefix: str, space: Space, features: Mapping[str, str], names: str | None
) -> str:
    """The tensor of the images' joint vectors in a space, from the tensors of features and class-name vectors."""
    parts = []
    for i, block in enumerate(space.blocks):
        inputs = [*(features[tower] for tower in block.towers), *([] if names is None else [names])]
        x = _side_by_side(composition, f"{prefix}.block{i}.input", inputs)
        learned = subgraphs.linear_unit(block.image_weight, block.image_bias, block.share)
        parts.append(composition.add(f"{prefix}.block{i}", learned, x=x)["y"])
    z = _side_by_side(composition, f"{prefix}.parts", parts)
    if space.hubness is None:
        return z
    return composition.add(f"{prefix}.hubness", subgraphs.image_hubness(space.hubness), z=z)["joint"]


def _class_names(composition: Composition, text: str, names: ClassNames, logits: Mapping[str, str]) -> str:
    """The tensor of the class-name vectors in the space of a text tower."""
    vectors = [
        composition.add(f"{text}.names.{tower}", subgraphs.class_names(names), logits=logits[tower])["names"]
        for tower in names.towers
    ]
    if len(vectors) == 1:
        return vectors[0]
    wires = {f"x{i}": tensor for i, tensor in enumerate(vectors)}
    return composition.add(f"{text}.names", subgraphs.mean_direction(len(vectors)), **wires)["y"]


def text_graph(
    towers: Sequence[TextTower], tower_graphs: Mapping[str, onnx.ModelProto], alignment: Alignment, head: Head
) -> onnx.ModelProto:
    """`text.onnx`: each tower's token ids and mask to ``joint`` (N, D) and ``head`` (N, H_t); see `image_graph`."""
    composition = Composition()
    infos, texts = [], {}
    for tower in towers:
        name, subgraph = tower.spec.name, tower_graphs[tower.spec.name]
        wires = {node.name: f"{name}.{node.name}" for node in subgraph.graph.input}
        # Each tower has its own tokenizer, so the number of tokens differs between towers.
        infos += [helper.make_tensor_value_info(wire, TensorProto.INT64, ["N", f"L.{name}"]) for wire in wires.values()]
        out = composition.add(name, subgraph, **wires)
        texts[name] = composition.add(f"{name}.unit", subgraphs.unit("tower", "unit"), tower=out["text"])["unit"]
    parts = [
        [
            composition.add(
                f"space{i}.block{k}",
                subgraphs.linear_unit(block.text_weight, block.text_bias, block.share),
                x=texts[space.text],
            )["y"]
            for k, block in enumerate(space.blocks)
        ]
        for i, space in enumerate(alignment.spaces)
    ]
    joints = [
        _text_joint(composition, f"space{i}", space, own)
        for i, (space, own) in enumerate(zip(alignment.spaces, parts, strict=True))
    ]
    joint, understood = joints[0], []
    if alignment.mixing is not None:
        read = {"first": texts[alignment.mixing.first], "second": texts[alignment.mixing.second]}
        weights = composition.add("mixing", subgraphs.mixing(alignment.mixing), **read)
        understood = [weights["understood"]]
        weighted = [
            composition.add(f"space{i}.weighted", subgraphs.weighted(), x=own, weight=weights[f"w{i}"])["y"]
            for i, own in enumerate(joints)
        ]
        joint = _joined(composition, weighted)
    if head.text_width:
        read = {}
        if "text" in head.reads:
            vectors = [texts[tower] for tower in head.towers if tower in texts] or list(texts.values())
            read["text"] = _side_by_side(composition, "head.texts", vectors)
        if "spread" in head.reads:
            spreads = [
                composition.add(f"space{i}.spread{k}", subgraphs.text_spread(space.typical, k, block.share), z=part)
                for i, space in enumerate(alignment.spaces)
                if space.typical is not None
                for k, (block, part) in enumerate(zip(space.blocks, parts[i], strict=True))
            ]
            read["spread"] = _side_by_side(
                composition, "spread", [*(spread["spread"] for spread in spreads), *understood]
            )
        wires = {name: read[name] for name in OF_TEXT if name in head.reads}
        share = composition.add("head.share", head_subgraphs.text_share(head), **wires)["head"]
    else:
        share = composition.add("head.share", head_subgraphs.no_head(), x=joint)["head"]
    outputs: dict[str, Output] = {"joint": (joint, ["N", alignment.joint]), "head": (share, ["N", head.text_width])}
    return composition.build("text", infos, outputs)


def _text_joint(composition: Composition, prefix: str, space: Space, parts: list[str]) -> str:
    """The tensor of the texts' joint vectors in a space, from the tensors of its blocks."""
    z = _side_by_side(composition, f"{prefix}.parts", parts)
    if space.hubness is None:
        return z
    return composition.add(f"{prefix}.hubness", subgraphs.text_hubness(space.hubness), z=z)["joint"]


def _joined(composition: Composition, joints: Sequence[str]) -> str:
    """The tensor of the spaces' vectors side by side, scaled to length 1."""
    joined = _side_by_side(composition, "joint.spaces", list(joints))
    return composition.add("joint.unit", subgraphs.unit("x", "y"), x=joined)["y"]


def score_graph(head: Head, joint: int) -> onnx.ModelProto:
    """`score.onnx`: candidates to ``score`` (N); `joint` is the width of the joint vectors."""
    return finish(head_subgraphs.score(head, joint))


def features_graph(towers: Sequence[ImageTower]) -> onnx.ModelProto:
    """The graph of `training`: pixels to each image tower's ``NAME.features`` and, for classifiers, ``NAME.logits``."""
    composition = Composition()
    infos, features, logits = tower_features(
        composition, towers, {tower.spec.name: tower.to_onnx() for tower in towers}
    )
    outputs: dict[str, Output] = {}
    for tower in towers:
        name = tower.spec.name
        outputs[f"{name}.features"] = (features[name], ["N", tower.features])
        if name in logits:
            outputs[f"{name}.logits"] = (logits[name], ["N", tower.classes])
    return composition.build("features", infos, outputs)


def _side_by_side(composition: Composition, prefix: str, columns: list[str]) -> str:
    if len(columns) == 1:
        return columns[0]
    wires = {f"x{i}": tensor for i, tensor in enumerate(columns)}
    return composition.add(prefix, subgraphs.side_by_side(len(columns)), **wires)["y"]
