"""The terms of the generator's loss that need no discriminator.

A model has an ordered list of terms. The terms are arguments of the module, and not callbacks as
the adversaries are: a term has no parameters and no state, and an inpainting model without terms
does not learn at all, whereas a run may go without discriminators.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from csa_inpaint.losses.consistency import consistency_loss
from csa_inpaint.losses.reconstruction import Region, reconstruction_loss
from csa_inpaint.losses.step import Step
from csa_inpaint.networks.vgg import DEEPEST_LEVEL

Judged = Literal["rough", "refined", "composite"]


class Term(NamedTuple):
    """One term of a loss in one step: its log key, its value and its weight in the sum."""

    name: str
    loss: Tensor
    weight: float


class LossTerm(ABC):
    """A term of the generator's loss.

    Args:
        name: the term's log key is ``generator/<name>``.
        weight: factor in the sum of all terms; 0 leaves the term out.
    """

    def __init__(self, name: str, weight: float = 1.0) -> None:
        self.name = name
        self.weight = weight

    @abstractmethod
    def loss(self, step: Step) -> Tensor:
        """The unweighted value with its graph. Shape: a scalar."""

    def vgg_levels(self, generator: nn.Module) -> tuple[int, ...] | None:
        """Halvings of the image at which the term needs VGG-16's last ReLU; None for no VGG-16."""
        return None

    def check(self, generator: nn.Module) -> None:  # noqa: B027  # most terms fit any generator
        """Raise a ``ValueError`` where this generator leaves the term nothing to compare."""

    def __call__(self, step: Step) -> Term:
        return Term(f"generator/{self.name}", self.loss(step), self.weight)


def check_image(name: str, image: str) -> None:
    """Raise a ``ValueError`` unless this is one of the generator's images."""
    if image not in ("rough", "refined", "composite"):
        raise ValueError(f"{name}.image={image!r}, expected rough, refined or composite")


class Reconstruction(LossTerm):
    """Distance of one of the generator's images to the truth; see ``reconstruction_loss``.

    Args:
        name, weight: see ``LossTerm``.
        image: which image is compared.
        region: which pixels are compared: ``"all"``, ``"hole"`` or ``"known"``.
        power: 1 for absolute, 2 for squared differences.
        over: the divisor: the number of ``"all"`` pixels, or of those in the ``"region"``.
    """

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        image: Judged = "refined",
        region: Region = "all",
        power: int = 1,
        over: Literal["all", "region"] = "all",
    ) -> None:
        super().__init__(name, weight)
        check_image(name, image)
        self.image = image
        self.region: Region = region
        self.power = power
        self.over: Literal["all", "region"] = over

    def check(self, generator: nn.Module) -> None:
        if self.image == "refined" and not getattr(generator, "refines", True):
            raise ValueError(
                f"loss term {self.name}={self.weight}, but without refinement the rough image is "
                f"all there is: set losses.{self.name}.weight=0 or image=rough "
                "(loss_weights.l1_refined=0 and loss_weights.consistency=0 for the CSA model)"
            )

    def loss(self, step: Step) -> Tensor:
        prediction: Tensor = getattr(step.out, self.image)
        batch = step.batch
        return reconstruction_loss(
            prediction, batch.image, batch.mask, self.region, self.power, self.over
        )


class Consistency(LossTerm):
    """The paper's consistency loss, the mean over the generator's feature levels (Sec. 3.3)."""

    def vgg_levels(self, generator: nn.Module) -> tuple[int, ...]:
        levels: tuple[int, ...] = tuple(getattr(generator, "feature_levels", ()))
        return levels

    def check(self, generator: nn.Module) -> None:
        levels = self.vgg_levels(generator)
        if not levels:
            raise ValueError(
                f"loss term {self.name}={self.weight}, but there are no features to compare: "
                f"set loss_weights.{self.name}=0, or name their level (feature_levels=[3])"
            )
        if max(levels) > DEEPEST_LEVEL:
            raise ValueError(
                f"VGG-16 has no features at level {max(levels)}, 1/{2 ** max(levels)} of the "
                f"image's size, for the loss term {self.name}: name feature_levels from 1 to "
                f"{DEEPEST_LEVEL}, or set loss_weights.{self.name}=0"
            )

    def loss(self, step: Step) -> Tensor:
        losses = [
            consistency_loss(
                features.encoder, features.decoder, step.truth.relu[level], features.mask
            )
            for level, features in step.out.features.items()
        ]
        return torch.stack(losses).mean()


def loss_terms(losses: Mapping[str, Mapping[str, Any]], generator: nn.Module) -> list[LossTerm]:
    """The terms of a configuration, in the same order, each named by its key.

    Args:
        losses: for each term a mapping with ``_target_``, ``weight`` and the class's arguments.
        generator: the terms are computed from its output.

    Raises:
        ValueError: for a term that this generator leaves nothing to compare.
    """
    terms: list[LossTerm] = [
        instantiate({**arguments, "name": name}, _convert_="all")
        for name, arguments in losses.items()
        if arguments.get("weight", 1.0)
    ]
    for term in terms:
        term.check(generator)
    return terms
