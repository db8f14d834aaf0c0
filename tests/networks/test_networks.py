"""The networks against the paper's sizes and their definitions."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.adversaries.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from csa_inpaint.csa import CSALayer
from csa_inpaint.methods.csa import Generator, RoughGenerator
from csa_inpaint.networks.blocks import DilatedHalve
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
    tensors = [(*o[:3], *o.features[3]) for o in (model(other, mask), expected)]
    for one, two in zip(*tensors, strict=True):
        assert torch.equal(one, two)


def test_generator_keeps_samples_apart() -> None:
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:40, 8:40] = mask[1, :, 24:56, 16:60] = 1
    model = Generator(4, 4).eval()
    both = model(image, mask)
    alone = model(image[1:], mask[1:])
    torch.testing.assert_close(both.refined[1:], alone.refined, rtol=1e-4, atol=1e-5)


# --- where the attention stands ----------------------------------------------------------------


class Watched(CSALayer):
    """A CSA layer that records the sizes of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        assert mask.shape == (len(features), 1, *features.shape[-2:])
        self.sizes.append(tuple(features.shape[1:]))
        return super().forward(features, mask)


@pytest.mark.parametrize(
    ("levels", "sizes"),
    [
        ([3], [(32, 8, 12)]),
        ([4, 2], [(16, 16, 24), (32, 4, 6)]),
        ([1, 2, 3, 4], [(8, 32, 48), (16, 16, 24), (32, 8, 12), (32, 4, 6)]),
        ([], []),
    ],
)
def test_generator_attends_at_each_level_once(
    levels: list[int], sizes: list[tuple[int, ...]]
) -> None:
    image, mask = torch.rand(2, 3, 64, 96) * 2 - 1, torch.zeros(2, 1, 64, 96)
    mask[..., 8:40, 8:50] = 1
    layer = Watched()
    out = Generator(4, 5, levels, layer)(image, mask)
    assert layer.sizes == sizes
    assert list(out.features) == sorted(levels)
    for size, features in zip(sizes, out.features.values(), strict=True):
        assert features.encoder.shape == features.decoder.shape == (2, *size)
        assert features.mask.shape == (2, 1, *size[1:])
        # filled: in the hole each feature vector is a mixture of known ones, so none is larger
        known = features.mask.expand_as(features.encoder) == 0
        norms = features.encoder.norm(dim=1, keepdim=True)
        assert norms.max() <= norms[known[:, :1]].max() * 1.0001
    out.refined.sum().backward()


def test_generator_features_are_where_they_are_asked_for() -> None:
    torch.manual_seed(0)
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    plain = Generator(4, 5, [3])
    models = [Generator(4, 5, levels, feature_levels=[2, 3]) for levels in ([3], [])]
    for model in models:
        model.load_state_dict(plain.state_dict())  # the levels change no name and no size
    expected = plain(image, mask)
    with_layer, without = (model(image, mask) for model in models)
    assert list(with_layer.features) == list(without.features) == [2, 3]
    assert torch.equal(with_layer.refined, expected.refined)
    assert torch.equal(with_layer.features[3].encoder, expected.encoder_features)
    assert torch.equal(with_layer.features[3].decoder, expected.decoder_features)
    # the layer's input, whose features the layer changes in the hole
    seen, mask = without.features[3].encoder, without.features[3].mask
    assert torch.equal(seen * (1 - mask), expected.encoder_features * (1 - mask))
    torch.testing.assert_close(CSALayer()(seen, mask), expected.encoder_features)
    assert not torch.equal(seen, expected.encoder_features)


def test_inpainting_names_features_of_one_level_only() -> None:
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    for levels in ([], [2, 3]):
        out = Generator(4, 5, levels)(image, mask)
        for name in ("encoder_features", "decoder_features", "feature_mask"):
            with pytest.raises(ValueError, match="look each up in `features`"):
                getattr(out, name)


def test_inpainting_detaches_everything() -> None:
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    out = Generator(4, 5, [2, 3])(image, mask)
    cut = out.detach()
    assert list(cut.features) == [2, 3]
    tensors = [(*o[:3], *o.features[2], *o.features[3]) for o in (out, cut)]
    for before, after in zip(*tensors, strict=True):
        assert torch.equal(before, after)
        assert not after.requires_grad
    assert out.features[2].decoder.requires_grad


def test_rough_generator_is_the_first_stage_of_the_generator() -> None:
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    both, first = Generator(4, 4), RoughGenerator(4, 4)
    missing = first.load_state_dict(both.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert {key.split(".")[0] for key in missing.unexpected_keys} == {"refinement"}
    out = first(image, mask)
    assert torch.equal(out.rough, both(image, mask).rough)
    assert torch.equal(out.refined, out.rough)
    assert torch.equal(out.composite, torch.where(mask > 0, out.rough, image))
    assert out.features == {}


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
        (
            {"depth": 3, "attention_levels": [3]},
            r"attention_levels=\[3\]: 3 is not between 1 and 2",
        ),
        (
            {"depth": 4, "attention_levels": [2, 0]},
            r"attention_levels=\[2, 0\]: 0 is not between 1 and 3",
        ),
        ({"depth": 4, "feature_levels": [4]}, r"feature_levels=\[4\]: 4 is not between"),
        ({"depth": 4, "attention_levels": 2}, r"attention_levels=2 is no list: write \[2\]"),
    ],
)
def test_generator_refuses_a_level_that_is_not_there(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Generator(4, **settings)
