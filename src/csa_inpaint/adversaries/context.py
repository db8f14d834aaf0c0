"""The adversary of the context encoder (Pathak et al., CVPR 2016, arXiv 1604.07379)."""

from itertools import pairwise

from torch import Tensor, nn

from csa_inpaint.adversaries.contract import Adversary, Host, Judged
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.methods.context_encoder import ContextEncoderGenerator
from csa_inpaint.networks.blocks import init_weights, level_channels
from csa_inpaint.types import Batch, Inpainting


class ContextDiscriminator(nn.Sequential):
    """Convolutions that halve a picture to 4×4, and one that makes a logit of it.

    Args:
        width: channels of the first convolution.
        halvings: 4 for pictures of 64×64, 5 for 128×128, whose first two levels are equally wide.
        wide: whether the channels grow at the first level already.

    Shape: (B, 3, H, W) → (B, 1, h, w) logits, one for the picture's own size.
    """

    def __init__(self, width: int = 64, halvings: int = 4, wide: bool = True) -> None:
        levels = level_channels(width, halvings if wide else halvings - 1)
        channels = levels if wide else [width, *levels]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for outer, inner in pairwise(channels):
            layers.append(nn.Conv2d(outer, inner, 4, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(inner), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(channels[-1], 1, 4, bias=False))
        init_weights(self)


class ContextAdversary(Adversary):
    """The discriminator of the window that a context encoder predicts.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``; the default weight and
            learning rate are those of the authors' code, whose generator learns ten times as fast.
        width: channels of the discriminator's first convolution.
    """

    def __init__(
        self,
        objective: Objective,
        name: str = "context",
        weight: float = 0.001,
        learning_rate: float = 2e-4,
        judges: Judged = "refined",
        width: int = 64,
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        self.width = width

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        generator = self._generator(pl_module)
        centre = generator.region == "center"
        return ContextDiscriminator(self.width, generator.depth - centre, wide=centre)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Tensor, Tensor]:
        rows, columns = self._generator(pl_module).window(*batch.image.shape[-2:])
        image: Tensor = getattr(out, self.judges)
        return batch.image[..., rows, columns], image[..., rows, columns]

    def _generator(self, pl_module: Host) -> ContextEncoderGenerator:
        generator = pl_module.generator
        if not isinstance(generator, ContextEncoderGenerator):
            raise ValueError(
                f"adversary {self.name} judges the window that a context encoder predicts, not "
                f"{type(generator).__name__}: use adversary=[patch]"
            )
        return generator
