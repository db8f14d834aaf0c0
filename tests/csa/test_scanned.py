"""The form of ``attend`` for other runtimes against the form that PyTorch runs."""

import pytest
import torch
from torch import Tensor

from csa_inpaint.csa.attend import attend
from csa_inpaint.csa.propagate import links
from csa_inpaint.csa.scanned import attend_scanned

ROWS, COLUMNS = 5, 9


def holes() -> Tensor:
    """A sample of scattered holes, one without a hole, one with a single known patch, a block."""
    torch.manual_seed(0)
    hole = torch.rand(4, ROWS, COLUMNS) > 0.5
    hole[1] = False
    hole[2] = True
    hole[2, 3, 4] = False
    hole[3] = False
    hole[3, :3, :4] = True
    return hole.flatten(1)


@pytest.mark.parametrize("across_gaps", [True, False])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("cosine", [True, False])
def test_scanned_attend_equals_attend(cosine: bool, guarded: bool, across_gaps: bool) -> None:
    hole = holes()
    patches = torch.randn(*hole.shape, 6, dtype=torch.float64)
    patches[0, hole[0].nonzero()[4]] = 0  # a hole patch without a direction
    patches[3, 40] = patches[3, 44]  # two equal known patches
    linked = links(hole, COLUMNS, across_gaps)
    expected = attend(patches, hole, linked, cosine, guarded)
    found = attend_scanned(patches, hole, linked, cosine, guarded, False)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)  # a zero patch without a guard


def test_scanned_attend_leaves_patches_without_a_hole_as_they_are() -> None:
    hole = torch.zeros(2, 7, dtype=torch.bool)
    patches = torch.randn(2, 7, 3)
    generated, match, weights = attend_scanned(patches, hole, hole, True, True, False)
    assert torch.equal(generated, patches)
    assert torch.equal(match, torch.arange(7).expand(2, -1))
    assert not weights.any()


def test_scanned_attend_takes_the_first_of_equal_patches() -> None:
    patches = torch.tensor([[[1.0, 0], [3, 4], [3, 4], [6, 8]]])
    hole = torch.tensor([[False, False, False, True]])
    _, match, _ = attend_scanned(patches, hole, torch.zeros_like(hole), True, True, False)
    assert match.tolist() == [[0, 1, 2, 1]]
