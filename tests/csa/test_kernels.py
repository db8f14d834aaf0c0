"""The Triton kernels against the PyTorch forms.

The kernels run on a GPU, or on the CPU in Triton's interpreter. The interpreter has to be chosen
before Triton is imported, so ``test_kernels_in_the_interpreter`` runs this file in a new process.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import Tensor

from csa_inpaint import CSALayer
from csa_inpaint.csa.choice import Case, kernel_errors, kernel_fault
from csa_inpaint.csa.propagate import attend_pytorch, links, propagate_backward_pytorch
from csa_inpaint.csa.search import search_pytorch

pytest.importorskip("triton", reason="Triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
# The interpreter keeps bfloat16 as raw bits, and its matrix product takes the bits for integers.
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE == "cuda")
on_device = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="needs a GPU, or Triton's interpreter (see below)"
)


def case(dtype: torch.dtype, size: int, kind: str = "random") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    patches = torch.randn(3, 40, size, generator=generator)
    if kind == "positive":
        patches = patches.abs() + 0.1
    if kind == "zeros":
        patches[:, ::3] = 0
    if kind == "constant":
        patches = torch.full_like(patches, 0.3)
    if kind == "huge":
        patches = patches.sign() * torch.finfo(dtype).max
    if kind == "tiny":
        patches = patches * torch.finfo(dtype).smallest_normal
    hole = torch.rand(3, 40, generator=generator) < torch.tensor([[0.3], [0.9], [0.0]])
    hole[1, 37:] = False
    return patches.to(DEVICE, dtype), hole.to(DEVICE)


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 70])
def test_kernels_find_the_matches_of_the_pytorch_form(dtype: torch.dtype, size: int) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(dtype, size)
    linked = links(hole, 8, across_gaps=True)
    _, match, _ = kernels.attend(patches, hole, linked, True, True)
    assert torch.equal(match, search_pytorch(patches, hole)[0])


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_find_the_first_match_over_several_tiles(dtype: torch.dtype) -> None:
    from csa_inpaint.csa import kernels

    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 100, 5, generator=generator).to(DEVICE, dtype).repeat(1, 3, 1)
    hole = torch.arange(300, device=DEVICE) % 3 == torch.tensor([[1], [2]], device=DEVICE)
    linked = links(hole, 20, across_gaps=True)
    _, match, _ = kernels.attend(patches, hole, linked, True, True)
    index = torch.arange(300, device=DEVICE)
    copy = index % 100  # Each patch has three copies, 100 apart. One of the copies is in the hole.
    first_known = torch.where(hole[:, copy], copy + 100, copy)
    assert torch.equal(match, torch.where(hole, first_known, index))


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [33])
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("across_gaps", [True, False])
@pytest.mark.parametrize("detach_weights", [True, False])
def test_kernels_equal_the_pytorch_form(
    dtype: torch.dtype,
    size: int,
    cosine: bool,
    guarded: bool,
    across_gaps: bool,
    detach_weights: bool,
) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(dtype, size, "random" if guarded else "positive")
    linked = links(hole, 8, across_gaps)
    generated, match, weights = attend_pytorch(patches, hole, linked, cosine, guarded)
    values = kernels.attend(patches, hole, linked, cosine, guarded)
    for value, wanted in zip(values, (generated, match, weights), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)

    grad = torch.randn(generated.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    saved = (grad, patches, hole, linked, match, generated, weights)
    options = (cosine, guarded, detach_weights)
    wanted = propagate_backward_pytorch(*saved, *options)
    tolerance = 1e-5 + torch.finfo(dtype).eps
    torch.testing.assert_close(
        kernels.attend_backward(*saved, *options), wanted, rtol=tolerance, atol=1e-5
    )


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["zeros", "constant", "huge", "tiny"])
def test_kernels_are_right_at_the_limits(dtype: torch.dtype, kind: str) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(dtype, 9, kind)
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = kernels.attend(patches, hole, linked, True, True)
    expected, wanted, _ = attend_pytorch(patches, hole, linked, True, True)
    assert torch.equal(match, wanted)
    assert generated.isfinite().all()
    assert ((weights >= 0) & (weights <= 1)).all()
    scale = float(patches.float().abs().max())
    torch.testing.assert_close(
        generated.double() / scale, expected.double() / scale, rtol=1e-5, atol=1e-5
    )


@on_device
@pytest.mark.parametrize("magnitude", [1e-25, 1e25])
@pytest.mark.parametrize("cosine", [True, False])
def test_gradient_is_right_where_squares_leave_float32(magnitude: float, cosine: bool) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9)
    patches *= magnitude
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = attend_pytorch(patches, hole, linked, cosine, True)
    saved = (torch.ones_like(generated), patches, hole, linked, match, generated, weights)
    wanted = propagate_backward_pytorch(*saved, cosine, True, False)
    gradient = kernels.attend_backward(*saved, cosine, True, False)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


@on_device
def test_kernels_take_the_match_after_a_zero_patch_without_the_guard() -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9, "positive")
    hole[:] = torch.arange(40, device=DEVICE) % 3 == 1
    patches[:, :2] = 0  # The first hole patch and its match are zero.
    linked = links(hole, 8, across_gaps=True)
    expected = attend_pytorch(patches, hole, linked, True, False)
    assert expected[0].isfinite().all()
    for value, wanted in zip(
        kernels.attend(patches, hole, linked, True, False), expected, strict=True
    ):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)


@on_device
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("kind", ["zeros", "positive"])
def test_gradient_is_right_at_zero_patches_and_orthogonal_ones(cosine: bool, kind: str) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 6, kind)
    if kind == "positive":  # two orthogonal groups of patches, and patches of neither group
        patches[:, ::2, :3] = 0
        patches[:, 1::2, 3:] = 0
        patches[:, 5::7] = 1
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = attend_pytorch(patches, hole, linked, cosine, True)
    saved = (torch.ones_like(generated), patches, hole, linked, match, generated, weights)
    wanted = propagate_backward_pytorch(*saved, cosine, True, False)
    assert wanted.isfinite().all()
    gradient = kernels.attend_backward(*saved, cosine, True, False)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


@on_device
def test_kernels_keep_magnitudes_apart() -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9, "positive")
    patches[:, ::2] *= 1e-25
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = attend_pytorch(patches.double(), hole, linked, True, True)
    values = kernels.attend(patches, hole, linked, True, True)
    for value, wanted in zip(values, (generated, match, weights), strict=True):
        torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-5, atol=1e-30)


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
def test_multiples_of_one_patch_are_equals(dtype: torch.dtype) -> None:
    from csa_inpaint.csa import kernels

    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(-9, 10, (1, 40, 512), generator=generator).to(DEVICE, dtype)
    patches[:, 10:20] = patches[:, 10:11] * torch.arange(1, 11, device=DEVICE)[:, None]
    patches[:, 30:] = patches[:, 10:20] * 3
    hole = torch.arange(40, device=DEVICE)[None] >= 30
    _, match, _ = kernels.attend(patches, hole, links(hole, 8, True), True, True)
    assert (match[hole] == 10).all()


@on_device
@pytest.mark.parametrize("cosine", [True, False])
def test_kernels_end_what_is_not_finite_with_its_run(cosine: bool) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9, "positive")
    hole[:] = (torch.arange(40, device=DEVICE) % 8 > 1) & (torch.arange(40, device=DEVICE) % 8 < 5)
    patches[:, 3] = 0
    linked = links(hole, 8, across_gaps=False)
    expected = attend_pytorch(patches, hole, linked, cosine, False)
    values = kernels.attend(patches, hole, linked, cosine, False)
    assert values[0].isnan().any()
    for value, wanted in zip(values, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)


@on_device
def test_nan_stays_nan() -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9)
    hole[0] = torch.arange(40, device=DEVICE) % 3 == 1
    patches[0, 7, 2] = float("nan")
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = kernels.attend(patches, hole, linked, True, True)
    assert generated[0, 7].isnan().all()
    assert generated[0, 10].isnan().all()  # The next hole patch depends on patch 7.
    assert generated[1:].isfinite().all()
    saved = (torch.ones_like(generated), patches, hole, linked, match, generated, weights)
    assert kernels.attend_backward(*saved, True, True, False)[0].isnan().any()


@on_device
def test_constant_weights_have_no_part_in_the_gradient_of_huge_patches() -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9, "huge")
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = attend_pytorch(patches, hole, linked, True, True)
    saved = (torch.ones_like(generated), patches, hole, linked, match, generated, weights)
    wanted = propagate_backward_pytorch(*saved, True, True, True)
    torch.testing.assert_close(kernels.attend_backward(*saved, True, True, True), wanted)


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("guarded", [True, False])
def test_comparison_before_the_first_use_finds_no_fault(dtype: torch.dtype, guarded: bool) -> None:
    from csa_inpaint.csa import kernels

    case = Case(torch.device(DEVICE), dtype, 9, guarded=guarded)
    assert kernel_fault(case) is None
    errors = kernel_errors(kernels, case)
    assert max(errors[name] for name in ("match", "generated", "weights")) < 1e-5


@pytest.mark.skipif(not INTERPRETED, reason="the interpreter alone takes bfloat16 for integers")
def test_comparison_finds_the_fault_of_the_interpreter() -> None:
    assert "match off by" in str(kernel_fault(Case(torch.device("cpu"), torch.bfloat16, 9)))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("patch_size", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layer_on_the_device_equals_the_one_on_the_cpu(
    patch_size: int, memory_format: torch.memory_format
) -> None:
    layer = CSALayer(patch_size)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 16, 16, 16, generator=generator)
    features = features.contiguous(memory_format=memory_format)
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 16:40, 24:48] = mask[1, :, :, 30:] = 1
    results = []
    for device in ("cpu", "cuda"):
        x = features.detach().to(device).requires_grad_()
        output = layer(x, mask.to(device))
        with torch.no_grad():
            assert layer(x, mask.to(device)).stride() == output.stride() == x.stride()
        output.square().sum().backward()
        assert x.grad is not None
        results.append((output.detach().cpu(), x.grad.cpu()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("patch_size", [1, 3])
def test_layer_never_waits_for_the_device(dtype: torch.dtype, patch_size: int) -> None:
    layer = CSALayer(patch_size)
    features = torch.randn(2, 16, 16, 16, device="cuda", dtype=dtype, requires_grad=True)
    mask = torch.zeros(2, 1, 64, 64, device="cuda")
    mask[:, :, 16:40, 24:48] = 1
    layer(features, mask).sum().backward()  # Compilation of the kernels may wait for the device.
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(features, mask).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the kernels run in this process")
def test_kernels_in_the_interpreter() -> None:
    if Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.4"):
        pytest.skip("Triton's interpreter takes NumPy 2.4 from Triton 3.7 on")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


@pytest.mark.skipif(INTERPRETED, reason="compilation needs the real compiler")
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("size", [512, 4608])
def test_kernels_compile_for_a_gpu(dtype: str, size: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from csa_inpaint.csa.kernels import backward, forward
    from csa_inpaint.csa.kernels.common import per_patch, per_sample

    unit = dtype == "fp32"
    types = dict.fromkeys(["p_patches", "p_scaled", "p_queries", "p_result"], "*" + dtype)
    types |= dict.fromkeys(["p_order", "p_hole_count", "p_match", "p_ordered_match"], "*i64")
    types |= dict.fromkeys(["p_before", "p_users", "p_first_user"], "*i64")
    types |= dict.fromkeys(["p_hole", "p_linked"], "*i1")
    types |= dict.fromkeys(["count", "size", "stride"], "i32")
    flags = {"UNIT": unit, "COSINE": size == 512, "GUARDED": True, "DETACH": size != 512}
    launches: list[tuple[Any, dict[str, int]]] = [
        (forward._scale, per_patch(1024, size)),
        (forward._search, forward.search_tile(unit)),
        (forward._similarity, per_patch(1024, size)),
        (forward._recurrence, per_sample(1024, size)),
        (backward._slopes, per_patch(1024, size)),
        (backward._chain, per_sample(1024, size)),
        (backward._collect, per_patch(1024, size)),
    ]
    for kernel, launch in launches:
        options = {**flags, **launch}
        constants = {name: options[name] for name in kernel.arg_names if name.isupper()}
        signature, aligned = {}, {}
        for position, name in enumerate(kernel.arg_names):
            signature[name] = "constexpr" if name in constants else types.get(name, "*fp32")
            if name not in constants:
                aligned[(position,)] = [["tt.divisibility", 16]]
        compiled = triton.compile(
            ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": options.get("num_warps", 4)},
        )
        if kernel is forward._search:
            # Tensor cores multiply where their products are exact.
            assert ("mma" in compiled.asm["ptx"]) == (not unit)
        if options.get("STAGES", 1) > 1:
            # Whole patches (16 bytes at once), not only single numbers, are loaded ahead.
            assert "cp.async.cg" in compiled.asm["ptx"]
