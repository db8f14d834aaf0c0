"""The two critics of DeepFill v1 (Yu et al., CVPR 2018, arXiv 1801.07892, Sec. 3.2)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from csa_inpaint.adversaries.contract import Adversary, Host, Judged
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.losses.boxes import crop, hole_boxes
from csa_inpaint.types import Batch, Inpainting


class Critic(nn.Module):
    """5×5 convolutions of stride 2 with leaky ReLU, and a linear layer over all that is left.

    Args:
        size: side of the images, in pixels.
        width: channels of the first convolution.
        multiples: channels of each convolution, divided by the width.

    Shape: (B, 3, size, size) → (B, 1) scores.

    Raises:
        ValueError: for images of another size.
    """

    def __init__(self, size: int, width: int = 64, multiples: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.size = size
        channels = [3, *(width * multiple for multiple in multiples)]
        self.convolutions = nn.Sequential()
        side = size
        for inputs, outputs in pairwise(channels):
            convolution = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)
            nn.init.kaiming_normal_(convolution.weight, 0.2)
            self.convolutions.extend([convolution, nn.LeakyReLU(0.2)])
            side = -(-side // 2)
        self.linear = nn.Linear(channels[-1] * side**2, 1)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (self.size, self.size):
            height, width = image.shape[-2:]
            raise ValueError(
                f"this critic judges images of {self.size}×{self.size}, not of {height}×{width}: "
                "set the adversary's size"
            )
        score: Tensor = self.linear(self.convolutions(image).flatten(1))
        return score


class CriticAdversary(Adversary):
    """A critic of the whole image, or of a box around the hole.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``; the default weight and
            learning rate are those of the authors' code.
        size: side of what the critic judges, in pixels.
        local: True cuts a box of that size around the hole; False takes whole images.
        width: channels of the critic's first convolution.
        multiples: channels of each convolution, divided by the width.

    Raises:
        ValueError: for a size that is no positive whole number, and where ``Adversary`` raises one.
    """

    def __init__(
        self,
        objective: Objective,
        size: int,
        local: bool,
        name: str = "critic",
        weight: float = 0.001,
        learning_rate: float = 1e-4,
        judges: Judged = "composite",
        width: int = 64,
        multiples: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        if type(size) is not int or size < 1:
            raise ValueError(f"adversary {name}: size={size!r}, expected a whole number of pixels")
        self.size = size
        self.local = local
        self.width = width
        self.multiples = list(multiples)

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        return Critic(self.size, self.width, self.multiples)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Tensor, Tensor]:
        return self._view(batch.image, batch), self._view(getattr(out, self.judges), batch)

    def judged_mask(self, batch: Batch) -> Tensor:
        return self._view(batch.mask, batch)

    def _view(self, image: Tensor, batch: Batch) -> Tensor:
        if not self.local:
            return image
        return crop(image, hole_boxes(batch.mask, self.size), self.size)
