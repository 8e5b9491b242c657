"""The image towers say what their packages' own networks say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from export.towers import load_image_tower
from sceneseek.packs import ImageTowerSpec, find_pack

PACK = find_pack("compact")


@pytest.mark.parametrize(
    ("spec", "stages"),
    list(zip(PACK.image_towers, [(192, 320), (208, 352)], strict=True)),
    ids=[spec.name for spec in PACK.image_towers],
)
def test_features_are_means_of_the_last_two_stages_and_of_what_the_classifier_sees(
    spec: ImageTowerSpec, stages: tuple[int, int]
) -> None:
    tower = load_image_tower(spec)
    net: Any = tower.module.net
    widths = [block._block_args.output_filters for block in net._blocks]
    ends = [len(widths) - 1 - widths[::-1].index(width) for width in stages]
    outputs: dict[int, torch.Tensor] = {}
    for i in ends:
        net._blocks[i].register_forward_hook(lambda _module, _inputs, output, i=i: outputs.update({i: output}))
    pixels = torch.randn(2, 3, tower.input.height, tower.input.width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected_logits = net(pixels)
        maps = [*(outputs[i] for i in ends), net.extract_features(pixels)]
        features, logits = tower.module(pixels)
    assert features.shape == (2, tower.features) == (2, sum(stages) + 1280)
    assert logits.shape == (2, tower.classes) == (2, 1000)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(features, torch.cat([adaptive_avg_pool2d(seen, 1).flatten(1) for seen in maps], 1))
