"""The Triton kernels against the PyTorch forms.

They run on a GPU, or on the CPU in Triton's interpreter, which has to be chosen before Triton is
imported: ``test_kernels_in_the_interpreter`` runs this file once more that way.
"""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from csa_inpaint import CSALayer
from csa_inpaint.csa.attend import attend_pytorch
from csa_inpaint.csa.propagate import links, propagate_backward_pytorch
from csa_inpaint.csa.search import search_pytorch

pytest.importorskip("triton", reason="Triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
# the interpreter keeps bfloat16 as raw bits, which its matrix product takes for integers
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
    copy = index % 100  # of three copies, hundred apart, one is in the hole
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
def test_gradient_is_right_where_squares_leave_float32(magnitude: float) -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9)
    patches *= magnitude
    linked = links(hole, 8, across_gaps=True)
    generated, match, weights = attend_pytorch(patches, hole, linked, True, True)
    saved = (torch.ones_like(generated), patches, hole, linked, match, generated, weights)
    wanted = propagate_backward_pytorch(*saved, True, True, False)
    gradient = kernels.attend_backward(*saved, True, True, False)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


@on_device
def test_kernels_take_the_match_after_a_zero_patch_without_the_guard() -> None:
    from csa_inpaint.csa import kernels

    patches, hole = case(torch.float32, 9, "positive")
    hole[:] = torch.arange(40, device=DEVICE) % 3 == 1
    patches[:, :2] = 0  # the first hole patch, and its match
    linked = links(hole, 8, across_gaps=True)
    expected = attend_pytorch(patches, hole, linked, True, False)
    assert expected[0].isfinite().all()
    for value, wanted in zip(
        kernels.attend(patches, hole, linked, True, False), expected, strict=True
    ):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("patch_size", [1, 3])
def test_layer_never_waits_for_the_device(dtype: torch.dtype, patch_size: int) -> None:
    layer = CSALayer(patch_size)
    features = torch.randn(2, 16, 16, 16, device="cuda", dtype=dtype, requires_grad=True)
    mask = torch.zeros(2, 1, 64, 64, device="cuda")
    mask[:, :, 16:40, 24:48] = 1
    layer(features, mask).sum().backward()  # compiles the kernels, which may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(features, mask).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests above ran already")
def test_kernels_in_the_interpreter() -> None:
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
def test_kernels_compile_for_a_gpu(dtype: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from csa_inpaint.csa import kernels

    pointers = {"patches": dtype, "rows": dtype, "result": dtype, "hole": "i1", "linked": "i1"}
    indices = ("order", "holes", "match", "best", "before", "users", "first_user")
    similarity = {"COSINE": True, "GUARDED": True, "BLOCK": 512}
    unit = {"UNIT": dtype == "fp32"}
    functions: list[tuple[Any, dict[str, Any]]] = [
        (kernels._scale_rows, {**unit, "BLOCK": 512}),
        (kernels._search, {**unit, "BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_D": 32, "TIE": 5e-7}),
        (kernels._similarity, {**similarity, **unit}),
        (kernels._recurrence, {**similarity, "STAGES": 3}),
        (kernels._slopes, similarity),
        (kernels._chain, {"COSINE": True, "BLOCK": 512, "STAGES": 3}),
        (kernels._collect, {"COSINE": True, "BLOCK": 512}),
    ]
    for function, constants in functions:
        types = {}
        for name in function.arg_names:
            if name in constants:
                types[name] = "constexpr"
            elif name in ("count", "size", "stride"):
                types[name] = "i32"
            else:
                types[name] = "*" + pointers.get(name, "i64" if name in indices else "fp32")
        source = ASTSource(fn=function, signature=types, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        if function is kernels._search:
            assert ("mma" in compiled.asm["ptx"]) == (dtype != "fp32")  # tensor cores where exact
        if "STAGES" in constants:
            assert "cp.async" in compiled.asm["ptx"]  # loads are ahead of the recurrence
