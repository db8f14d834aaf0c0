"""SN-PatchGAN, the adversary of gated convolution (Yu et al., ICCV 2019, arXiv 1806.03589)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from csa_inpaint.adversaries.contract import Adversary, Host, Judged, Sample, judged, listed
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.networks.blocks import init_weights
from csa_inpaint.types import Batch, Inpainting


class SNPatchDiscriminator(nn.Sequential):
    """Six convolutions with spectral norm, each followed by a leaky ReLU; every output is a logit.

    In training mode each call makes one step of the power iteration that finds the spectral norms.

    Args:
        width: channels of the first convolution; the last four have four times as many.

    Shape: (B, 4, H, W), the image and its hole → (B, 4 · width, H / 64, W / 64) logits, rounded up.
    """

    def __init__(self, width: int = 64) -> None:
        channels = [4, width, 2 * width, *4 * [4 * width]]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            convolution = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)
            init_weights(convolution)
            layers += [spectral_norm(convolution), nn.LeakyReLU(0.2)]
        super().__init__(*layers)


class SNPatchAdversary(Adversary):
    """The spectrally normalised patch discriminator, which judges an image next to its hole.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``; the default weight and
            learning rate are those of the authors' code.
        width: channels of the discriminator's first convolution.
    """

    def __init__(
        self,
        objective: Objective,
        name: str = "sn_patch",
        weight: float = 1.0,
        learning_rate: float = 1e-4,
        judges: Judged = "composite",
        width: int = 64,
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        self.width = width

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        return SNPatchDiscriminator(self.width)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Tensor, Tensor]:
        real, fake = (
            torch.cat([image, batch.mask], dim=1)
            for image in (batch.image, getattr(out, self.judges))
        )
        return real, fake

    def logits(self, discriminator: nn.Module, real: Sample, fake: Sample) -> tuple[Tensor, Tensor]:
        """Logits from one call, so that real and fake share one step of the power iteration."""
        both = tuple(torch.cat(pair) for pair in zip(listed(real), listed(fake), strict=True))
        real_logits, fake_logits = judged(discriminator, both).chunk(2)
        return real_logits, fake_logits
