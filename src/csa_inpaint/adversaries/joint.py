"""The discriminator of GLCIC, which joins two views (Iizuka et al., SIGGRAPH 2017, Table 2)."""

import math

import torch
from torch import Tensor, nn

from csa_inpaint.adversaries.contract import Adversary, Host, Judged, Sample
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.losses.boxes import crop, hole_boxes
from csa_inpaint.types import Batch, Inpainting


class Tower(nn.Module):
    """5×5 convolutions of stride 2 with batch norm and ReLU to about 4×4, and a linear layer.

    Args:
        size: side of the images, in pixels.
        width: channels of the first convolution; the last have at most eight times as many.
        features: length of the vector.
        bias: biases in the convolutions.
        relu_first: puts the ReLU before the norm.
        levels: number of convolutions; None for as many as leave about 4×4: six for 256, five for
            128.

    Shape: (B, 3, size, size) → (B, features).

    Raises:
        ValueError: for images of another size.
    """

    def __init__(
        self,
        size: int,
        width: int,
        features: int,
        bias: bool = True,
        relu_first: bool = False,
        levels: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.convolutions = nn.Sequential()
        inputs, side = 3, size
        for level in range(levels or max(1, round(math.log2(size / 4)))):
            outputs = width * min(2**level, 8)
            convolution = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=bias)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            pair = [nn.BatchNorm2d(outputs), nn.ReLU()]
            self.convolutions.extend([convolution, *(pair[::-1] if relu_first else pair)])
            inputs, side = outputs, -(-side // 2)
        self.linear = nn.Linear(inputs * side**2, features)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (self.size, self.size):
            height, width = image.shape[-2:]
            raise ValueError(
                f"this discriminator judges images of {self.size}×{self.size}, not of "
                f"{height}×{width}: set the adversary's size and local_size"
            )
        vector: Tensor = self.linear(self.convolutions(image).flatten(1)).relu()
        return vector


class JointDiscriminator(nn.Module):
    """Two towers, whose vectors one linear layer joins.

    Args:
        size: side of the whole images, in pixels.
        local_size: side of the crops.
        width: channels of each tower's first convolution.
        features: length of each tower's vector.
        bias, relu_first: see ``Tower``.
        levels: numbers of convolutions for crops and for whole images, see ``Tower``.

    Shape: crops (B, 3, local_size, local_size) and images (B, 3, size, size) → (B, 1) logits.
    """

    def __init__(
        self,
        size: int = 256,
        local_size: int = 128,
        width: int = 64,
        features: int = 1024,
        bias: bool = True,
        relu_first: bool = False,
        levels: tuple[int | None, int | None] = (None, None),
    ) -> None:
        super().__init__()
        self.local = Tower(local_size, width, features, bias, relu_first, levels[0])
        self.whole = Tower(size, width, features, bias, relu_first, levels[1])
        self.linear = nn.Linear(2 * features, 1)

    def forward(self, crop: Tensor, image: Tensor) -> Tensor:
        logit: Tensor = self.linear(torch.cat([self.local(crop), self.whole(image)], dim=1))
        return logit


class JointAdversary(Adversary):
    """GLCIC's discriminator of a crop together with the whole image.

    A generated image is cropped around its hole, a true image at a random place (paper, Alg. 1).

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``; the default weight is the
            paper's α, the default learning rate is for Adadelta.
        size: side of the whole images, in pixels.
        local_size: side of the crops.
        width: channels of each tower's first convolution.
        features: length of each tower's vector.

    Raises:
        ValueError: for sizes that are no positive whole numbers, for crops larger than the images,
            and where ``Adversary`` raises one.
    """

    def __init__(
        self,
        objective: Objective,
        size: int = 256,
        local_size: int = 128,
        name: str = "joint",
        weight: float = 0.0004,
        learning_rate: float = 1.0,
        judges: Judged = "composite",
        width: int = 64,
        features: int = 1024,
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        if type(size) is not int or not 1 <= local_size <= size:
            raise ValueError(
                f"adversary {name}: size={size!r} and local_size={local_size!r}, expected whole "
                "numbers of pixels, the crop not larger than the image"
            )
        self.size = size
        self.local_size = local_size
        self.width = width
        self.features = features

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        return JointDiscriminator(self.size, self.local_size, self.width, self.features)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Sample, Sample]:
        image, side = batch.image, self.local_size
        made: Tensor = getattr(out, self.judges)
        room = torch.tensor(image.shape[-2:]) - side + 1
        # The module seeds the random numbers of each step, so that a resumed run draws the same.
        places = (torch.rand(len(image), 2) * room).long().tolist()
        real = crop(image, [(top, left) for top, left in places], side)
        fake = crop(made, hole_boxes(batch.mask, side), side)
        return (real, image), (fake, made)
