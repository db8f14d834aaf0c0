"""The networks against the paper's sizes and their definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from csa_inpaint.csa import CSALayer
from csa_inpaint.networks.blocks import DilatedHalve
from csa_inpaint.networks.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from csa_inpaint.networks.generator import Generator
from csa_inpaint.networks.unet import RefinementNetwork, RoughNetwork


def test_networks_have_the_published_parameter_counts() -> None:
    with torch.device("meta"):
        networks = {
            RoughNetwork(): 54_419_459,
            RefinementNetwork(CSALayer()): 77_692_291,
            PatchDiscriminator(): 2_766_529,
            FeaturePatchDiscriminator(): 10_487_296,
        }
    for network, count in networks.items():
        assert sum(p.numel() for p in network.parameters()) == count, type(network).__name__


def test_networks_start_at_the_published_deviation() -> None:
    for module in Generator(width=32, depth=4).modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert not module.bias.any()
            if module.weight.numel() > 10_000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("size", [(8, 8), (2, 6), (10, 4)])
def test_dilated_halve_equals_the_dilated_convolution(size: tuple[int, int]) -> None:
    layer = DilatedHalve(3).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weights = (x, layer.weight, layer.bias)
    expected = F.conv2d(*weights, stride=2, padding=3, dilation=2)
    output = layer(x)
    assert output.shape[-2:] == (size[0] // 2, size[1] // 2)
    torch.testing.assert_close(output, expected)
    direction = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(output, weights, direction),
        torch.autograd.grad(expected, weights, direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "features", "logits"),
    [((2, 1, 1), 32, 14), ((2, 2, 2), 32, 4), ((2, 1, 1), 8, 2)],
)
def test_feature_discriminator_has_the_figures_sizes(
    strides: tuple[int, int, int], features: int, logits: int
) -> None:
    model = FeaturePatchDiscriminator(4, 6, strides)
    assert model(torch.randn(2, 4, features, features)).shape == (2, 6, logits, logits)


def test_patch_discriminator_has_the_published_size() -> None:
    assert PatchDiscriminator(2)(torch.randn(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert PatchDiscriminator(2)(torch.randn(1, 3, 32, 48)).shape == (1, 1, 2, 4)


@pytest.mark.parametrize("depth", [4, 5])
def test_generator_takes_any_size_that_the_depth_divides(depth: int) -> None:
    image, mask = torch.rand(2, 3, 64, 96) * 2 - 1, torch.zeros(2, 1, 64, 96)
    mask[0, :, 8:40, 8:40] = mask[1, :, 20:60, 40:90] = 1
    out = Generator(4, depth)(image, mask)
    assert out.rough.shape == out.refined.shape == out.composite.shape == image.shape
    assert out.encoder_features.shape == out.decoder_features.shape == (2, 32, 8, 12)
    known = (mask == 0).expand_as(image)
    assert torch.equal(out.composite[known], image[known])
    assert torch.equal(out.composite[~known], out.refined[~known])


def test_generator_never_sees_the_hole() -> None:
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    model = Generator(4, 4)
    expected = model(image, mask)
    other = torch.where(mask > 0, float("nan"), image)
    for one, two in zip(model(other, mask), expected, strict=True):
        assert torch.equal(one, two)


def test_generator_keeps_samples_apart() -> None:
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:40, 8:40] = mask[1, :, 24:56, 16:60] = 1
    model = Generator(4, 4).eval()
    both = model(image, mask)
    alone = model(image[1:], mask[1:])
    torch.testing.assert_close(both.refined[1:], alone.refined, rtol=1e-4, atol=1e-5)


def test_generator_refuses_a_size_that_does_not_divide() -> None:
    image, mask = torch.zeros(1, 3, 64, 72), torch.zeros(1, 1, 64, 72)
    with pytest.raises(ValueError, match=r"64×72 cannot be halved 4 times.*multiples of 16"):
        Generator(4, 4)(image, mask)


def test_generator_refuses_a_mask_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"mask has shape .*needs \(1, 1, 64, 64\)"):
        Generator(4, 4)(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        Generator(4, 4)(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 1}, "depth=1: a network needs at least 2"),
        ({"depth": 3, "attention_level": 3}, "attention_level=3 is not between 1 and 2"),
        ({"depth": 4, "attention_level": 0}, "attention_level=0 is not between 1 and 3"),
    ],
)
def test_generator_refuses_a_level_that_is_not_there(
    settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Generator(4, **settings)
