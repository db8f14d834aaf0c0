"""The contract of the adversaries: Lightning callbacks that bring a discriminator and two losses.

A callback builds its discriminator and registers it on the LightningModule in ``setup``. Lightning
calls ``setup`` before it restores weights, before the strategy wraps the model and before the
optimizers are made. So device moves, DDP, precision, checkpoints and resuming are Lightning's
ordinary ones. The module calls the two losses inside its ``training_step``.
"""

import zlib
from abc import ABC, abstractmethod
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from csa_inpaint.adversaries.objectives import Objective
from csa_inpaint.losses.step import Step
from csa_inpaint.methods.generator import InpaintingGenerator
from csa_inpaint.types import Batch, Inpainting

Judged = Literal["refined", "composite", "rough"]
Sample = Tensor | tuple[Tensor, ...]
"""What a discriminator judges: a tensor, or a tuple for a discriminator of several arguments."""


class Host(Protocol):
    """What adversaries use of the LightningModule."""

    generator: InpaintingGenerator
    discriminators: nn.ModuleDict
    vgg_width: int
    step: Step


class Adversary(pl.Callback, ABC):
    """A discriminator, its objective and its weight in the generator's loss.

    A subclass builds the discriminator and says what the discriminator judges. An adversary is one
    of the Trainer's callbacks.

    Args:
        name: unique among the adversaries of a run; names the loss terms, the optimizer's parameter
            group and the entry of ``module.discriminators``.
        objective: what both sides minimise.
        weight: factor of the generator's term; 0.002 in the paper.
        learning_rate: of the discriminator's optimizer.
        judges: which of the generator's images is the fake sample.

    Raises:
        ValueError: for an image that the generator does not make.
    """

    uses_features: bool = False
    """Whether ``pair`` asks ``pl_module.step`` for VGG-16's features."""
    active: bool = True
    """Whether the adversary takes part in the step. At rest both of its losses are zero, without a
    forward pass; ``csa_inpaint.callbacks.Phases`` lets adversaries rest."""

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
        self.verdict: tuple[Tensor, Tensor] | None = None
        """The discriminator's last logits of the real and of the generated samples, detached. A
        subclass with a ``discriminator_loss`` of its own may leave the verdict None."""

    @property
    def state_key(self) -> str:
        return f"{type(self).__qualname__}[{self.name}]"

    @abstractmethod
    def build_discriminator(self, pl_module: Host) -> nn.Module:
        """The discriminator, not yet registered."""

    @abstractmethod
    def pair(self, pl_module: Host, batch: Batch, out: Inpainting) -> tuple[Sample, Sample]:
        """What the discriminator judges: the real samples and the generated ones.

        Shape: two (B, C, H, W), or two tuples of tensors.
        """

    def logits(self, discriminator: nn.Module, real: Sample, fake: Sample) -> tuple[Tensor, Tensor]:
        """The discriminator's logits of the real and of the generated samples."""
        return judged(discriminator, real), judged(discriminator, fake)

    def setup(  # type: ignore[override]  # it needs a Host
        self, trainer: pl.Trainer, pl_module: Host, stage: str
    ) -> None:
        """Register the discriminator, or keep a registered one that has the same layers.

        The initial weights depend on the run's seed and the adversary's name only, not on the order
        of the configuration or on other random draws.
        """
        if stage != "fit":
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.initial_seed() ^ zlib.crc32(self.name.encode()))
            built = self.build_discriminator(pl_module)
        there = pl_module.discriminators
        if self.name not in there or shapes(there[self.name]) != shapes(built):
            there[self.name] = built

    def parameter_group(self, pl_module: Host) -> dict[str, Any]:
        """This adversary's group in the discriminators' optimizer."""
        return {
            "name": self.name,
            "params": list(pl_module.discriminators[self.name].parameters()),
            "lr": self.learning_rate,
        }

    def discriminator_loss(self, pl_module: Host, batch: Batch, out: Inpainting) -> Tensor:
        """The discriminator's loss; ``out`` is detached."""
        discriminator = pl_module.discriminators[self.name]
        if not self.active:
            self.verdict = None
            # The loss depends on the weights, so that a scaler of gradients finds some to look at.
            return 0.0 * torch.stack([p.sum() for p in discriminator.parameters()]).sum()
        real, fake = self.pair(pl_module, batch, out)
        real_logits, fake_logits = self.logits(discriminator, real, fake)
        self.verdict = real_logits.detach(), fake_logits.detach()
        loss = self.objective.discriminator_loss(real_logits, fake_logits)
        mask = self.judged_mask(batch)
        return loss + self.objective.penalty(discriminator, real, fake, mask)

    def judged_mask(self, batch: Batch) -> Tensor:
        """The part of the mask that lies on what the discriminator judges, for the penalty."""
        return batch.mask

    def generator_loss(self, pl_module: Host, batch: Batch, out: Inpainting) -> Tensor:
        """The generator's loss, not yet weighted; the discriminator is frozen."""
        if not self.active:
            return batch.image.new_zeros(())
        discriminator = pl_module.discriminators[self.name]
        real, fake = self.pair(pl_module, batch, out)
        return self.objective.generator_loss(*self.logits(discriminator, real, fake))


def judged(discriminator: nn.Module, sample: Sample) -> Tensor:
    """The logits of a sample; the tensors of a tuple are the discriminator's arguments."""
    logits: Tensor = discriminator(*listed(sample))
    return logits


def listed(sample: Sample) -> tuple[Tensor, ...]:
    """The tensors of a sample, one or several."""
    return sample if isinstance(sample, tuple) else (sample,)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a network's weights."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
