"""Both stages of a model in the hole of a picture."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from csa_inpaint import CSAInpainter, inpaint
from csa_inpaint.inference.files import Photo
from csa_inpaint.inference.photos import fill_photo, stages
from csa_inpaint.types import Inpainting


class TwoColours(torch.nn.Module):
    """Paints the windows dark, then bright."""

    multiple = 8
    trained_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        rough, refined = torch.full_like(image, -0.5), torch.full_like(image, 0.5)
        return Inpainting(rough, refined, torch.where(mask > 0.5, refined, image), {})


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def hole() -> np.ndarray:
    mask = np.zeros((70, 90), dtype=bool)
    mask[10:40, 20:60] = mask[60:64, 80:] = True  # a group that is reduced, and a small one
    return mask


def test_stages_hold_the_prediction_of_each_network(picture: Image.Image, hole: np.ndarray) -> None:
    shown = stages(TwoColours(), picture, hole)
    for stage, grey in ((shown.rough, 64), (shown.refined, 191)):
        pixels = np.asarray(stage).astype(int)
        assert (pixels[~hole] == np.asarray(picture)[~hole]).all()
        assert abs(pixels[hole].mean() - grey) < 25  # detail of the surroundings is added


def test_refined_stage_is_what_inpaint_fills_in_without_blending(
    make_module: Callable[..., CSAInpainter], picture: Image.Image, hole: np.ndarray
) -> None:
    model = make_module().eval()
    model.trained_size = 32
    shown = stages(model, picture, hole)
    expected = inpaint(model, picture, hole, blend="hard")
    assert np.array_equal(np.asarray(shown.refined), np.asarray(expected))
    assert not np.array_equal(np.asarray(shown.rough), np.asarray(shown.refined))


def test_photo_of_16_bits_is_filled_in_16_bits(hole: np.ndarray) -> None:
    deep = np.random.default_rng(1).integers(0, 65535, (70, 90, 4), dtype=np.uint16)
    photo = Photo(Image.fromarray((deep[..., :3] >> 8).astype(np.uint8)), deep.copy())
    filled = fill_photo(TwoColours(), photo, hole, blend="hard").deep
    assert filled is not None
    assert (filled[~hole] == deep[~hole]).all()
    assert (filled[..., 3] == deep[..., 3]).all()
    assert (filled[hole][:, :3] != deep[hole][:, :3]).mean() > 0.9
    assert photo.deep is not None
    assert (photo.deep == deep).all()  # the photo that was given stays as it was
