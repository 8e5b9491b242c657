"""ResNet (He et al. 2015): the mean over the last stage, and the classifier if it is that of ImageNet-1k."""

from __future__ import annotations

from typing import Any

import onnx
from torch import Tensor, nn

from sceneseek.bundle import ImageInput
from sceneseek_export.packs import ImageTowerSpec
from sceneseek_export.subgraphs import followed_by, subgraph
from sceneseek_export.towers.base import ImageTower
from sceneseek_export.towers.preprocessor import image_input
from sceneseek_export.towers.pretrained import exported, load_model, open_checkpoint, torch_image_reference

# The first and the last of the classes of ImageNet-1k, in the order in which models are trained on it.
_FIRST, _LAST, _CLASSES = "tench", "toilet tissue", 1000


def resnet(spec: ImageTowerSpec) -> ImageTower:
    """A ResNetModel or ResNetForImageClassification of transformers.

    Raises:
        ExportError: see `open_checkpoint`, `load_model` and `image_input`.
    """
    from transformers import ResNetForImageClassification, ResNetModel  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    prepared = image_input(spec, source.folder)
    classifier = None
    if "ResNetForImageClassification" in (source.config.get("architectures") or ()):
        whole = load_model(source, ResNetForImageClassification)
        net = whole.resnet
        if _of_imagenet(whole.config):
            classifier = whole.classifier[1]
    else:
        net = load_model(source, ResNetModel)
    return ImageTower(
        spec,
        prepared,
        features=net.config.hidden_sizes[-1],
        classes=_CLASSES if classifier is not None else 0,
        sha256=source.sha256,
        to_onnx=lambda: _to_onnx(net, classifier, prepared),
        reference=torch_image_reference(lambda pixels: _features_and_logits(net, classifier, pixels)),
    )


def _features_and_logits(net: Any, classifier: nn.Linear | None, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    features: Tensor = net(pixel_values=pixels).pooler_output.flatten(1)
    return features if classifier is None else (features, classifier(features))


def _of_imagenet(config: Any) -> bool:
    names = config.id2label
    return len(names) == _CLASSES and names[0].startswith(_FIRST) and names[_CLASSES - 1].startswith(_LAST)


def _to_onnx(net: Any, classifier: nn.Linear | None, prepared: ImageInput) -> onnx.ModelProto:
    graph = exported(net, "ResNet", prepared)
    flat = "features = Flatten<axis = 1>(pooled)"
    if classifier is None:
        end = subgraph(f"end (float[N,F,1,1] pooled) => (float[N,F] features) {{ {flat} }}")
    else:
        end = subgraph(
            f"""
            end (float[N,F,1,1] pooled) => (float[N,F] features, float[N,C] logits) {{
                {flat}
                logits = Gemm<transB = 1>(features, weight, bias)
            }}""",
            weight=classifier.weight.detach().numpy(),
            bias=classifier.bias.detach().numpy(),
        )
    return followed_by(graph, end, {"pooled": "pooled"})
