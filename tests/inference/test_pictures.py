"""Filling pictures, arrays and tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.inference import inpaint

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
HOLE = np.zeros((37, 50), dtype=bool)
HOLE[8:30, 12:40] = True


@pytest.mark.parametrize("kind", ["picture", "array", "tensor", "batch"])
def test_inpaint_returns_its_kind_with_the_known_pixels(
    kind: str, make_module: Callable[..., Any]
) -> None:
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1) / 127.5 - 1
    image, mask = {
        "picture": (Image.fromarray(PIXELS), Image.fromarray(HOLE)),
        "array": (PIXELS, HOLE),
        "tensor": (tensor, torch.from_numpy(HOLE)),
        "batch": (tensor[None], torch.from_numpy(HOLE)[None, None]),
    }[kind]
    filled = inpaint(make_module(), image, mask)
    assert type(filled) is type(image)
    if isinstance(filled, torch.Tensor):
        assert filled.shape == image.shape
        known = ~torch.from_numpy(HOLE)
        assert torch.equal(filled[..., known], image[..., known])
        assert not torch.equal(filled, image)
    else:
        assert np.array_equal(np.asarray(filled)[~HOLE], PIXELS[~HOLE])
        assert not np.array_equal(np.asarray(filled), PIXELS)


def test_inpaint_refuses_what_does_not_fit(make_module: Callable[..., Any]) -> None:
    model = make_module()
    with pytest.raises(TypeError, match="type str"):
        inpaint(model, "photo.jpg", HOLE)
    for image, mask in (
        (PIXELS, HOLE[:20]),
        (PIXELS, np.zeros_like(HOLE)),
        (PIXELS, np.ones_like(HOLE)),
        (PIXELS.astype(np.float32), HOLE),
        (torch.zeros(1, 37, 50), HOLE),
        (torch.zeros(2, 3, 37, 50), HOLE[None, None]),
    ):
        with pytest.raises(ValueError, match=r"mask|hole|known|expected"):
            inpaint(model, image, mask)


@pytest.mark.parametrize("value", [255.0, 2.0, float("nan")])
def test_inpaint_refuses_a_tensor_of_another_range(
    make_module: Callable[..., Any], value: float
) -> None:
    image, mask = torch.zeros(3, 64, 64), torch.zeros(64, 64)
    mask[20:40, 20:40] = 1
    image[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"expected \[-1, 1\]"):
        inpaint(make_module(), image, mask)


def hidden_variants(image: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """The same picture with other values under its hole."""
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    values = [torch.full_like(image, 0.5), noise, noise * 1e30, torch.full_like(image, torch.nan)]
    return [torch.where(mask > 0.5, value, image) for value in values]


def edge_mask(height: int, width: int, edge: str) -> torch.Tensor:
    """(1, H, W): a hole of about a third of the side that touches the named edges."""
    tall, wide = max(height // 3, 1), max(width // 3, 1)
    rows = {"top": slice(0, tall), "bottom": slice(height - tall, height)}
    columns = {"left": slice(0, wide), "right": slice(width - wide, width)}
    vertical, _, horizontal = edge.partition("-")
    row = rows.get(vertical, slice(height // 3, height // 3 + tall))
    column = columns.get(horizontal or vertical, slice(width // 3, width // 3 + wide))
    mask = torch.zeros(1, height, width)
    mask[:, row, column] = 1
    return mask


@pytest.mark.parametrize("depth", [2, 4, 5])
@pytest.mark.parametrize("size", [(60, 60), (37, 50), (64, 64), (9, 70), (5, 3), (1, 2)])
@pytest.mark.parametrize("edge", ["middle", "right", "bottom", "bottom-right", "top-left"])
def test_inpaint_never_looks_at_hidden_pixels(
    make_module: Callable[..., Any], size: tuple[int, int], edge: str, depth: int
) -> None:
    model = make_module(depth=depth, attention_levels=(1,), feature_levels=(1,))
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mask = edge_mask(*size, edge)
    expected = inpaint(model, image, mask)
    assert expected.isfinite().all()
    for variant in hidden_variants(image, mask):
        assert torch.equal(inpaint(model, variant, mask), expected)


@pytest.mark.parametrize("refinement", [True, False])
def test_generator_never_looks_at_hidden_pixels(
    make_module: Callable[..., Any], refinement: bool
) -> None:
    weights = {} if refinement else {"l1_refined": 0.0, "consistency": 0.0}
    model = make_module(refinement=refinement, loss_weights=weights)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mask = edge_mask(64, 64, "bottom-right")[None]
    expected = model(image, mask)
    for variant in hidden_variants(image, mask):
        out = model(variant, mask)
        for value, known in zip(out[:3], expected[:3], strict=True):
            assert torch.equal(value, known)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_inpaint_takes_a_mask_of_any_type(
    make_module: Callable[..., Any], dtype: torch.dtype
) -> None:
    image = torch.from_numpy(PIXELS).permute(2, 0, 1) / 127.5 - 1
    mask = torch.from_numpy(HOLE)
    model = make_module()
    assert torch.equal(inpaint(model, image, mask.to(dtype)), inpaint(model, image, mask))
