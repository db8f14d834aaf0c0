"""Partial convolution against recorded vectors, closed-form values, and its contract."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recorded import PER_LAYER, PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint import Inpainter
from csa_inpaint.methods.partial_conv import PartialConv2d, PartialConvGenerator
from csa_inpaint.weights import partial_conv as names

Make = Callable[..., Any]
# stride, padding and dilation of the recorded layers
LAYERS = [
    (1, 1, 1), (2, 3, 1), (2, 2, 1), (2, 1, 1), (1, 2, 2), (1, 0, 1), (1, 1, 1),
    (2, 1, 1), (2, 2, 1), (1, 4, 4), (1, 0, 1), (1, 1, 1), (1, 1, 1),
]  # fmt: skip


def layer_of(case: dict[str, Tensor], stride: int, padding: int, dilation: int) -> PartialConv2d:
    outputs, inputs, size, _ = case["weight"].shape
    layer = PartialConv2d(inputs, outputs, size, stride, padding, dilation, bias="bias" in case)
    layer.load_state_dict({kind: case[kind] for kind in ("weight", "bias") if kind in case})
    return layer


def pictures(batch: int = 2, height: int = 32, width: int = 48) -> tuple[Tensor, Tensor]:
    """Random images, each with a hole of its own."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    mask = torch.zeros(batch, 1, height, width)
    for index in range(batch):
        mask[index, :, 4 + 8 * index : 20 + 8 * index, 8:24] = 1
    return image, mask


def small(**settings: object) -> PartialConvGenerator:
    torch.manual_seed(0)
    return PartialConvGenerator(**{"width": 4, "depth": 4, **settings})  # type: ignore[arg-type]


# --- recorded vectors ----------------------------------------------------------------------------


@needs_recorded
@pytest.mark.parametrize("number", range(13))
def test_layer_reproduces_recorded_vectors(number: int) -> None:
    case = below(recorded("pconv_layer"), f"{number}.")
    layer = layer_of(case, *LAYERS[number])
    x = case["x"].requires_grad_()
    y, updated = layer(x, case.get("valid"))
    assert torch.equal(updated, case["updated"])
    parameters = dict(layer.named_parameters())
    gradients = torch.autograd.grad((y * case["r"]).sum(), [x, *parameters.values()])
    found = {"y": error(y, case["y"])}
    for name, gradient in zip(["x", *parameters], gradients, strict=True):
        found[name] = error(gradient, case[f"grad_{name}"])
    if "naoto_y" in case:
        renamed = {f"conv.{kind}": value for kind, value in layer.state_dict().items()}
        layer.load_state_dict(below(names.without_size(renamed), "conv."))
        found["naoto_y"] = error(layer(x, case["valid"])[0], case["naoto_y"])
    print(f"layer {number}: {found}")  # pytest -s shows it
    assert max(found.values()) <= PER_LAYER, found


def network_of(golden: dict[str, Tensor], port: str) -> PartialConvGenerator:
    layers = {"mmagic": names.mmagic_layers, "naoto": names.port_layers}[port](7)
    state = {}
    for key, value in below(golden, "state.").items():
        layer, kind = key.rsplit(".", 1)
        state[f"{layers[layer]}.{kind}"] = value
    network = PartialConvGenerator(4, 7, first_bias=port == "mmagic")
    network.load_state_dict(state if port == "mmagic" else names.without_size(state))
    return network


@needs_recorded
@pytest.mark.parametrize("port", ["mmagic", "naoto"])
def test_generator_reproduces_recorded_networks(port: str) -> None:
    golden = recorded(f"pconv_net_{port}")
    pair = golden["image"], golden["hole"]
    with torch.no_grad():
        network = network_of(golden, port).eval()
        found = {"eval": error(network(*pair).refined, golden["output_eval"])}
        network.train()
        found["train"] = error(network(*pair).refined, golden["output_train"])
        if port == "naoto":
            network = network_of(golden, port)
            network.encoder.eval()
            found["finetune"] = error(network(*pair).refined, golden["output_finetune"])
    layers = {"mmagic": names.mmagic_layers, "naoto": names.port_layers}[port](7)
    network = network_of(golden, port)
    with torch.no_grad():
        network(*pair)
    after = network.state_dict()
    for key, value in below(golden, "after.").items():
        layer, kind = key.rsplit(".", 1)
        found[key] = error(after[f"{layers[layer]}.{kind}"], value)
    print(f"network: {found}")  # pytest -s shows it
    assert max(found.values()) <= PER_NETWORK, found


# --- the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_layer_is_the_mean_over_known_cells(channels: int) -> None:
    layer = PartialConv2d(2, 1, 3, padding=1)
    nn.init.constant_(layer.weight, 1 / 18)
    nn.init.constant_(layer.bias, 0.5)
    x, valid = torch.full((1, 2, 8, 8), 3.0), torch.ones(1, channels, 8, 8)
    valid[..., 2:7, 2:7] = 0
    y, updated = layer(x, valid)
    expected = torch.full((1, 1, 8, 8), 3.5)  # also at the border, where cells are outside
    expected[..., 3:6, 3:6] = 0  # nothing is known there, so there is no bias either
    torch.testing.assert_close(y, expected)
    assert torch.equal(updated, (expected > 0).float())


def test_layer_ignores_masked_values_and_gives_them_no_gradient() -> None:
    layer = PartialConv2d(3, 4, 5, stride=2, padding=2)
    x, valid = torch.randn(2, 3, 12, 10), (torch.rand(2, 1, 12, 10) > 0.5).float()
    other = torch.where(valid > 0, x, torch.randn_like(x)).requires_grad_()
    assert torch.equal(layer(x, valid)[0], layer(other, valid)[0])
    layer(other, valid)[0].square().sum().backward()
    assert other.grad is not None
    assert other.grad[(valid == 0).expand_as(x)].abs().max() == 0
    assert other.grad.abs().max() > 0


def test_layer_without_a_mask_is_a_convolution_away_from_the_border() -> None:
    layer = PartialConv2d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 9, 9)
    y, updated = layer(x)
    plain = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(y[..., 1:-1, 1:-1], plain[..., 1:-1, 1:-1])
    assert not torch.allclose(y[..., 0, :], plain[..., 0, :])
    assert torch.equal(updated, torch.ones(1, 1, 9, 9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_counts_exactly_in_half_precision(dtype: torch.dtype) -> None:
    # 257 of 5·5·512 cells are known, but bfloat16 counts to 256 only.
    layer = PartialConv2d(512, 1, 5, bias=False).to(dtype)
    nn.init.constant_(layer.weight, 2**-10)
    x, valid = torch.zeros(2, 1, 512, 5, 5, dtype=dtype)
    x[:, 0, 0, 0] = 1
    valid[:, :257, 0, 0] = 1
    y, updated = layer(x, valid)
    assert (y.dtype, updated.dtype) == (dtype, dtype)
    assert y.item() == pytest.approx(2**-10 * 12800 / 257, rel=2e-3)
    assert updated.item() == 1
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer.float()(x.float(), valid.float())
    assert y.dtype == torch.bfloat16
    assert y.item() == pytest.approx(2**-10 * 12800 / 257, rel=2e-3)


@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (3, 1, 8, 8), (2, 1, 8, 4), (2, 8, 8)])
def test_layer_refuses_masks_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"valid has shape .* need \(2 or 1, 1 or 3, 8, 8\)"):
        PartialConv2d(3, 4, 3)(torch.zeros(2, 3, 8, 8), torch.zeros(shape))


# --- the generator -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "count"), [(5, 11_619_924), (6, 18_699_860), (7, 25_779_796), (8, 32_859_732)]
)
def test_generator_has_the_published_number_of_parameters(depth: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in PartialConvGenerator(depth=depth).parameters()) == count


def test_first_bias_adds_one_number_a_channel() -> None:
    counts = [sum(p.numel() for p in small(first_bias=bias).parameters()) for bias in (False, True)]
    assert counts[1] - counts[0] == 4


def test_generator_fills_the_hole_of_a_constant_image_with_the_same_constant() -> None:
    # With weights that average and no norm, every partial convolution keeps a constant.
    network = small().eval()
    for module in network.modules():
        if isinstance(module, PartialConv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0
    image, mask = pictures()
    out = network(torch.full_like(image, 0.25), mask)
    torch.testing.assert_close(out.refined, torch.full_like(image, 0.25))


def test_composite_keeps_known_pixels_and_every_parameter_learns() -> None:
    network, (image, mask) = small(), pictures()
    out = network(image, mask)
    hole = (mask > 0).expand_as(image)
    assert torch.equal(out.composite[~hole], image[~hole])
    assert torch.equal(out.composite[hole], out.refined[hole])
    assert out.rough is out.refined
    out.refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_generator_survives_a_sample_that_is_all_hole() -> None:
    network, (image, mask) = small(), pictures()
    mask[0] = 1
    out = network(image, mask)
    assert out.refined.isfinite().all()
    out.refined.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_average_holds_the_running_statistics(make_batches: Make, make_trainer: Make) -> None:
    module = Inpainter(
        generator={
            "_target_": "csa_inpaint.methods.partial_conv.PartialConvGenerator",
            "width": 2,
            "depth": 3,
        },
        losses={"l1": {"_target_": "csa_inpaint.losses.Reconstruction", "image": "rough"}},
    )
    make_trainer().fit(module, make_batches(2))
    assert module.ema is not None
    averaged = dict(module.ema.module.named_buffers())
    for name, value in module.generator.named_buffers():
        assert torch.equal(averaged[name], value), name
    assert averaged["encoder.1.norm.num_batches_tracked"] == 2
    assert averaged["encoder.1.norm.running_mean"].abs().max() > 0


def test_generator_refuses_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="40×32 cannot be halved 4 times"):
        small()(torch.zeros(1, 3, 40, 32), torch.zeros(1, 1, 40, 32))
    with pytest.raises(ValueError, match=r"one image of 16×16 .* depth=4, which batch norm"):
        small()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))
    assert (
        small()
        .eval()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))
        .refined.isfinite()
        .all()
    )
    with pytest.raises(ValueError, match="depth=1"):
        small(depth=1)
