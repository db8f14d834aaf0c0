"""Compiled and exported models that contain the layer."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from csa_inpaint.csa import CSALayer
from csa_inpaint.csa.attend import attend
from csa_inpaint.csa.propagate import links

OPTIONS: list[dict[str, Any]] = [
    {},
    {"patch_size": 3},
    {"patch_size": 3, "stride": 2, "similarity": "released", "detach_weights": True},
]


class Model(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Conv2d(3, 8, 3, padding=1)
        self.attend = CSALayer(**options)
        self.decode = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.decode(self.attend(self.encode(image), mask))


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    mask = torch.zeros(size, 1, 18, 16)
    for i in range(size):
        mask[i, :, 4 + i : 8 + i, 6:12] = 1
    return torch.randn(size, 3, 9, 8, generator=generator), mask


@pytest.mark.parametrize("options", OPTIONS)
def test_compiled_model_equals_eager(options: dict[str, Any]) -> None:
    model, inputs = Model(**options), batch(2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for function in (model, compiled):
        output = function(*inputs)
        results.append([output, *torch.autograd.grad(output.sum(), list(model.parameters()))])
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, eager)


@pytest.mark.slow
def test_inductor_compiles_the_model() -> None:
    model, inputs = Model(), batch(2)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), model(*inputs))


def test_attention_is_compiled_as_well() -> None:
    x, mask = torch.randn(2, 4, 9, 8), batch(2)[1]
    compiled = torch.compile(CSALayer(), fullgraph=True, backend="aot_eager")
    for fast, eager in zip(
        compiled(x, mask, return_attention=True),
        CSALayer()(x, mask, return_attention=True),
        strict=True,
    ):
        torch.testing.assert_close(fast, eager)


@pytest.mark.parametrize("options", OPTIONS)
def test_exported_model_equals_eager_for_another_batch_size(options: dict[str, Any]) -> None:
    model = Model(**options)
    size = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(model, batch(2), dynamic_shapes=({0: size}, {0: size}))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(*batch(3)), model(*batch(3)))


@pytest.mark.parametrize("columns", [True, False])
def test_operators_are_registered_rightly(columns: bool) -> None:
    hole = torch.rand(2, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    patches = torch.randn(2, 5, 7).mT if columns else torch.randn(2, 7, 5)
    linked = links(hole, 7, across_gaps=True)
    _, match, weights = attend(patches, hole, linked)
    patches = patches.requires_grad_()
    operators = torch.ops.csa_inpaint
    torch.library.opcheck(operators.attend, (patches, hole, linked, True, True, False))
    torch.library.opcheck(operators.attention_matrix, (hole, match, weights))


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns of sizes that it fixes
def test_traced_layer_follows_another_hole() -> None:
    features = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    small, large = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    small[..., 2:4, 2:4] = large[..., 1:6, 2:7] = 1
    with torch.no_grad():
        traced = torch.jit.trace(CSALayer(), (features, small))
        assert torch.equal(traced(features, large), CSALayer()(features, large))


def test_compiled_layer_takes_another_size() -> None:
    layer = torch.compile(CSALayer(), fullgraph=True, backend="aot_eager")
    for side in (8, 12, 16):
        x, mask = torch.randn(1, 3, side, side), torch.zeros(1, 1, 2 * side, 2 * side)
        mask[..., 4:10, 4:10] = 1
        torch.testing.assert_close(layer(x, mask), CSALayer()(x, mask))
