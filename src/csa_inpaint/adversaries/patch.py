"""The two adversaries of the paper (Sec. 3.3): on images and on VGG-16 features."""

from collections.abc import Sequence

from torch import Tensor, nn

from csa_inpaint.adversaries.contract import Adversary, Host, Judged
from csa_inpaint.adversaries.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.types import Batch, Inpainting


class PatchAdversary(Adversary):
    """The patch discriminator, which judges images.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``.
        width: channels of the discriminator's first convolution; None takes the generator's.
    """

    def __init__(
        self,
        objective: Objective,
        name: str = "patch",
        weight: float = 0.002,
        learning_rate: float = 2e-4,
        judges: Judged = "refined",
        width: int | None = None,
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        self.width = width

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        return PatchDiscriminator(self.width or pl_module.generator.width)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Tensor, Tensor]:
        return batch.image, getattr(out, self.judges)


class FeatureAdversary(Adversary):
    """The feature-patch discriminator, which judges VGG-16 pool3 features.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``.
        width: channels of the discriminator's convolutions; None takes eight times the width of
            the VGG-16, 512 in the paper.
        strides: of the three convolutions; (2, 1, 1) in the paper's figure.

    Raises:
        ValueError: for a number of strides other than three, and where ``Adversary`` raises one.
    """

    uses_features = True

    def __init__(
        self,
        objective: Objective,
        name: str = "feature",
        weight: float = 0.002,
        learning_rate: float = 2e-4,
        judges: Judged = "refined",
        width: int | None = None,
        strides: Sequence[int] = (2, 1, 1),
    ) -> None:
        super().__init__(name, objective, weight, learning_rate, judges)
        self.width = width
        if len(strides) != 3:
            raise ValueError(
                f"adversary {name}: strides={list(strides)}, expected one for each of the three "
                "convolutions"
            )
        first, second, third = strides
        self.strides = (first, second, third)

    def build_discriminator(self, pl_module: Host) -> nn.Module:
        vgg = pl_module.vgg_width
        return FeaturePatchDiscriminator(4 * vgg, self.width or 8 * vgg, self.strides)

    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Tensor, Tensor]:
        image: Tensor = getattr(out, self.judges)
        return pl_module.step.truth.pool3, pl_module.step.features(image).pool3
