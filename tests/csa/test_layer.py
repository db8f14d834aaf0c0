"""The layer against the released vectors, the paper's loop and closed-form cases."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from csa_inpaint.csa import CSALayer

FIXTURES = Path(__file__).parents[1] / "fixtures"
SHARED = Path(__file__).parents[3] / "shared" / "golden"


def assert_golden(golden: dict[str, torch.Tensor], case: str) -> None:
    x, mask, expected = (golden[f"{case}.{name}"] for name in ("x", "feat_mask", "y"))
    output = CSALayer(similarity="released")(x, mask)
    assert (output - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("case", ["0", "6", "7", "8"])
def test_layer_reproduces_released_vectors(case: str) -> None:
    assert_golden(load_file(FIXTURES / "csa_layer.safetensors"), case)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the complete golden vectors are not at ../shared")
@pytest.mark.parametrize("case", [str(i) for i in range(9)])
def test_layer_reproduces_all_released_vectors(case: str) -> None:
    assert_golden(load_file(SHARED / "csa_layer.safetensors"), case)
