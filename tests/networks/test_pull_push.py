"""The continuation of known colours into the hole."""

import pytest
import torch

from csa_inpaint.networks.pull_push import pull_push


def hole_of(height: int, width: int, rows: slice, columns: slice) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    hole[..., rows, columns] = True
    return hole


def test_pull_push_keeps_known_pixels() -> None:
    image = torch.rand(2, 3, 37, 50) * 2 - 1
    hole = torch.rand(2, 1, 37, 50) > 0.5
    filled = pull_push(image, hole)
    assert torch.equal(filled.where(~hole, 0), image.where(~hole, 0))


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 9)])
def test_pull_push_continues_one_colour(size: tuple[int, int]) -> None:
    image = torch.tensor([0.2, -0.4, 0.9])[None, :, None, None].expand(1, 3, *size)
    hole = torch.zeros(1, 1, *size, dtype=torch.bool)
    hole[..., : max(1, size[0] // 2), 1:8] = True
    torch.testing.assert_close(pull_push(image.where(~hole, -1), hole), image)


def test_pull_push_reaches_far_pixels_from_one() -> None:
    image = torch.full((1, 3, 2, 40_000), 0.7)
    hole = torch.ones(1, 1, 2, 40_000, dtype=torch.bool)
    hole[..., 0, 0] = False
    torch.testing.assert_close(pull_push(image.where(~hole, -1), hole), image)


def test_pull_push_never_sees_the_hole() -> None:
    image = torch.rand(1, 3, 32, 32)
    hole = hole_of(32, 32, slice(8, 24), slice(4, 30))
    torch.testing.assert_close(pull_push(image, hole), pull_push(image.where(~hole, 7.0), hole))
    poisoned = image.where(~hole, torch.nan)
    assert pull_push(poisoned, hole).isfinite().all()


def test_pull_push_changes_from_one_side_to_the_other() -> None:
    image = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    hole = hole_of(64, 64, slice(16, 48), slice(16, 48))
    row = pull_push(image.where(~hole, 0), hole)[0, 0, 32]
    assert (row.diff() >= -1e-6).all()
    assert (row - image[0, 0, 32]).abs().max() < 0.35  # half of the ramp inside the hole is 0.5


def test_pull_push_without_known_pixels_is_zero() -> None:
    image = torch.rand(1, 3, 8, 8)
    assert not pull_push(image, torch.ones(1, 1, 8, 8, dtype=torch.bool)).any()


def test_pull_push_of_a_hole_does_not_depend_on_others_in_the_batch() -> None:
    images, holes = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16) > 0.3
    both = pull_push(images, holes)
    torch.testing.assert_close(both[1:], pull_push(images[1:], holes[1:]))


def test_pull_push_of_odd_sizes_is_not_shifted() -> None:
    image = torch.linspace(-1, 1, 65).expand(1, 1, 65, 65)
    hole = hole_of(65, 65, slice(8, 57), slice(25, 40))
    row = pull_push(image.where(~hole, 0), hole)[0, 0, 32]
    assert (row - image[0, 0, 32]).mean().abs() < 0.01  # as much too bright as too dark
