"""The layer against the paper's loop in float64: outputs and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from csa_inpaint.csa import CSALayer, naive_csa


def random_hole(seed: int, batch: int, height: int, width: int, share: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, 1, height, width, generator=generator) < share).double()


def outputs_and_gradients(function: Any, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    features = features.clone().requires_grad_()
    output = function(features, mask)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).to(output)
    (gradient,) = torch.autograd.grad(output, features, cotangent)
    return output.detach(), gradient


def assert_same_as_naive(features: Tensor, mask: Tensor, tolerance: float = 1e-9, **options: Any):
    naive = outputs_and_gradients(lambda x, m: naive_csa(x, m, **options), features, mask)
    fast = outputs_and_gradients(CSALayer(**options), features, mask)
    for value, expected in zip(fast, naive, strict=True):
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 17, 65])
@pytest.mark.parametrize("similarity", ["cosine", "released"])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("across_gaps", [True, False])
@pytest.mark.parametrize("detach_weights", [False, True])
def test_layer_equals_naive(
    channels: int, similarity: str, guarded: bool, across_gaps: bool, detach_weights: bool
) -> None:
    x = features(channels, 2, channels, 6, 5)
    if not guarded:
        x = x.abs() + 0.1  # Negative similarities would make the weights unbounded.
    mask = random_hole(channels, 2, 6, 5, 0.4)
    assert_same_as_naive(
        x,
        mask,
        similarity=similarity,
        guarded=guarded,
        across_gaps=across_gaps,
        detach_weights=detach_weights,
    )


@pytest.mark.parametrize("patch_size", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 9), (8, 8), (5, 12)])
def test_layer_equals_naive_for_patches(
    patch_size: int, stride: int, size: tuple[int, int]
) -> None:
    x = features(3, 2, 4, *size)
    mask = random_hole(5, 2, *size, 0.05)
    mask[1] = 0
    mask[1, :, -3:, -2:] = 1  # a hole at the border
    assert_same_as_naive(x, mask, patch_size=patch_size, stride=stride)
    assert_same_as_naive(x, mask, patch_size=patch_size, stride=stride, across_gaps=False)


@pytest.mark.parametrize("options", [{}, {"patch_size": 2}, {"similarity": "released"}])
def test_gradient_passes_gradcheck(options: dict[str, Any]) -> None:
    x = features(11, 2, 3, 4, 5)
    if options.get("similarity") == "released":
        x = x.abs() + 0.1
    mask = random_hole(1, 2, 4, 5, 0.25)
    layer = CSALayer(**options)
    assert torch.autograd.gradcheck(lambda y: layer(y, mask), x.requires_grad_())


@pytest.mark.parametrize("seed", range(6))
def test_layer_equals_naive_where_the_best_match_is_opposite(seed: int) -> None:
    x, mask = features(seed, 3, 2, 3, 3), torch.ones(3, 1, 3, 3)
    mask[:, :, 1, 1] = mask[1, :, 0, 2] = 0  # Few known patches: many similarities are negative.
    assert_same_as_naive(x, mask)


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("across_gaps", [True, False])
def test_layer_equals_naive_after_a_zero_patch(guarded: bool, across_gaps: bool) -> None:
    x, mask = features(2, 1, 4, 3, 6).abs() + 0.1, torch.zeros(1, 1, 3, 6)
    mask[..., 1] = mask[..., 3:5] = 1
    x[:, :, 0, :2] = 0  # The first hole patch and its match, the first known patch, are zero.
    assert_same_as_naive(x, mask, guarded=guarded, across_gaps=across_gaps)


@pytest.mark.parametrize("similarity", ["cosine", "released"])
@pytest.mark.parametrize("rectified", [True, False])
def test_layer_equals_naive_for_small_integers(similarity: str, rectified: bool) -> None:
    # Small integers give zero patches, orthogonal patches and exact ties: rounding must not decide.
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        shape = (2, 2 + seed % 3, 4, 5)
        x = torch.randint(-4, 5, shape, generator=generator, dtype=torch.float64)
        mask = random_hole(seed, 2, 4, 5, 0.4)
        options = {"similarity": similarity, "guarded": True}
        assert_same_as_naive(x.relu() if rectified else x, mask, **options)


def test_layer_equals_naive_at_zero_hole_patches() -> None:
    x, mask = features(2, 1, 4, 3, 6), torch.zeros(1, 1, 3, 6)
    mask[..., 1:5] = 1
    x[:, :, 1, 2] = x[:, :, 2, 1] = 0
    assert_same_as_naive(x, mask)


@pytest.mark.parametrize("ratio", [1e-10, 1e-25, 1e-37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_magnitudes_may_lie_far_apart(ratio: float, dtype: torch.dtype) -> None:
    x = features(5, 2, 8, 6, 6).abs() + 0.1
    x[..., ::2] *= ratio
    x = x.to(dtype)
    mask = random_hole(4, 2, 6, 6, 0.4)
    expected = naive_csa(x.double(), mask)
    output = CSALayer()(x, mask).double()
    error = (output - expected).abs() / expected.abs().amax(1, keepdim=True)
    assert error.max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("similarity", ["cosine", "released"])
def test_what_is_not_finite_ends_with_its_run(similarity: str) -> None:
    x, mask = features(3, 1, 4, 3, 8).abs() + 0.1, torch.zeros(1, 1, 3, 8)
    mask[:, :, ::2, 2:5] = 1
    x[:, :, 0, 3] = 0  # Both similarities are zero: the weight is 0 / 0 without the guard.
    options = {"similarity": similarity, "guarded": False, "across_gaps": False}
    output = CSALayer(**options)(x, mask)
    assert output[:, :, 0].isnan().any()
    assert output[:, :, 1:].isfinite().all()
    torch.testing.assert_close(output, naive_csa(x, mask, **options), equal_nan=True)


@pytest.mark.parametrize("similarity", ["cosine", "released"])
def test_layer_equals_naive_where_similarities_are_as_small_as_rounding(similarity: str) -> None:
    options = {"similarity": similarity, "guarded": True}
    tiny = 3 * torch.finfo(torch.float64).eps
    for scale, share in ((1.0, 1e-14), (1e6, 0.5)):
        known = torch.tensor([-tiny, share, (1 - share**2) ** 0.5], dtype=torch.float64)
        first = torch.tensor([scale, 0, 0], dtype=torch.float64)
        hole = torch.tensor([tiny, 1, 0], dtype=torch.float64)
        x = torch.stack([first, first, hole, known], 1).view(1, 3, 1, 4)
        mask = torch.tensor([0.0, 1, 1, 0]).view(1, 1, 1, 4)
        naive = outputs_and_gradients(lambda y, m: naive_csa(y, m, **options), x, mask)
        fast = outputs_and_gradients(CSALayer(**options), x, mask)
        for value, expected in zip(fast, naive, strict=True):
            assert (value - expected).norm() < 0.1 * expected.norm()
