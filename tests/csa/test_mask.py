"""The feature mask follows the released rule, cell by cell."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from csa_inpaint.csa import reduce_mask

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize(("threshold", "key"), [(5 / 16, "feat_5_16"), (8 / 16, "feat_8_16")])
def test_reduce_mask_equals_released_rule(threshold: float, key: str) -> None:
    golden = load_file(FIXTURES / "feature_mask.safetensors")
    assert torch.equal(reduce_mask(golden["mask"], (32, 32), threshold), golden[key])


def test_reduce_mask_threshold_is_strict() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 2, 2:7] = 1  # A filter covers at most 4 of them.
    share = torch.nn.functional.avg_pool2d(mask, 4, 2, 1)
    on_threshold = float(share.max())
    assert reduce_mask(mask, (4, 4), on_threshold).sum() == 0
    assert reduce_mask(mask, (4, 4), on_threshold - 1e-4).sum() > 0


def test_reduce_mask_counts_the_padding() -> None:
    # The filter of a corner cell covers 9 positions of the map and 7 zeros of the padding.
    mask = torch.ones(1, 1, 8, 8)
    assert reduce_mask(mask, (4, 4), 9 / 16)[0, 0, 0, 0] == 0
    assert reduce_mask(mask, (4, 4), 8.9 / 16)[0, 0, 0, 0] == 1


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
def test_reduce_mask_keeps_the_dtype(dtype: torch.dtype) -> None:
    mask = (torch.rand(2, 1, 64, 64) > 0.5).to(dtype)
    expected = reduce_mask(mask.float(), (16, 16))
    assert reduce_mask(mask, (16, 16)).dtype == dtype
    assert torch.equal(reduce_mask(mask, (16, 16)).float(), expected)


def test_reduce_mask_of_the_same_size_is_binary() -> None:
    mask = torch.tensor([[0.0, 0.4], [0.6, 255.0]])[None, None]
    assert reduce_mask(mask, (2, 2)).flatten().tolist() == [0, 0, 1, 1]


def test_reduce_mask_of_other_ratios_takes_the_area() -> None:
    mask = torch.zeros(1, 1, 6, 12)
    mask[0, 0, :3, :3] = 1  # half of the first 3×6 cell
    assert reduce_mask(mask, (2, 2), 0.49).flatten().tolist() == [1, 0, 0, 0]
    assert reduce_mask(mask, (2, 2), 0.5).sum() == 0
    mask = torch.zeros(1, 1, 4, 8)
    mask[0, 0, 0, :3] = mask[0, 0, 2:, 4:6] = 1  # 3 of 8, and 4 of 8: no padding counts
    assert reduce_mask(mask, (2, 2), 0.4).flatten().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 64, 64), r"\(1, 64, 64\).*\(B, 1, h, w\)"),
        ((1, 3, 64, 64), r"\(1, 3, 64, 64\).*\(B, 1, h, w\)"),
        ((1, 1, 60, 64), r"\(60, 64\).*\(16, 16\).*resize or pad"),
        ((1, 1, 8, 8), r"\(8, 8\).*\(16, 16\)"),
        ((1, 1, 0, 64), r"\(1, 1, 0, 64\)"),
    ],
)
def test_reduce_mask_names_the_offending_shape(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reduce_mask(torch.zeros(shape), (16, 16))


def test_reduce_mask_names_other_bad_values() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\), got nan"):
        reduce_mask(torch.zeros(1, 1, 8, 8), (4, 4), float("nan"))
    with pytest.raises(ValueError, match=r"size \(0, 4\)"):
        reduce_mask(torch.zeros(1, 1, 8, 8), (0, 4))
