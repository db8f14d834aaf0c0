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
