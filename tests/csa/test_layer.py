"""The layer against released vectors and closed forms, and the properties that must hold."""

import doctest
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd.forward_ad import dual_level, make_dual

from csa_inpaint.csa import CSALayer, layer, reduce_mask

FIXTURES = Path(__file__).parents[1] / "fixtures"
SHARED = Path(__file__).parents[3] / "shared" / "golden"


def center_hole(batch: int = 1, size: int = 8) -> Tensor:
    mask = torch.zeros(batch, 1, size, size)
    mask[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return mask


def random_features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_golden(golden: dict[str, Tensor], case: str) -> None:
    x, mask, expected = (golden[f"{case}.{name}"] for name in ("x", "feat_mask", "y"))
    output = CSALayer(similarity="released")(x, mask)
    assert (output - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("case", ["0", "6", "7", "8"])
def test_layer_reproduces_released_vectors(case: str) -> None:
    assert_golden(load_file(FIXTURES / "csa_layer.safetensors"), case)


@pytest.mark.parametrize("options", [{}, {"similarity": "released"}, {"guarded": False}])
def test_layer_computes_the_same_without_gradients(options: dict[str, Any]) -> None:
    layer, features, mask = CSALayer(**options), random_features(2, 5, 8, 8), center_hole(2)
    with_gradient = layer(features, mask)
    with torch.no_grad():
        assert torch.equal(layer(features, mask), with_gradient)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the complete golden vectors are not at ../shared")
@pytest.mark.parametrize("case", [str(i) for i in range(9)])
def test_layer_reproduces_all_released_vectors(case: str) -> None:
    assert_golden(load_file(SHARED / "csa_layer.safetensors"), case)


def test_layer_follows_the_equation_on_three_patches() -> None:
    # one row: known (1, 0), two hole patches, known (0, 2)
    x = torch.tensor([[1.0, 0.9, 0.6, 0.0], [0.0, 0.1, 0.8, 2.0]]).view(1, 2, 1, 4)
    mask = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4)
    # m_1 = (1, 0); the match of m_2 is (0, 2) with Dmax = 0.8, and Dad = 0.6 with m_1
    expected = torch.tensor([0.6 * 1.0 / 1.4, 0.8 * 2.0 / 1.4])
    output = CSALayer()(x, mask)
    torch.testing.assert_close(output[0, :, 0, 1], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(output[0, :, 0, 2], expected)


def test_layer_chains_across_gaps_and_row_ends() -> None:
    x, mask = random_features(1, 4, 3, 3), torch.zeros(1, 1, 3, 3)
    mask[0, 0, 0, 2] = mask[0, 0, 2, 0] = 1
    attention = CSALayer()(x.abs(), mask, return_attention=True)[1][0]
    first = attention[2].argmax()
    assert attention[2, first] == 1
    assert attention[6, first] > 0  # The hole patch of the last row takes from that of the first.


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("patch_size", [1, 3])
def test_layer_is_identity_without_hole_or_without_known(value: int, patch_size: int) -> None:
    x = random_features(2, 3, 6, 5).requires_grad_()
    output = CSALayer(patch_size)(x, torch.full((2, 1, 6, 5), value))
    assert torch.equal(output, x)
    output.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_known_positions_stay_bit_identical(
    dtype: torch.dtype, patch_size: int, stride: int
) -> None:
    x = random_features(2, 5, 9, 8).to(dtype)
    mask = torch.zeros(2, 1, 9, 8)
    mask[0, :, 2:4, 5:] = mask[1, :, 7:, :1] = 1
    output = CSALayer(patch_size, stride)(x, mask)
    known = (mask == 0).expand_as(x)
    assert output.dtype == dtype
    assert torch.equal(output[known], x[known])
    assert not torch.equal(output, x)


def test_one_known_patch_fills_the_hole() -> None:
    x = random_features(1, 4, 3, 3)
    mask = torch.ones(1, 1, 3, 3)
    mask[0, 0, 1, 1] = 0
    torch.testing.assert_close(CSALayer()(x, mask), x[:, :, 1:2, 1:2].expand_as(x))


def test_ties_go_to_the_first_in_raster_order() -> None:
    x = torch.ones(1, 3, 6, 7)
    x[:, :, 0, 0] = torch.tensor([1.0, -1.0, 0.0])
    mask = torch.zeros(1, 1, 6, 7)
    mask[:, :, 3:5, 2:6] = 1
    attention = CSALayer()(x, mask, return_attention=True)[1][0]
    for row in mask.flatten().nonzero()[:, 0]:
        assert attention[row].nonzero().tolist() == [[1]]


@pytest.mark.parametrize("channels", [3, 17, 64, 512])
def test_duplicated_patches_tie_exactly(channels: int) -> None:
    # All known patches are copies of five patches. The choice of the copy must not depend on how a
    # matrix product splits its columns.
    x = random_features(1, channels, 1, 5).repeat(1, 1, 16, 8)
    noise = random_features(1, channels, 16, 40, seed=1)
    mask = torch.zeros(1, 1, 16, 40)
    mask[:, :, 3:12, 11:30] = 1
    x = torch.where(mask > 0, noise, x)
    used = CSALayer()(x, mask, return_attention=True)[1][0].any(0).nonzero()[:, 0]
    hole = mask.flatten() > 0
    matched = {int(i) for i in used if i < 5}
    rows = CSALayer()(x, mask, return_attention=True)[1][0][hole]
    assert set(rows.nonzero()[:, 1].tolist()) <= matched


def test_zero_similarities_fall_back_to_the_best_match() -> None:
    # The second hole patch is opposite to every known patch and to the first generated patch.
    x = torch.tensor([[1.0, 2.0, -1.0, -3.0]]).view(1, 1, 1, 4)
    mask = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4)
    x[0, 0, 0, 3] = 4
    assert CSALayer()(x, mask).flatten().tolist() == [1, 1, 1, 4]


@pytest.mark.parametrize("similarity", ["cosine", "released"])
@pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (3, 3)])
def test_attention_times_known_patches_is_the_output(
    similarity: Any, patch_size: int, stride: int
) -> None:
    x = random_features(2, 5, 9, 12).double().abs()
    mask = torch.zeros(2, 1, 9, 12)
    mask[0, :, 3:6, 3:9] = mask[1, :, 6:, :3] = 1
    output, attention = CSALayer(patch_size, stride, similarity=similarity)(
        x, mask, return_attention=True
    )
    patches = layer.unfold(x, patch_size, stride)
    torch.testing.assert_close(attention @ patches, layer.unfold(output, patch_size, stride))
    torch.testing.assert_close(attention.sum(2), torch.ones_like(attention[:, 0]))
    hole = layer.unfold(mask, patch_size, stride).amax(2) > 0
    assert (attention.mT[hole] == 0).all()  # No patch takes from a hole patch.
    if similarity == "cosine":
        assert attention.min() >= 0


@pytest.mark.parametrize("mate", [1.0, 0.0, 1e-30, 1e30])
@pytest.mark.parametrize("similarity", ["cosine", "released"])
def test_samples_do_not_see_their_batch_mates(mate: float, similarity: layer.Similarity) -> None:
    attention = CSALayer(similarity=similarity)
    x = random_features(5, 16, 8, 8).abs()
    x[3:, :, ::3] *= mate
    mask = (torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.4).float()
    mask[2] = 1
    mask[2, :, 0, 0] = 0  # Sample 2 has far more hole patches than the others.

    def output_and_gradient(*samples: int) -> tuple[Tensor, Tensor]:
        features = x[list(samples)].requires_grad_()
        output = attention(features, mask[list(samples)])
        (gradient,) = torch.autograd.grad(output.sum(), features)
        return output, gradient

    together = output_and_gradient(0, 1, 2, 3, 4)
    for sample in range(3):
        for value, alone in zip(together, output_and_gradient(sample), strict=True):
            assert torch.equal(value[sample : sample + 1], alone)


def test_empty_batch_passes_through() -> None:
    for patch_size in (1, 3):
        x = torch.zeros(0, 4, 8, 8, requires_grad=True)
        output, attention = CSALayer(patch_size)(x, torch.zeros(0, 1, 8, 8), return_attention=True)
        output.sum().backward()
        assert output.shape == x.shape
        assert len(attention) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_copies_that_a_product_rounds_differently_tie(dtype: torch.dtype) -> None:
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        channels, size = (
            int(torch.randint(*r, (), generator=generator)) for r in ((1, 80), (1, 4))
        )
        value = float(torch.randn((), generator=generator))
        hole = torch.rand(1, 1, 7, 10, generator=generator) < 0.05
        found = CSALayer(size).attend(torch.full((1, channels, 7, 10), value).to(dtype), hole)
        first = (~found.hole[0]).nonzero()[0]
        assert (found.match[found.hole] == first).all()


def test_patches_that_differ_by_more_than_rounding_do_not_tie() -> None:
    query, noise = random_features(2, 64).double()
    noise -= (noise @ query) / (query @ query) * query
    near = query + 2e-3 * noise * (query.norm() / noise.norm())  # cosine similarity 1 - 2e-6
    x = torch.stack([near, query, query], 1).view(1, 64, 1, 3).float()
    found = CSALayer().attend(x, torch.tensor([False, False, True]).view(1, 1, 1, 3))
    assert found.match.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("size", [512, 4608])
def test_copies_behind_slightly_worse_patches_tie(size: int) -> None:
    query, *noise = random_features(4, size).double()
    worse = [query + 2e-3 * n * query.norm() / n.norm() for n in noise]  # cosine 1 - 2e-6
    x = torch.stack([*worse, *[query] * 20], 1).view(1, size, 1, 23).float()
    hole = torch.arange(23).view(1, 1, 1, 23) > 17
    found = CSALayer().attend(x, hole)
    assert (found.match[found.hole] == 3).all()


def test_nan_known_patch_is_no_match_in_a_compiled_graph() -> None:
    x, mask = random_features(1, 4, 8, 8).abs(), center_hole()
    x[..., 0, 0] = 0  # A zero patch resembles no other patch.
    expected = CSALayer()(x, mask)
    x[..., 0, 0] = float("nan")
    output = torch.compile(CSALayer(), backend="eager")(x, mask)
    assert output[..., 0, 0].isnan().all()
    assert torch.equal(output.flatten(2)[..., 1:], expected.flatten(2)[..., 1:])


@pytest.mark.parametrize("height", [6, 8])
def test_gradient_without_a_hole_has_the_layout_that_graphs_expect(height: int) -> None:
    x = random_features(2, 4, height, 8).requires_grad_()
    convolution = torch.nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last)

    def loss(features: Tensor, mask: Tensor) -> Tensor:
        filled = CSALayer()(features.exp(), mask).contiguous(memory_format=torch.channels_last)
        output: Tensor = convolution(filled).square().sum()
        return output

    compiled = torch.compile(loss, fullgraph=True, backend="inductor")
    (gradient,) = torch.autograd.grad(compiled(x, torch.zeros(2, 1, height, 8)), x)
    (expected,) = torch.autograd.grad(loss(x, torch.zeros(2, 1, height, 8)), x)
    torch.testing.assert_close(gradient, expected)


def test_threshold_is_that_of_the_paper() -> None:
    mask = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    features = random_features(1, 4, 16, 16)
    filled = (CSALayer()(features, mask) != features).any(1, keepdim=True)
    assert torch.equal(filled.float(), reduce_mask(mask, (16, 16), 5 / 16))


def test_nothing_is_remembered_between_calls() -> None:
    module, x = CSALayer(), random_features(1, 6, 8, 8)
    other = 1 - center_hole()
    expected = CSALayer()(x, other)
    module(x, center_hole())
    assert torch.equal(module(x, other), expected)
    assert not list(module.parameters())
    assert not module.state_dict()


def test_layer_is_deterministic() -> None:
    x, mask = random_features(4, 64, 16, 16).requires_grad_(), center_hole(4, 16)
    runs = []
    for _ in range(3):
        output = CSALayer()(x, mask)
        runs.append((output, torch.autograd.grad(output.square().sum(), x)[0]))
    for output, gradient in runs[1:]:
        assert torch.equal(output, runs[0][0])
        assert torch.equal(gradient, runs[0][1])


def test_larger_mask_is_reduced_by_the_feature_mask_rule() -> None:
    golden = load_file(FIXTURES / "feature_mask.safetensors")
    x = random_features(6, 3, 32, 32)
    for threshold in (5 / 16, 8 / 16):
        expected = CSALayer()(x, reduce_mask(golden["mask"], (32, 32), threshold))
        assert torch.equal(CSALayer(threshold=threshold)(x, golden["mask"]), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_mask_may_have_any_dtype(dtype: torch.dtype) -> None:
    x, mask = random_features(1, 4, 8, 8), center_hole()
    assert torch.equal(CSALayer()(x, mask.to(dtype)), CSALayer()(x, mask))


@pytest.mark.parametrize("patch_size", [1, 3])
def test_channels_last_is_kept(patch_size: int) -> None:
    x, mask = random_features(2, 6, 8, 8), center_hole(2)
    x_last = x.to(memory_format=torch.channels_last).requires_grad_()
    x = x.requires_grad_()
    output, expected = CSALayer(patch_size)(x_last, mask), CSALayer(patch_size)(x, mask)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert expected.is_contiguous()
    torch.testing.assert_close(output, expected)
    gradients = [
        torch.autograd.grad(y.square().sum(), z)[0] for y, z in ((output, x_last), (expected, x))
    ]
    torch.testing.assert_close(*gradients)


def test_views_with_gaps_are_accepted() -> None:
    x, mask = random_features(2, 9, 8, 16), center_hole(2)
    view = x[:, 1:8:2, :, ::2]
    assert torch.equal(CSALayer()(view, mask), CSALayer()(view.contiguous(), mask))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    x, mask = random_features(2, 64, 8, 8).to(dtype), center_hole(2)
    exact = CSALayer()(x.double(), mask)
    output = CSALayer()(x, mask)
    torch.testing.assert_close(output, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
    x.requires_grad_()
    gradient = torch.autograd.grad(CSALayer()(x, mask).float().square().sum(), x)[0]
    x64 = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(CSALayer()(x64, mask).square().sum(), x64)[0]
    assert gradient.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=tolerance)


def test_autocast_changes_nothing() -> None:
    x, mask = random_features(2, 64, 8, 8).requires_grad_(), center_hole(2)
    expected = CSALayer()(x, mask)
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        output = CSALayer()(x, mask)
        (inside,) = torch.autograd.grad(output.square().sum(), x)
        assert CSALayer()(x.bfloat16(), mask).dtype == torch.bfloat16
    assert torch.equal(output, expected)
    assert torch.equal(inside, gradient)


def test_detached_weights_are_constants_in_backward() -> None:
    x, mask = random_features(1, 6, 8, 8).double().requires_grad_(), center_hole()
    output, attention = CSALayer(detach_weights=True)(x, mask, return_attention=True)
    cotangent = random_features(*output.shape, seed=1).double()
    (gradient,) = torch.autograd.grad(output, x, cotangent)
    linear = (attention.mT @ cotangent.flatten(2).mT).mT.view_as(x)
    torch.testing.assert_close(gradient, linear)
    assert torch.equal(output, CSALayer()(x, mask))


def test_extra_repr_tells_the_settings() -> None:
    expected = (
        "CSALayer(patch_size=3, stride=2, threshold=0.5, similarity='released', "
        "detach_weights=True, guarded=False, across_gaps=False)"
    )
    assert repr(CSALayer(3, 2, 0.5, "released", True, across_gaps=False)) == expected


def test_guard_takes_the_match_where_similarities_cancel() -> None:
    # The second hole patch has the cosines -1/√2 with the first and 1/√2 with its match.
    x = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]], [[0.0, 0.0, 1.0, 1.0]]]])
    mask = torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]])
    x[0, :, 0, 3] = torch.tensor([0.0, 1.0])
    guarded, bare = CSALayer()(x, mask), CSALayer(guarded=False)(x, mask)
    assert torch.equal(guarded[0, :, 0, 2], x[0, :, 0, 3])
    assert not bare[0, :, 0, 2].abs().max() < 100  # w = -1/√2 / (-1/√2 + 1/√2)


def test_without_links_across_gaps_each_row_starts_with_its_match() -> None:
    x, mask = random_features(1, 6, 8, 8).abs(), center_hole()
    output = CSALayer(across_gaps=False)(x, mask)[0, :, 2:6, 2:6]
    unit = torch.nn.functional.normalize(x[0].flatten(1), dim=0)
    known = (mask.flatten() == 0).nonzero()[:, 0]
    firsts = (mask[0, 0] == 1).flatten().nonzero()[::4, 0]
    best = known[(unit[:, firsts].T @ unit[:, known]).argmax(1)]
    assert torch.equal(output[:, :, 0], x[0].flatten(1)[:, best])
    across = CSALayer()(x, mask)[0, :, 2:6, 2:6]
    assert torch.equal(across[:, 0], output[:, 0])  # The first row has no hole patch before it.
    assert not torch.equal(across[:, 1:], output[:, 1:])


def test_docstring_example_runs() -> None:
    found = doctest.DocTestFinder().find(CSALayer, globs={"torch": torch, "CSALayer": CSALayer})
    results = [doctest.DocTestRunner().run(test) for test in found if test.examples]
    assert results
    assert all(result.failed == 0 for result in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, "patch_size.* at least 1, got 0"),
        ({"patch_size": 1.5}, "patch_size.* got 1.5"),
        ({"stride": 0}, "stride.* at least 1, got 0"),
        ({"stride": True}, "stride.* got True"),
        ({"guarded": "no"}, "guarded.* got 'no'"),
        ({"across_gaps": "no"}, "across_gaps.* got 'no'"),
        ({"detach_weights": 1}, "detach_weights.* got 1"),
        ({"threshold": 1.0}, r"\[0, 1\), got 1.0"),
        ({"similarity": "dot"}, "'cosine', 'released'.*'dot'"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSALayer(**options)


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (torch.zeros(4, 8, 8), torch.zeros(1, 1, 8, 8), r"\(4, 8, 8\).*\(B, C, H, W\)"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.int64), torch.zeros(1, 1, 8, 8), "int64.*float16"),
        (torch.zeros(1, 0, 8, 8), torch.zeros(1, 1, 8, 8), r"\(1, 0, 8, 8\)"),
        (None, torch.zeros(1, 1, 8, 8), "features must be a tensor, got NoneType"),
        (torch.zeros(1, 4, 8, 8), [1], "mask must be a tensor, got list"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 0, 0), r"\(1, 1, 0, 0\)"),
        (torch.zeros(2, 4, 8, 8), torch.zeros(3, 1, 8, 8), r"\(3, 1, 8, 8\).*\(2, 1, h, w\)"),
        (torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8), r"\(2, 4, 8, 8\).*\(2, 1, h, w\)"),
        (torch.zeros(2, 4, 8, 8), torch.zeros(2, 8, 8), r"\(2, 8, 8\).*\(2, 1, h, w\)"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 20, 16), r"\(20, 16\).*\(8, 8\).*resize"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 4, 4), r"\(4, 4\).*\(8, 8\)"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8, device="meta"), "meta.*cpu.*move"),
        (torch.zeros(1, 4, 2, 8), torch.zeros(1, 1, 2, 8), r"patch_size 3.*\(2, 8\)"),
    ],
)
def test_input_that_does_not_fit_is_named(x: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSALayer(patch_size=3)(x, mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_features_that_are_not_finite_are_named(value: float) -> None:
    x = random_features(2, 3, 8, 8)
    x[1, 2, 5, 4] = x[1, 2, 5, 5] = value
    with pytest.raises(ValueError, match=rf"features\[1, 2, 5, 4\] is {value}.*2 values"):
        CSALayer()(x, center_hole(2))


def test_huge_finite_features_are_not_taken_for_infinite() -> None:
    x = torch.full((1, 2, 8, 8), torch.finfo(torch.float32).max)
    assert torch.equal(CSALayer()(x, center_hole()), x)


@pytest.mark.parametrize("inplace", [torch.nn.ReLU(True), torch.nn.LeakyReLU(0.2, True)])
def test_output_may_be_changed_in_place(inplace: torch.nn.Module) -> None:
    x, mask = random_features(1, 6, 8, 8).requires_grad_(), center_hole()
    (gradient,) = torch.autograd.grad(inplace(CSALayer()(x, mask)).square().sum(), x)
    output = CSALayer()(x, mask)
    outside = type(inplace)(*([0.2] if isinstance(inplace, torch.nn.LeakyReLU) else []))
    (expected,) = torch.autograd.grad(outside(output).square().sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_second_derivative_is_refused_in_words() -> None:
    x, mask = random_features(1, 6, 8, 8).requires_grad_(), center_hole()
    (gradient,) = torch.autograd.grad(CSALayer()(x, mask).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        gradient.sum().backward()


def test_forward_mode_derivative_is_refused_in_words() -> None:
    x, mask = random_features(1, 6, 8, 8), center_hole()
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(lambda features: CSALayer()(features, mask), (x,), (x,))
    with dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        CSALayer()(make_dual(x, x), mask)
