"""A model whose prediction is known, and which keeps what it is shown."""

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from csa_inpaint.inference import backends
from csa_inpaint.types import Inpainting


class Painter(pl.LightningModule):
    """Paints every pixel in one colour."""

    def __init__(self, colour: float = -0.5, depth: int = 3, size: int | None = None) -> None:
        super().__init__()
        self.multiple = 2**depth
        self.trained_size = size
        self.generator = torch.nn.Conv2d(3, 3, 1)
        self.colour = colour
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        self.seen.append((image, mask))
        self.generator(image)
        painted = torch.full_like(image, self.colour)
        return Inpainting(painted, painted, torch.where(mask > 0.5, painted, image), {})

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Height and width of every window that was seen."""
        return [image.shape[-2:] for image, _ in self.seen for _ in image]


@pytest.fixture
def make_painter() -> Callable[..., Painter]:
    return Painter


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests compute the same on machines with and without bfloat16."""
    monkeypatch.setattr(backends, "multiplies_bfloat16", lambda: False)
