"""Key names of public gated-convolution networks."""

import pytest
import torch

from csa_inpaint.methods.gated_conv import GatedConvGenerator
from csa_inpaint.weights import deepfill

LAYERS = [
    deepfill.pytorch_layers(),
    deepfill.tensorflow_layers(),
    deepfill.mmagic_layers(),
    deepfill.mmagic_layers(gated=False),
    deepfill.version_1_layers(),
]


@pytest.mark.parametrize("layers", LAYERS)
def test_layers_are_all_those_of_the_generator(layers: dict[str, str]) -> None:
    state = GatedConvGenerator(2).state_dict()
    ours = [f"{name}.{kind}" for name in layers.values() for kind in ("weight", "bias")]
    assert len(layers) == 42
    assert ours == list(state)


def test_renamed_takes_the_layers_and_nothing_else() -> None:
    weight, bias = torch.zeros(1), torch.ones(1)
    state = {"a.conv.weight": weight, "a.conv.bias": bias, "a.fuse_weight": weight}
    assert deepfill.renamed(state, {"a.conv": "b"}) == {"b.weight": weight, "b.bias": bias}
    with pytest.raises(KeyError, match=r"c\.weight"):
        deepfill.renamed(state, {"c": "b"})
