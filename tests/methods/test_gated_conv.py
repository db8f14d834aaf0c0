"""Gated convolution against recorded vectors of public implementations, and its contract.

The fixtures hold three of the five recorded layers, and one sample of one recorded network with
every third row and column of its outputs.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from csa_inpaint.methods.deepfill import PADDING, PaddedConv2d, Variant
from csa_inpaint.methods.gated_conv import GatedConv2d, GatedConvGenerator
from csa_inpaint.networks.contextual_attention import ContextualAttention
from csa_inpaint.weights import deepfill

FIXTURES = Path(__file__).parents[1] / "fixtures"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "rivals"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the complete golden vectors are not at ../shared"
)
# kernel size, stride and dilation of the recorded layers
LAYERS = {"0": (5, 1, 1), "1": (3, 2, 1), "2": (3, 1, 2), "3": (3, 1, 8), "4": (3, 2, 1)}


def error(output: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((output - expected).detach().abs().max() / expected.abs().max())


def filled_from(layer: GatedConv2d, golden: dict[str, Tensor], case: str) -> GatedConv2d:
    layer.load_state_dict({kind: golden[f"{case}.{kind}"] for kind in ("weight", "bias")})
    return layer


def pictures(batch: int = 2, height: int = 32, width: int = 40) -> tuple[Tensor, Tensor]:
    """Random images, each with a hole of its own."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    mask = torch.zeros(batch, 1, height, width)
    for index in range(batch):
        mask[index, :, 4 + 8 * index : 20 + 8 * index, 8:24] = 1
    return image, mask


def generator(variant: Variant = "symmetric", seed: int = 0) -> GatedConvGenerator:
    torch.manual_seed(seed)
    return GatedConvGenerator(4, variant)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- recorded vectors ----------------------------------------------------------------------------


def assert_layer(golden: dict[str, Tensor], case: str) -> None:
    size, stride, dilation = LAYERS[case]
    filters, inputs = golden[f"{case}.weight"].shape[:2]
    x = golden[f"{case}.x"].requires_grad_()
    layers = {
        name: GatedConv2d(inputs, filters // 2, size, stride, dilation, padding, activation)
        for name, padding, activation in (
            ("y", "zeros", None),
            ("y_relu", "zeros", nn.ReLU()),
            ("y_tf_same", "same", None),
            ("y_mmagic_reflect", "reflect", None),
        )
    }
    found = {}
    for name, layer in layers.items():
        output = filled_from(layer, golden, case)(x)
        found[name] = error(output, golden[f"{case}.{name}"])
        if name == "y":
            loss = (output * golden[f"{case}.u"]).sum()
            for kind, gradient in zip(
                ("x", "weight"), torch.autograd.grad(loss, (x, layer.weight)), strict=True
            ):
                found[f"grad_{kind}"] = error(gradient, golden[f"{case}.grad_{kind}"])
    print(f"layer {case}: {found}")  # pytest -s shows it
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("case", ["0", "1", "2"])
def test_gated_convolution_reproduces_recorded_vectors(case: str) -> None:
    assert_layer(load_file(FIXTURES / "gated_conv.safetensors"), case)


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize("case", LAYERS)
def test_gated_convolution_reproduces_all_recorded_vectors(case: str) -> None:
    assert_layer(load_file(SHARED / "gated_conv.safetensors"), case)


@pytest.mark.shared
@needs_shared
def test_upsampling_and_gated_output_reproduce_recorded_vectors() -> None:
    golden = load_file(SHARED / "gated_conv.safetensors")
    up = nn.Sequential(nn.Upsample(scale_factor=2), filled_from(GatedConv2d(4, 4), golden, "up"))
    assert error(up(golden["up.x"]), golden["up.y"]) <= 1e-5
    last = filled_from(
        GatedConv2d(4, 3, padding="reflect", activation=nn.Identity()), golden, "last"
    )
    assert error(last(golden["last.x"]), golden["last.y_mmagic"]) <= 1e-5


def assert_network(
    golden: dict[str, Tensor], layers: dict[str, str], network: GatedConvGenerator, step: int = 1
) -> None:
    state = {
        key.removeprefix("state."): value
        for key, value in golden.items()
        if key.startswith("state.")
    }
    network.load_state_dict(deepfill.renamed(state, layers))
    with torch.inference_mode():
        out = network(golden["image"], golden["hole"])
    found = {
        stage: error(image[..., ::step, ::step], golden[stage])
        for stage, image in (("stage1", out.rough), ("stage2", out.refined))
    }
    print(f"network: {found}")  # pytest -s shows it
    assert max(found.values()) <= 1e-4, found


def test_generator_reproduces_the_recorded_network() -> None:
    golden = load_file(FIXTURES / "deepfill_v2_net.safetensors")
    assert_network(golden, deepfill.pytorch_layers(), generator(), step=3)


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize("port", ["", "_tf", "_mmagic"])
def test_generator_reproduces_all_recorded_networks(port: str) -> None:
    layers, network = {
        "": (deepfill.pytorch_layers(), generator()),
        # Recorded with the fusion off.
        "_tf": (
            deepfill.tensorflow_layers(),
            GatedConvGenerator(4, "tensorflow", attention=ContextualAttention(
                fuse=1, align_corners=True
            )),
        ),
        "_mmagic": (deepfill.mmagic_layers(), generator("mmagic")),
    }[port]  # fmt: skip
    assert_network(load_file(SHARED / f"deepfill_v2_net{port}.safetensors"), layers, network)


def test_variants_have_their_own_attention() -> None:
    options = {}
    for variant in PADDING:
        network = generator(variant)
        attention = network.attention
        options[variant] = (
            attention.exclude_hole,
            attention.count_overlaps,
            attention.align_corners,
            type(network.attention_branch[-1].activation),
        )
    assert options == {
        "symmetric": (False, False, False, nn.ReLU),
        "tensorflow": (False, False, True, nn.ReLU),
        "mmagic": (True, True, False, nn.ELU),
    }


def test_generator_has_the_published_number_of_parameters() -> None:
    network = GatedConvGenerator()
    assert parameters(network.rough) == 1_631_151
    assert parameters(network) == 4_052_478
    assert parameters(GatedConvGenerator(variant="mmagic", decoder_width=32)) == 4_414_908


# --- layers --------------------------------------------------------------------------------------


def test_closed_gate_lets_nothing_pass_and_open_gate_everything() -> None:
    layer = GatedConv2d(2, 3)
    x = torch.randn(1, 2, 5, 6)
    bias = layer.bias
    assert bias is not None
    with torch.no_grad():
        layer.weight[3:] = 0
        bias[:3] = 0.5
        bias[3:] = torch.tensor([-100.0, 0.0, 100.0])
    features = nn.functional.elu(nn.functional.conv2d(x, layer.weight[:3], bias[:3], padding=1))
    expected = features * torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(layer(x), expected)


def test_gated_convolution_starts_with_a_signal_of_its_input_size() -> None:
    torch.manual_seed(0)
    x = 0.1 * torch.randn(4, 64, 16, 16)
    for dilation in (1, 4):
        inner = GatedConv2d(64, 64, dilation=dilation)(x)[..., 4:-4, 4:-4]
        torch.testing.assert_close(inner.std(), torch.tensor(0.1), rtol=0.1, atol=0)


def test_same_padding_puts_the_odd_cell_behind() -> None:
    # A kernel of ones over an image of ones counts the cells that are no padding.
    layer = PaddedConv2d(1, 1, stride=2, padding="same")
    nn.init.ones_(layer.weight)
    counts = {1: [1], 7: [2, 3, 3, 2], 8: [3, 3, 3, 2], 9: [2, 3, 3, 3, 2]}
    for height, width in ((8, 8), (9, 8), (8, 7), (1, 9)):
        expected = torch.tensor(counts[height])[:, None] * torch.tensor(counts[width])
        assert torch.equal(layer(torch.ones(1, 1, height, width))[0, 0], expected.float())


# --- the generator's contract --------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["symmetric", "tensorflow", "mmagic"])
def test_hidden_pixels_are_never_seen(variant: Variant) -> None:
    network = generator(variant)
    image, mask = pictures(height=72, width=80)
    expected = network(image.masked_fill(mask > 0, 0), mask)
    for value in (1.0, float("nan"), float("inf")):
        out = network(image.masked_fill(mask > 0, value), mask)
        for one, other in zip(out[:3], expected[:3], strict=True):
            assert torch.equal(one, other)
        sum(part.sum() for part in out[:3]).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_composite_is_the_input_outside_the_hole_and_refined_inside() -> None:
    image, mask = pictures()
    out = generator()(image, mask)
    hole = (mask > 0).expand_as(image)
    assert torch.equal(out.composite[~hole], image[~hole])
    assert torch.equal(out.composite[hole], out.refined[hole])
    assert not torch.equal(out.refined, out.rough)
    assert max(out.rough.abs().max(), out.refined.abs().max()) < 1
    assert out.features == {}


@pytest.mark.parametrize("variant", ["symmetric", "tensorflow", "mmagic"])
def test_every_parameter_gets_a_gradient_from_the_refined_image(variant: Variant) -> None:
    network = generator(variant)
    network(*pictures(height=72, width=80)).refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_samples_do_not_see_their_batch_mates() -> None:
    network = generator()
    image, mask = pictures()
    together = network(image, mask).refined
    for index in range(2):
        one = slice(index, index + 1)
        torch.testing.assert_close(network(image[one], mask[one]).refined, together[one])


def test_refinement_keeps_to_its_own_hole() -> None:
    network = generator()
    calls: list[Tensor] = []
    network.attention.register_forward_hook(lambda module, inputs, output: calls.append(inputs[1]))
    image, mask = pictures()
    network(image, mask)
    assert torch.equal(calls[0], mask)


@pytest.mark.parametrize("size", [(8, 8), (16, 40), (72, 64)])
def test_generator_takes_multiples_of_eight(size: tuple[int, int]) -> None:
    network = generator()
    assert network.multiple == 8
    image, mask = pictures(1, 72, 64)
    out = network(image[..., : size[0], : size[1]], mask[..., : size[0], : size[1]])
    assert out.composite.shape[-2:] == size


def test_mixed_precision_keeps_the_known_pixels() -> None:
    image, mask = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        out = generator()(image, mask)
    known = (mask == 0).expand_as(image)
    assert out.refined.dtype == torch.bfloat16
    assert out.composite.dtype == torch.float32
    assert torch.equal(out.composite[known], image[known])


@pytest.mark.parametrize(
    ("variant", "size", "message"),
    [
        ("symmetric", (60, 64), "an image of 60×64: .* multiples of 8, at least 8"),
        ("symmetric", (64, 0), "an image of 64×0"),
        ("mmagic", (64, 80), "an image of 64×80: .* multiples of 8, at least 72"),
    ],
)
def test_generator_refuses_sizes_that_do_not_fit(
    variant: Variant, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generator(variant)(torch.zeros(1, 3, *size), torch.zeros(1, 1, *size))


def test_generator_refuses_shapes_and_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="mask has shape"):
        generator()(torch.zeros(2, 3, 16, 16), torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="width=5, expected an even number"):
        GatedConvGenerator(5)
    with pytest.raises(ValueError, match="decoder_width=0, expected an even number"):
        GatedConvGenerator(4, decoder_width=0)
    with pytest.raises(ValueError, match="padding='SAME', expected one of zeros, same, reflect"):
        GatedConv2d(1, 1, padding="SAME")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"variant='tf', expected one of {', '.join(PADDING)}"):
        GatedConvGenerator(4, "tf")  # type: ignore[arg-type]
