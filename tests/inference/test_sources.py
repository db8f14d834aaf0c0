"""Where the CSA layer takes a place from, in pixels of the picture."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from csa_inpaint import CSAInpainter, CSALayer
from csa_inpaint.csa import reduce_mask
from csa_inpaint.inference.sources import sources
from csa_inpaint.types import Inpainting


class Direct(nn.Module):
    """Its CSA layer sees the picture's own colours, in cells of four pixels.

    In place of the hole it sees ``wanted``, so that the best match is known beforehand.
    """

    trained_size = 64

    def __init__(self, wanted: tuple[float, float, float], multiple: int = 4) -> None:
        super().__init__()
        self.multiple = multiple
        self.attention = CSALayer()
        self.wanted = nn.Parameter(torch.tensor(wanted)[:, None, None])

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        seen = torch.where(mask > 0.5, self.wanted, image)
        features = nn.functional.avg_pool2d(seen, 4)
        size = (features.shape[2], features.shape[3])
        self.attention(features, reduce_mask(mask, size, 5 / 16))
        return Inpainting(image, image, image, {})


def picture(height: int, width: int, spot: tuple[int, int, int, int]) -> Image.Image:
    """Green, with a red spot: top, left, height and width."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 1] = 255
    top, left, rows, columns = spot
    pixels[top : top + rows, left : left + columns] = (255, 0, 0)
    return Image.fromarray(pixels)


RED = (1.0, -1.0, -1.0)


def test_sources_are_where_the_match_lies_in_a_window_of_its_own_scale() -> None:
    image = picture(64, 64, (8, 48, 4, 4))
    hole = np.zeros((64, 64), dtype=bool)
    hole[24:40, 24:40] = True
    place = sources(Direct(RED), image, hole, 30, 35)
    assert place.box == (28, 32, 32, 36)
    assert place.sources[0].box == (8, 48, 12, 52)
    assert place.sources[0].share == pytest.approx(1)


def test_sources_of_a_large_hole_are_in_pixels_of_the_picture() -> None:
    # Two pixels make a cell, so that the hole takes half of a window; a patch has 8x8 pixels.
    image = picture(200, 240, (56, 96, 8, 8))
    hole = np.zeros((200, 240), dtype=bool)
    hole[80:144, 96:160] = True
    place = sources(Direct(RED), image, hole, 120, 130)
    assert place.box.height == place.box.width == 8
    assert place.box.top <= 120 < place.box.bottom
    assert place.box.left <= 130 < place.box.right
    assert place.sources[0].box == (56, 96, 64, 104)


def test_source_in_the_padding_is_its_mirror_image() -> None:
    # The network mirrors 36 rows to 64: the spot's mirror image fills the patch of rows 44 to 47
    # alone, the spot itself lies over two patches.
    image = picture(36, 64, (23, 4, 4, 4))
    hole = np.zeros((36, 64), dtype=bool)
    hole[8:16, 32:40] = True
    place = sources(Direct(RED, multiple=64), image, hole, 10, 34)
    assert place.sources[0].box == (23, 4, 27, 8)


def test_shares_of_a_trained_layer_add_up_and_come_from_known_places(
    make_module: Callable[..., CSAInpainter],
) -> None:
    model = make_module().eval()
    model.trained_size = 64
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    hole = np.zeros((64, 64), dtype=bool)
    hole[16:48, 16:48] = True
    place = sources(model, Image.fromarray(pixels), hole, 40, 40)
    shares = [source.share for source in place.sources]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-5
    for source in place.sources:
        assert not hole[source.box.slices].all()


def test_place_outside_the_hole_is_refused() -> None:
    hole = np.zeros((64, 64), dtype=bool)
    hole[:8, :8] = True
    with pytest.raises(ValueError, match="row 30, column 5 is not in the hole"):
        sources(Direct(RED), picture(64, 64, (0, 0, 1, 1)), hole, 30, 5)


def test_model_without_the_layer_is_told(make_painter: Callable[..., nn.Module]) -> None:
    hole = np.zeros((64, 64), dtype=bool)
    hole[:8, :8] = True
    with pytest.raises(ValueError, match="no CSA layer"):
        sources(make_painter(), picture(64, 64, (0, 0, 1, 1)), hole, 3, 5)
