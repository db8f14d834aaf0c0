"""Corrections that join a hole to what is around it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.inference.blend import blur, continue_step, fade, find_blend, membrane, soften


def square_hole(side: int = 48) -> Tensor:
    known = torch.ones(1, side, side, dtype=torch.bool)
    known[:, side // 4 : -side // 4, side // 4 : -side // 4] = False
    return known


def plane(side: int = 48) -> Tensor:
    """A map that is harmonic: each value is the mean of its neighbours."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows / side, columns / side, (rows - 2 * columns) / side])


def test_membrane_continues_a_plane() -> None:
    known = square_hole()
    filled = membrane(plane().masked_fill(~known, 0), known)
    assert torch.equal(filled[:, known[0]], plane()[:, known[0]])
    assert (filled - plane()).abs().max() < 0.02


def test_membrane_continues_a_constant_from_one_pixel() -> None:
    known = torch.zeros(1, 37, 23, dtype=torch.bool)
    known[0, 30, 4] = True
    torch.testing.assert_close(membrane(known * 0.7, known), torch.full((1, 37, 23), 0.7))


@pytest.mark.parametrize("value", [True, False])
def test_membrane_leaves_what_is_all_known_or_unknown(value: bool) -> None:
    values = torch.rand(3, 9, 9) * value
    assert torch.equal(membrane(values, torch.full((1, 9, 9), value)), values)


@pytest.mark.parametrize("correct", [soften, continue_step])
def test_corrections_are_zero_where_both_sides_agree(correct: object) -> None:
    known = square_hole()
    flat = torch.full((3, 48, 48), 0.3)
    image = flat.masked_fill(~known, torch.nan)
    assert callable(correct)
    correction = correct(flat.masked_fill(known, torch.nan), image, known, 1.0)
    assert correction[:, ~known[0]].abs().max() < 1e-5


def test_continued_step_removes_another_brightness_everywhere() -> None:
    known = square_hole()
    correction = continue_step(
        torch.full((3, 48, 48), -0.2), torch.full((3, 48, 48), 0.3), known, 1
    )
    torch.testing.assert_close(correction[:, ~known[0]], torch.full((3, 24 * 24), 0.5))


def test_softened_step_is_whole_at_the_border_and_zero_inside() -> None:
    known = square_hole()
    correction = soften(torch.full((3, 48, 48), -0.2), torch.full((3, 48, 48), 0.3), known, 1.0)
    assert correction[0, 24, 12] > 0.25
    assert correction[0, 24, 16:32].abs().max() == 0


def test_fade_fills_a_scratch_by_its_sides_and_leaves_the_middle_of_a_hole() -> None:
    generated = torch.full((3, 96, 96), -1.0)
    scratch = torch.ones(1, 96, 96, dtype=torch.bool)
    scratch[:, 40:45] = False
    filled = generated + fade(generated, plane(96), scratch)
    inner = slice(16, -16)
    torch.testing.assert_close(filled[:, 42, inner], plane(96)[:, 42, inner], atol=0.02, rtol=0)
    known = square_hole(96)
    assert fade(generated, plane(96), known)[:, 48, 48].abs().max() < 1e-3


def test_blur_keeps_a_constant_at_the_edges() -> None:
    flat = torch.full((2, 11, 7), 0.4)
    torch.testing.assert_close(blur(flat, 3.0), flat)


def test_blur_is_the_convolution_with_a_gaussian() -> None:
    x = torch.rand(2, 13, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = torch.exp(-0.5 * (torch.arange(-4, 5, dtype=torch.float64) / 1.5) ** 2)
    kernel = kernel[:, None] * kernel / kernel.sum() ** 2
    padded = F.pad(x[:, None], (4,) * 4, mode="replicate")
    expected = F.conv2d(padded, kernel[None, None])[:, 0]
    torch.testing.assert_close(blur(x.float(), 1.5), expected.float())


def test_blend_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="blend='soft': expected hard, feather, poisson"):
        find_blend("soft")
