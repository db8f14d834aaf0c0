"""Fillings without a network: what is known of their results."""

import pytest
import torch
from torch import Tensor

from csa_inpaint.evaluation.baselines import BASELINES, baseline, biharmonic, mean_fill
from csa_inpaint.types import Batch


@pytest.fixture
def slopes() -> tuple[Tensor, Tensor]:
    """Two pictures whose channels rise linearly or bilinearly, with different holes."""
    x = torch.linspace(-0.8, 0.8, 24)
    plane = torch.stack([x.expand(20, 24), x[:20, None].expand(20, 24), x * x[:20, None]])
    image, mask = torch.stack([plane, -plane]), torch.zeros(2, 1, 20, 24)
    mask[0, :, 5:12, 6:15] = 1
    mask[1, :, 8:10, 3:20] = 1
    return image, mask


def test_mean_fill_is_the_mean_of_known_pixels(slopes: tuple[Tensor, Tensor]) -> None:
    image, mask = slopes
    filled = mean_fill(torch.where(mask > 0, 9.0, image), mask)
    known = image[0, 1][mask[0, 0] == 0]
    assert filled[0, 1, 6, 8] == pytest.approx(known.mean().item(), abs=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_keeps_known_pixels_and_sees_no_hidden_ones(
    name: str, slopes: tuple[Tensor, Tensor]
) -> None:
    pytest.importorskip({"mean_fill": "torch", "biharmonic": "skimage"}.get(name, "cv2"))
    image, mask = slopes
    fill = baseline(name)
    filled = fill(Batch(image, mask, []))
    assert torch.equal(filled[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])
    other = fill(Batch(torch.where(mask > 0, -image, image), mask, []))
    assert torch.equal(filled, other)
    assert (filled - image).abs().max() < 0.8


def test_biharmonic_continues_what_is_biharmonic(slopes: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip("skimage")
    image, mask = slopes
    filled = biharmonic(torch.where(mask > 0, 0.0, image), mask)
    torch.testing.assert_close(filled, image, atol=1e-5, rtol=0)


def test_unknown_baseline_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="telia: there are mean_fill, telea"):
        baseline("telia")
