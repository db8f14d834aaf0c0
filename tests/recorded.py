"""Vectors that were recorded from public implementations, which only the maintainers have."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "shared" / "golden" / "rivals"
PER_LAYER, PER_NETWORK = 1e-5, 1e-4  # largest relative error


def recorded(name: str) -> dict[str, Tensor]:
    """The tensors of one file."""
    return dict(load_file(FOLDER / f"{name}.safetensors"))


def needs_recorded(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that reads recorded vectors; it is skipped where they are not there."""
    there = pytest.mark.skipif(not FOLDER.exists(), reason=f"recorded vectors are not at {FOLDER}")
    return pytest.mark.shared(there(test))


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def error(output: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float(
        (output - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-30)
    )
