"""Adversaries: Lightning callbacks that bring a discriminator and two loss terms.

A callback builds its discriminator and registers it on the LightningModule in ``setup``, which runs
before weights are restored, before the strategy wraps the model and before the optimizers are
made. So device moves, DDP, precision, checkpoints and resuming are Lightning's ordinary ones. The
module calls the two losses inside its ``training_step``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn

from csa_inpaint.adversaries.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.types import Batch, Inpainting

if TYPE_CHECKING:  # the module imports this file
    from csa_inpaint.training.module import CSAInpainter

Judged = Literal["refined", "composite", "rough"]


class Adversary(pl.Callback, ABC):
    """A discriminator, its objective and its weight in the generator's loss.

    Subclass it, build the discriminator and say what it judges; pass it to the Trainer's callbacks.

    Args:
        name: unique among the adversaries of a run; names the loss terms, the optimizer's parameter
            group and the entry of ``module.discriminators``.
        objective: what both sides minimise.
        weight: of the generator's term; the paper's is 0.002.
        learning_rate: of the discriminator's Adam.
        judges: which image stands for the fake one.

    Raises:
        ValueError: for an image that the generator does not make.
    """

    def __init__(
        self,
        name: str,
        objective: Objective,
        weight: float = 0.002,
        learning_rate: float = 2e-4,
        judges: Judged = "refined",
    ) -> None:
        if judges not in ("refined", "composite", "rough"):
            raise ValueError(
                f"adversary {name}: judges={judges!r}, expected refined, composite or rough"
            )
        self.name = name
        self.objective = objective
        self.weight = weight
        self.learning_rate = learning_rate
        self.judges = judges
        self.logits: tuple[Tensor, Tensor] | None = None
        """What the discriminator said of the last batch's real and generated samples, detached. A
        subclass with a ``discriminator_loss`` of its own may leave it out."""

    @property
    def state_key(self) -> str:
        return f"{type(self).__qualname__}[{self.name}]"

    @abstractmethod
    def build_discriminator(self, pl_module: "CSAInpainter") -> nn.Module:
        """The discriminator, not yet registered."""

    @abstractmethod
    def pair(
        self, pl_module: "CSAInpainter", batch: Batch, out: Inpainting
    ) -> tuple[Tensor, Tensor]:
        """What the discriminator judges: the real samples and the generated ones.

        Shape: two (B, C, H, W).
        """

    def setup(  # type: ignore[override]  # it works with no other module
        self, trainer: pl.Trainer, pl_module: "CSAInpainter", stage: str
    ) -> None:
        if stage == "fit" and self.name not in pl_module.discriminators:
            pl_module.discriminators[self.name] = self.build_discriminator(pl_module)

    def parameter_group(self, pl_module: "CSAInpainter") -> dict[str, Any]:
        """This adversary's group in the discriminators' optimizer."""
        return {
            "name": self.name,
            "params": list(pl_module.discriminators[self.name].parameters()),
            "lr": self.learning_rate,
        }

    def discriminator_loss(
        self, pl_module: "CSAInpainter", batch: Batch, out: Inpainting
    ) -> Tensor:
        """The discriminator's loss; ``out`` comes detached."""
        discriminator = pl_module.discriminators[self.name]
        real, fake = self.pair(pl_module, batch, out)
        real_logits, fake_logits = discriminator(real), discriminator(fake)
        self.logits = real_logits.detach(), fake_logits.detach()
        loss = self.objective.discriminator_loss(real_logits, fake_logits)
        return loss + self.objective.penalty(discriminator, real, fake)

    def generator_loss(self, pl_module: "CSAInpainter", batch: Batch, out: Inpainting) -> Tensor:
        """The generator's loss, not yet weighted; the discriminator comes frozen."""
        discriminator = pl_module.discriminators[self.name]
        real, fake = self.pair(pl_module, batch, out)
        return self.objective.generator_loss(discriminator(real), discriminator(fake))


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

    def build_discriminator(self, pl_module: "CSAInpainter") -> nn.Module:
        return PatchDiscriminator(self.width or pl_module.width)

    def pair(
        self, pl_module: "CSAInpainter", batch: Batch, out: Inpainting
    ) -> tuple[Tensor, Tensor]:
        return batch.image, getattr(out, self.judges)


class FeatureAdversary(Adversary):
    """The feature-patch discriminator, which judges VGG-16 pool3 features.

    Args:
        name, objective, weight, learning_rate, judges: see ``Adversary``.
        width: channels of the discriminator's convolutions; None takes eight times the width of
            the VGG-16, the paper's 512.
        strides: of its three convolutions; (2, 1, 1) is the paper's figure.
    """

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

    def build_discriminator(self, pl_module: "CSAInpainter") -> nn.Module:
        vgg = pl_module.vgg_width
        return FeaturePatchDiscriminator(4 * vgg, self.width or 8 * vgg, self.strides)

    def pair(
        self, pl_module: "CSAInpainter", batch: Batch, out: Inpainting
    ) -> tuple[Tensor, Tensor]:
        real = pl_module.truth_features(batch).pool3
        return real, pl_module.generated_features(out, self.judges)
