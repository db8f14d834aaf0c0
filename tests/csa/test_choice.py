"""The choice between the Triton kernels and the PyTorch form, with kernels that fail.

The kernels of these tests are stand-ins that take patches on the CPU. ``test_kernels.py`` compares
the real kernels.
"""

import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from csa_inpaint import CSALayer
from csa_inpaint.csa import choice
from csa_inpaint.csa.propagate import attend_pytorch, propagate_backward_pytorch

pytest.importorskip("triton", reason="Triton is not installed")
Result = tuple[Tensor, Tensor]


def inputs() -> tuple[Tensor, Tensor]:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:5, 1:6] = mask[1, :, :, 4:] = 1
    features = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    return features.requires_grad_(), mask


def output_and_gradient(layer: Callable[[Tensor, Tensor], Tensor]) -> Result:
    features, mask = inputs()
    output = layer(features, mask)
    (gradient,) = torch.autograd.grad(output.square().sum(), features)
    return output.detach(), gradient


class Kernels(SimpleNamespace):
    """Kernels that are right, and count their calls. ``spoil`` changes what they return."""

    def __init__(self, spoil: Callable[[str, Tensor], Tensor] = lambda _, value: value) -> None:
        self.calls = 0
        self.spoil = spoil

    def attend(self, *arguments: Any) -> tuple[Tensor, ...]:
        self.calls += 1
        values = attend_pytorch(*arguments)
        names = ("generated", "match", "weights")
        return tuple(self.spoil(name, v) for name, v in zip(names, values, strict=True))

    def attend_backward(self, *arguments: Any) -> Tensor:
        self.calls += 1
        return self.spoil("gradient", propagate_backward_pytorch(*arguments))


class Broken(Kernels):
    """Kernels that do not launch."""

    def attend(self, *arguments: Any) -> tuple[Tensor, ...]:
        self.calls += 1
        raise OSError("out of resource:\n  shared memory")


class BrokenBackward(Kernels):
    def attend_backward(self, *arguments: Any) -> Tensor:
        raise RuntimeError("the backward kernel does not compile")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a module in the place of the kernels, which then take patches on the CPU."""
    monkeypatch.delenv(choice.VARIABLE, raising=False)

    def install(kernels: Any) -> None:
        monkeypatch.setattr(choice, "_agrees", {})
        monkeypatch.setattr(choice, "kernels_take", lambda patches: True)
        monkeypatch.setattr(choice, "load_kernels", lambda: kernels)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    return install


@pytest.fixture
def expected() -> Result:
    return output_and_gradient(CSALayer())


def wrong(which: str, change: Callable[[Tensor], Tensor]) -> Kernels:
    return Kernels(lambda name, value: change(value) if name == which else value)


def a_little_off(value: Tensor) -> Tensor:
    value = value.clone()
    value[1, -1] += 0.01 * value.abs().max()
    return value


def nan_at_one_place(value: Tensor) -> Tensor:
    value = value.clone()
    value[1, -1] = float("nan")
    return value


def test_kernels_that_agree_are_used(install: Callable[[Any], None]) -> None:
    kernels = Kernels()
    install(kernels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output_and_gradient(CSALayer())
        output_and_gradient(CSALayer())
    assert kernels.calls == 2 * 3  # one comparison and two passes, forward and backward


@pytest.mark.parametrize(
    ("kernels", "fault"),
    [
        (Broken(), "OSError: out of resource: shared memory"),
        (BrokenBackward(), "RuntimeError: the backward kernel does not compile"),
        (wrong("generated", a_little_off), "generated off by 0.01 of"),
        (wrong("generated", nan_at_one_place), "generated off by nan"),
        (wrong("weights", a_little_off), "weights off by 0.01 of"),
        (wrong("gradient", a_little_off), "gradient off by 0.01 of"),
        (wrong("gradient", nan_at_one_place), "gradient off by nan"),
        (wrong("match", lambda match: match.roll(1, 1)), "match off by"),
        (wrong("match", lambda match: match + 1000), "RuntimeError: index"),
    ],
)
def test_pytorch_form_works_where_the_kernels_do_not(
    kernels: Kernels, fault: str, install: Callable[[Any], None], expected: Result
) -> None:
    install(kernels)
    with pytest.warns(RuntimeWarning) as caught:
        results = [output_and_gradient(CSALayer()) for _ in range(2)]
    (warning,) = caught
    for part in (fault, "work on cpu for float32 patches of 6 numbers", choice.VARIABLE):
        assert part in str(warning.message)
    torch.testing.assert_close(results, [expected] * 2, rtol=0, atol=0)


def test_match_within_the_hole_is_wrong(install: Callable[[Any], None]) -> None:
    install(wrong("match", lambda match: torch.arange(match.shape[1]).expand_as(match)))
    with pytest.warns(RuntimeWarning, match="match off by"):
        CSALayer()(*inputs())


def test_kernels_that_cannot_be_imported_are_not_used(
    monkeypatch: pytest.MonkeyPatch, install: Callable[[Any], None], expected: Result
) -> None:
    load = choice.load_kernels
    install(None)
    monkeypatch.setattr(choice, "load_kernels", load)
    monkeypatch.setitem(sys.modules, "csa_inpaint.csa.kernels", None)
    monkeypatch.delattr("csa_inpaint.csa.kernels", raising=False)
    with pytest.warns(RuntimeWarning, match="ModuleNotFoundError"):
        result = output_and_gradient(CSALayer())
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_each_dtype_and_patch_size_is_compared(install: Callable[[Any], None]) -> None:
    install(Kernels())
    features, mask = inputs()
    for layer in (CSALayer(), CSALayer(patch_size=3), CSALayer(similarity="released")):
        for dtype in (torch.float32, torch.float16):
            layer(features.to(dtype), mask)
    assert len(choice._agrees) == 6
    assert all(choice._agrees.values())


@pytest.mark.parametrize("kernels", [Broken(), wrong("generated", torch.zeros_like)])
def test_variable_chooses_the_pytorch_form(
    kernels: Kernels,
    monkeypatch: pytest.MonkeyPatch,
    install: Callable[[Any], None],
    expected: Result,
) -> None:
    install(kernels)
    monkeypatch.setenv(choice.VARIABLE, "pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = output_and_gradient(CSALayer())
    assert kernels.calls == 0
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_variable_insists_on_the_kernels(
    monkeypatch: pytest.MonkeyPatch, install: Callable[[Any], None]
) -> None:
    monkeypatch.setenv(choice.VARIABLE, "triton")
    kernels = wrong("gradient", torch.zeros_like)
    install(kernels)
    assert not output_and_gradient(CSALayer())[1].any()
    assert kernels.calls == 2  # no comparison
    install(Broken())
    with pytest.raises(OSError, match="out of resource"):
        CSALayer()(*inputs())


def test_other_value_of_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "cuda")
    with pytest.raises(ValueError, match="KERNELS=cuda: expected one of auto, triton, pytorch"):
        CSALayer()(*inputs())


def test_missing_triton_is_an_error_where_the_variable_insists(
    monkeypatch: pytest.MonkeyPatch, install: Callable[[Any], None], expected: Result
) -> None:
    install(Broken())
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    torch.testing.assert_close(output_and_gradient(CSALayer()), expected, rtol=0, atol=0)
    monkeypatch.setenv(choice.VARIABLE, "triton")
    with pytest.raises(RuntimeError, match="Triton is not installed: install Triton, or set"):
        CSALayer()(*inputs())


@pytest.mark.filterwarnings("ignore:The CSA layer's Triton kernels:RuntimeWarning")
def test_comparison_happens_in_any_context(
    install: Callable[[Any], None], expected: Result
) -> None:
    def fresh(kernels: Kernels) -> CSALayer:
        install(kernels)
        return CSALayer()

    for kernels in (Broken(), Kernels()):
        verdict = isinstance(kernels, Broken)
        with torch.no_grad():
            torch.testing.assert_close(fresh(kernels)(*inputs()), expected[0])
        with torch.inference_mode():
            torch.testing.assert_close(fresh(kernels)(*inputs()), expected[0])
        torch.testing.assert_close(output_and_gradient(CSALayer()), expected)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(output_and_gradient(fresh(kernels)), expected)
        compiled = torch.compile(fresh(kernels), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(output_and_gradient(compiled), expected)
        assert [*choice._agrees.values()] == [not verdict]


def test_comparison_draws_no_random_number(install: Callable[[Any], None]) -> None:
    install(Kernels())
    state = torch.get_rng_state()
    CSALayer()(*inputs())
    assert choice._agrees
    assert torch.equal(torch.get_rng_state(), state)


def test_capture_of_a_graph_takes_the_kernels_as_they_are(
    monkeypatch: pytest.MonkeyPatch, install: Callable[[Any], None]
) -> None:
    kernels = wrong("gradient", torch.zeros_like)
    install(kernels)
    with monkeypatch.context() as capturing:
        capturing.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        CSALayer()(*inputs())
        assert kernels.calls == 1
        assert not choice._agrees
    with pytest.warns(RuntimeWarning, match="gradient off by"):
        CSALayer()(*inputs())
