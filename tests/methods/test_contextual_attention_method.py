"""DeepFill v1 against recorded vectors, and what differs from the other methods."""

import pytest
import torch
from recorded import PER_LAYER, PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint.methods.contextual_attention import ContextualAttentionGenerator, ELUConv2d
from csa_inpaint.methods.deepfill import Variant
from csa_inpaint.networks.contextual_attention import ContextualAttention
from csa_inpaint.weights import deepfill


def generator(variant: Variant = "symmetric") -> ContextualAttentionGenerator:
    torch.manual_seed(0)
    return ContextualAttentionGenerator(4, variant)


def pictures(height: int = 32, width: int = 40) -> tuple[Tensor, Tensor]:
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(2, 1, height, width)
    mask[0, :, 8:20, 8:24] = 1
    mask[1, :, 12:20, 8:24] = 1
    return image, mask


class PortAttention(ContextualAttention):
    """The port of version 1 adds 1e-4 to every square before it sums them to a key's length."""

    def unit(self, keys: Tensor) -> Tensor:
        return keys / (keys.square() + 1e-4).sum(1, keepdim=True).sqrt()


@needs_recorded
@pytest.mark.parametrize("port", ["", "_mmagic"])
def test_generator_reproduces_recorded_networks(port: str) -> None:
    golden = recorded(f"deepfill_v1_net{port}")
    layers = deepfill.mmagic_layers(gated=False) if port else deepfill.version_1_layers()
    network = generator("mmagic" if port else "symmetric")
    if not port:
        network.attention = PortAttention()
    network.load_state_dict(deepfill.renamed(below(golden, "state."), layers))
    with torch.no_grad():
        out = network(golden["image"], golden["hole"])
    found = {
        stage: error(image, golden[stage])
        for stage, image in (("stage1", out.rough), ("stage2", out.refined))
    }
    print(f"network: {found}")  # pytest -s shows it
    assert max(found.values()) <= PER_NETWORK, found


def test_generator_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = ContextualAttentionGenerator()
    assert sum(p.numel() for p in network.rough.parameters()) == 1_448_227
    assert sum(p.numel() for p in network.parameters()) == 3_601_542


def test_images_are_cut_off_and_both_stages_see_the_hole() -> None:
    network, (image, mask) = generator(), pictures()
    seen: list[Tensor] = []
    for part in (network.rough, network.dilated_branch, network.attention_branch):
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.rough[-2].bias += 5
        network.decoder[-2].bias -= 5
    out = network(image, mask)
    assert out.rough.unique().tolist() == [1]
    assert out.refined.unique().tolist() == [-1]
    for given in seen:
        assert torch.equal(given[:, 3:], torch.cat([torch.ones_like(mask), mask], 1))
    hole = mask.expand_as(image) > 0
    assert (seen[1][:, :3][hole] == 1).all()
    assert torch.equal(seen[1][:, :3][~hole], image[~hole])


def test_every_parameter_learns_through_the_refined_image() -> None:
    network = generator()
    network(*pictures()).refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_layer_before_the_attention_has_relu() -> None:
    kinds = {
        variant: type(generator(variant).attention_branch[-1].activation)
        for variant in ("symmetric", "tensorflow", "mmagic")
    }
    assert kinds == {"symmetric": nn.ReLU, "tensorflow": nn.ReLU, "mmagic": nn.ELU}


def test_convolution_has_elu_behind_it() -> None:
    layer, x = ELUConv2d(3, 2), torch.randn(1, 3, 5, 5)
    expected = nn.functional.elu(nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))
    assert error(layer(x), expected) <= PER_LAYER


def test_generator_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"36×32: ContextualAttentionGenerator.* multiples of 8"):
        generator()(torch.zeros(1, 3, 36, 32), torch.zeros(1, 1, 36, 32))
    with pytest.raises(ValueError, match="width=3, expected an even number"):
        ContextualAttentionGenerator(3)
    with pytest.raises(ValueError, match="variant='tf'"):
        ContextualAttentionGenerator(4, "tf")  # type: ignore[arg-type]
