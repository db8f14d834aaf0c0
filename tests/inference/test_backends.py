"""Backends: the same pictures as the model's, and the rule that chooses one."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from csa_inpaint import CSAInpainter, inpaint
from csa_inpaint.inference import backends
from csa_inpaint.inference.packed import pack
from csa_inpaint.networks.blocks import DilatedHalve

Make = Callable[..., CSAInpainter]


@pytest.fixture
def model(make_module: Make) -> CSAInpainter:
    return make_module().eval()


@pytest.fixture
def bfloat16_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "multiplies_bfloat16", lambda: True)


def pair(size: int = 32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.zeros(2, 1, size, size)
    mask[0, :, 8:20, 4:30] = mask[1, :, :12] = 1
    return torch.rand(2, 3, size, size) * 2 - 1, mask


def psnr(one: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10(4 / (one.float() - other.float()).square().mean()))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 7, 4, 2, 1),
        nn.Conv2d(5, 7, 3, padding=2, dilation=2, bias=False),
        DilatedHalve(5),
        nn.ConvTranspose2d(5, 7, 4, 2, 1),
        nn.ConvTranspose2d(5, 7, 3, 2, 1, output_padding=1),
        nn.ConvTranspose2d(5, 7, 3, padding=1),
        nn.InstanceNorm2d(5, affine=True),
        nn.InstanceNorm2d(5),
    ],
    ids=str,
)
def test_packed_layer_equals_the_layer(layer: nn.Module) -> None:
    for value in layer.parameters():
        nn.init.normal_(value)
    packed = pack(nn.Sequential(layer), torch.float32)
    assert type(packed[0]) is not type(layer)  # type: ignore[index]
    for size in ((2, 5, 6, 10), (1, 5, 32, 32)):
        features = torch.randn(size)
        torch.testing.assert_close(packed(features), layer(features), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.InstanceNorm2d(4, track_running_stats=True).eval(),
    ],
    ids=str,
)
def test_layer_that_cannot_be_packed_is_kept(layer: nn.Module) -> None:
    packed = pack(nn.Sequential(layer), torch.float32)
    features = torch.randn(2, 4, 8, 8)
    assert torch.equal(packed(features), layer(features))


@torch.no_grad()
def test_bfloat16_network_resembles_the_model(model: CSAInpainter) -> None:
    image, mask = pair()
    expected = model(image, mask).composite
    reduced = backends.bfloat16(model)
    found = reduced(image.bfloat16(), mask.bfloat16()).composite
    assert found.dtype == torch.bfloat16
    assert psnr(found, expected) > 30  # the features of an untrained model resemble each other
    assert next(model.parameters()).dtype == torch.float32


@torch.no_grad()
def test_bfloat16_network_is_made_again_when_weights_change(model: CSAInpainter) -> None:
    first = backends.bfloat16(model)
    assert backends.bfloat16(model) is first
    for value in backends.trained_generator(model).parameters():
        value.mul_(1.5)
    second = backends.bfloat16(model)
    assert second is not first
    image, mask = (x.bfloat16() for x in pair())
    assert not torch.equal(second(image, mask).refined, first(image, mask).refined)


def test_auto_takes_bfloat16_for_float32_models_on_cpus_that_multiply_it(
    model: CSAInpainter, bfloat16_cpu: None
) -> None:
    assert backends.automatic(model) is backends.bfloat16(model)
    assert backends.automatic(model.double()) is model


def test_auto_leaves_the_model_as_it_is_on_other_cpus(model: CSAInpainter) -> None:
    assert backends.automatic(model) is model


def test_inpaint_computes_what_the_backend_says(model: CSAInpainter, bfloat16_cpu: None) -> None:
    image, mask = pair()
    results = {
        name: inpaint(model, image, mask, blend="hard", backend=name)
        for name in ("auto", "eager", "bfloat16")
    }
    assert torch.equal(results["auto"], results["bfloat16"])
    assert not torch.equal(results["auto"], results["eager"])
    for result in results.values():
        known = mask.expand_as(image) == 0
        assert torch.equal(result[known], image[known])


def test_bfloat16_network_is_refused_where_it_cannot_be_made(
    model: CSAInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the model is on meta"):
        backends.bfloat16(copy.deepcopy(model).to("meta"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a PyTorch with oneDNN"):
        backends.bfloat16(model)


def test_unknown_backend_is_refused(model: CSAInpainter) -> None:
    image, mask = pair()
    with pytest.raises(ValueError, match="backend='fast': expected auto, eager, bfloat16"):
        inpaint(model, image, mask, backend="fast")  # type: ignore[arg-type]
