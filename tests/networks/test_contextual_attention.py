"""Contextual attention against recorded vectors of public implementations, and closed forms.

The fixture holds two of the seven recorded cases.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from csa_inpaint.networks.contextual_attention import (
    ContextualAttention,
    aligned_indices,
    fuse,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "rivals"
NAME = "contextual_attention.safetensors"
MMAGIC = {"exclude_hole": True, "count_overlaps": True}


class SoftFloor(ContextualAttention):
    """Keys as in the port that recorded the gradients: the port adds 1e-4 to each square."""

    def unit(self, keys: Tensor) -> Tensor:
        return keys / (keys.square() + 1e-4).sum(1, keepdim=True).sqrt()


def random_features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hole_at(size: int, rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., rows, columns] = 1
    return mask


def error(output: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value; absolute where that is zero."""
    difference = (output - expected).detach().abs().max()
    return float(difference / (expected.abs().max() or 1))


def errors(golden: dict[str, Tensor], case: str) -> dict[str, float]:
    """Relative errors of one recorded case, by implementation."""
    recorded = {
        key.removeprefix(f"{case}."): value for key, value in golden.items() if key[0] == case
    }
    x = recorded["features"].requires_grad_()
    mask = recorded.get("mask", torch.zeros(len(x), 1, 4 * x.shape[2], 4 * x.shape[3]))
    of_first = mask[:1].expand_as(mask)  # all but mmagic use the first sample's mask for the batch
    taps = 1 if case in "13" else 3
    output = SoftFloor(fuse=taps)(x, of_first)
    (gradient,) = torch.autograd.grad((output * recorded["u"]).sum(), x)
    found = {
        "y": error(output, recorded["y"]),
        "grad": error(gradient, recorded["grad"]),
        "y_nipponjo": error(ContextualAttention(fuse=taps)(x, of_first), recorded["y_nipponjo"]),
        "y_tf": error(
            ContextualAttention(fuse=taps, align_corners=True)(x, of_first), recorded["y_tf"]
        ),
    }
    mmagic = ContextualAttention(fuse=taps, **MMAGIC)
    if "y_mmagic" in recorded:
        found["y_mmagic"] = error(mmagic(x, mask), recorded["y_mmagic"])
    if "score_mmagic" in recorded:
        score = recorded["score_mmagic"]
        found["score_mmagic"] = error(mmagic.attend(x, mask).reshape_as(score), score)
    print(f"case {case}: {found}")  # pytest -s shows it
    return found


# --- recorded vectors ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["0", "5"])
def test_attention_reproduces_recorded_vectors(case: str) -> None:
    found = errors(load_file(FIXTURES / NAME), case)
    assert found.keys() == {"y", "grad", "y_nipponjo", "y_tf", "y_mmagic"}
    assert max(found.values()) <= 1e-5, found


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the complete golden vectors are not at ../shared")
@pytest.mark.parametrize("case", [str(i) for i in range(7)])
def test_attention_reproduces_all_recorded_vectors(case: str) -> None:
    found = errors(load_file(SHARED / NAME), case)
    assert max(found.values()) <= 1e-5, found


# --- the hole ------------------------------------------------------------------------------------


def test_keys_that_touch_the_hole_get_no_weight() -> None:
    # Equal scores everywhere, so that each key takes the same share. The hole covers 2×2 of the
    # 8×8 positions that are compared; 4×4 keys touch it.
    features, mask = torch.zeros(1, 2, 16, 16), hole_at(64, slice(16, 32), slice(24, 40))
    touched = torch.zeros(8, 8, dtype=torch.bool)
    touched[1:5, 2:6] = True
    for exclude, share in ((False, 1 / 64), (True, 1 / 48)):
        weights = ContextualAttention(exclude_hole=exclude).attend(features, mask)
        expected = torch.where(touched.flatten(), 0.0, share)[:, None].expand(64, 64)
        torch.testing.assert_close(weights[0], expected)


def test_outside_of_the_map_counts_as_known() -> None:
    features, mask = torch.zeros(1, 2, 16, 16), hole_at(64, slice(0, 8), slice(0, 8))
    touched = ContextualAttention().attend(features, mask)[0, :, 0] == 0
    assert touched.nonzero().flatten().tolist() == [0, 1, 8, 9]


@pytest.mark.parametrize("exclude", [False, True])
def test_sample_that_is_all_hole_becomes_zero(exclude: bool) -> None:
    x = random_features(2, 3, 8, 8).requires_grad_()
    mask = torch.zeros(2, 1, 32, 32)
    mask[0] = 1
    with torch.autograd.set_detect_anomaly(True):
        output = ContextualAttention(exclude_hole=exclude)(x, mask)
        (gradient,) = torch.autograd.grad(output.square().sum(), x)
    assert output[0].abs().max() == 0
    assert gradient[0].abs().max() == 0
    assert output[1].isfinite().all()
    assert gradient[1].abs().max() > 0


def test_each_sample_has_its_own_mask() -> None:
    attention, x = ContextualAttention(), random_features(1, 4, 16, 16)
    masks = [
        hole_at(64, slice(8, 40), slice(8, 32)), hole_at(64, slice(40, 64), slice(0, 64))
    ]  # fmt: skip
    together = attention(x.expand(2, -1, -1, -1), torch.cat(masks))
    alone = torch.cat([attention(x, mask) for mask in masks])
    torch.testing.assert_close(together, alone)
    assert error(together[0], together[1]) > 0.1  # the masks matter


def test_mask_may_have_any_multiple_of_the_compared_size_and_any_dtype() -> None:
    attention, x = ContextualAttention(), random_features(1, 4, 16, 16)
    small = hole_at(8, slice(2, 5), slice(3, 6))
    expected = attention(x, small)
    for ratio, dtype in ((2, torch.bool), (8, torch.uint8), (3, torch.float64)):
        mask = small.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3).to(dtype)
        assert torch.equal(attention(x, mask), expected)
    assert torch.equal(attention(x, torch.where(small > 0, 0.6, 0.5)), expected)


# --- sizes and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"rate": 4}, {"kernel_size": 5}, {"kernel_size": 1, "fuse": 1}, {"fuse": 5}]
)
def test_distinct_patches_without_a_hole_find_themselves(options: Any) -> None:
    # Long vectors make the softmax choose one key, the query itself, and the pasted patches
    # are put back where they were cut out.
    x = 100 * random_features(2, 8, 16, 24)
    mask = torch.zeros(2, 1, 64, 96)
    whole = ContextualAttention(count_overlaps=True, **options)(x, mask)
    torch.testing.assert_close(whole, x)
    border = options.get("rate", 2) // 2
    inner = (..., slice(border, -border), slice(border, -border))
    output = ContextualAttention(**options)(x, mask)
    torch.testing.assert_close(output[inner], x[inner])
    torch.testing.assert_close(output[..., 0, border:-border], x[..., 0, border:-border] / 2)
    torch.testing.assert_close(output[..., -1, -1], x[..., -1, -1] / 4)


def test_weights_are_the_softmax_over_keys_of_scaled_similarities() -> None:
    x = random_features(2, 5, 8, 12)
    vectors = x[..., ::2, ::2].flatten(2)
    similarity = F.normalize(vectors, dim=1).mT @ vectors  # keys are normalised, queries are not
    weights = ContextualAttention(kernel_size=1, fuse=1, scale=0.7).attend(
        x, torch.zeros(2, 1, 8, 12)
    )
    torch.testing.assert_close(weights, (0.7 * similarity).softmax(dim=1))


@pytest.mark.parametrize("taps", [3, 5])
def test_fuse_is_the_sum_along_diagonals_of_both_numberings(taps: int) -> None:
    height, width = 3, 4
    similarity = random_features(1, 12, 12).double()

    def summed(matrix: Tensor) -> Tensor:
        padded = torch.zeros(12 + 2 * taps, 12 + 2 * taps, dtype=torch.float64)
        padded[taps:-taps, taps:-taps] = matrix
        total = torch.zeros(12, 12, dtype=torch.float64)
        for i in range(12):
            for j in range(12):
                for step in range(-(taps // 2), taps // 2 + 1):
                    total[i, j] += padded[taps + i + step, taps + j + step]
        return total

    by_columns = torch.arange(12).view(height, width).T.flatten()
    expected = torch.empty(12, 12, dtype=torch.float64)
    numbered = summed(similarity[0])[by_columns][:, by_columns]
    expected[by_columns[:, None], by_columns] = summed(numbered)
    torch.testing.assert_close(fuse(similarity, height, width, taps)[0], expected)


def test_aligned_indices_round_a_half_up() -> None:
    # 5 of 7 rows lie 1.5 apart, and 3 of 6 rows lie 2.5 apart.
    device = torch.device("cpu")
    assert aligned_indices(7, 5, device).tolist() == [0, 2, 3, 5, 6]
    assert aligned_indices(6, 3, device).tolist() == [0, 3, 5]
    assert aligned_indices(2, 1, device).tolist() == [0]


@pytest.mark.parametrize("options", [{}, MMAGIC, {"align_corners": True}])
def test_attention_has_exact_gradients(options: Any) -> None:
    x = random_features(2, 2, 8, 8).double().requires_grad_()
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:5, 3:6] = mask[1, :, 6:, :2] = 1
    attention = ContextualAttention(scale=0.5, **options)
    assert torch.autograd.gradcheck(lambda features: attention(features, mask), x)


def test_attention_computes_in_float32_under_autocast() -> None:
    x, mask = random_features(2, 8, 16, 16), hole_at(64, slice(16, 40), slice(8, 32))
    mask = mask.expand(2, -1, -1, -1)
    expected = ContextualAttention()(x.bfloat16().float(), mask)
    with torch.autocast("cpu", torch.bfloat16):
        output = ContextualAttention()(x.bfloat16(), mask)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected.bfloat16())


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4, expected an odd number"),
        ({"fuse": 0}, "fuse=0, expected an odd number"),
        ({"rate": 3}, "rate=3, expected an even number"),
    ],
)
def test_attention_refuses_wrong_arguments(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextualAttention(**options)


@pytest.mark.parametrize(
    ("features", "mask", "message"),
    [
        ((1, 2, 15, 16), (1, 1, 60, 64), "features of 15×16: .* multiples of 2"),
        ((2, 2, 16, 16), (1, 1, 64, 64), r"mask has shape \(1, 1, 64, 64\), expected \(2, 1"),
        ((1, 2, 16, 16), (1, 64, 64), r"mask has shape \(1, 64, 64\)"),
        ((1, 2, 16, 16), (1, 1, 60, 64), r"mask has size \(60, 64\), .* multiple of \(8, 8\)"),
        ((1, 2, 16, 16), (1, 1, 0, 64), r"mask has size \(0, 64\)"),
    ],
)
def test_attention_refuses_shapes_that_do_not_fit(
    features: tuple[int, ...], mask: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ContextualAttention()(torch.zeros(features), torch.zeros(mask))
