"""Perceptual, style and total-variation losses (Liu et al., ECCV 2018, arXiv 1804.07723, Sec. 3.3).

The features are those of VGG-16 after its first three poolings.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.losses.processes import mean_over_processes
from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import LossTerm

Pairs = Literal["dilated", "all", "hole"]


def perceptual_loss(made: Mapping[int, Tensor], truth: Mapping[int, Tensor]) -> Tensor:
    """Mean absolute difference of features, summed over the levels (eq. 4, one image of its two).

    Shape: for each level two (B, C, h, w) → scalar.
    """
    return torch.stack(
        [(made[level].float() - truth[level].float()).abs().mean() for level in truth]
    ).sum()


def style_loss(made: Mapping[int, Tensor], truth: Mapping[int, Tensor]) -> Tensor:
    """Mean absolute difference of Gram matrices, summed over the levels (eq. 5 or 6).

    Shape: for each level two (B, C, h, w) → scalar.
    """
    return torch.stack(
        [(gram(made[level]) - gram(truth[level])).abs().mean() for level in truth]
    ).sum()


def gram(features: Tensor) -> Tensor:
    """``F · Fᵀ / (C · h · w)`` in float32: (B, C, h, w) → (B, C, C)."""
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().flatten(2)
        return rows @ rows.mT / rows[0].numel()


def total_variation(image: Tensor, mask: Tensor | None = None, pairs: Pairs = "all") -> Tensor:
    """Mean absolute difference of horizontal neighbours plus that of vertical neighbours (eq. 7).

    Args:
        image: a generated image.
        mask: 1 in the hole; needed for all pairs but ``"all"``.
        pairs: neighbours that count. ``"dilated"``, the paper's choice: both lie in the hole
            dilated by one pixel; the sum is divided by the number of all pairs. ``"all"``: every
            pair. ``"hole"``: the left or the upper one lies in the hole, and the sum is divided by
            the number of such pairs; with several processes, by its mean over their batches.

    Shape: (B, 3, H, W), (B, 1, H, W) → scalar.

    Raises:
        ValueError: for other pairs, and for pairs that need a mask without one.
    """
    if pairs not in ("dilated", "all", "hole"):
        raise ValueError(f"pairs={pairs!r}, expected dilated, all or hole")
    if mask is None and pairs != "all":
        raise ValueError(f"pairs={pairs!r} needs a mask")
    total = image.new_zeros((), dtype=torch.float32)
    for axis in (2, 3):
        first, second = slice_pairs(image.float(), axis)
        difference = (first - second).abs()
        if mask is None or pairs == "all":
            total = total + difference.mean()
        elif pairs == "hole":
            weight = slice_pairs(mask.float(), axis)[0]
            count = mean_over_processes(weight.sum()) * image.shape[1]
            total = total + (difference * weight).sum() / count.clamp(min=1e-6)
        else:
            one, other = slice_pairs(F.max_pool2d(mask.float(), 3, stride=1, padding=1), axis)
            total = total + (difference * one * other).mean()
    return total


def slice_pairs(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All pixels but the last along an axis, and their successors."""
    count = image.shape[axis] - 1
    return image.narrow(axis, 0, count), image.narrow(axis, 1, count)


class Perceptual(LossTerm):
    """Features of the refined image and of the composite against those of the truth."""

    def vgg_levels(self, generator: nn.Module) -> tuple[int, ...]:
        return ()  # the poolings only

    def loss(self, step: Step) -> Tensor:
        truth = step.truth.pool
        refined, composite = (
            perceptual_loss(step.features(image).pool, truth)
            for image in (step.out.refined, step.out.composite)
        )
        return refined + composite


class Style(LossTerm):
    """Gram matrices of the refined image and of the composite against those of the truth."""

    def vgg_levels(self, generator: nn.Module) -> tuple[int, ...]:
        return ()  # the poolings only

    def loss(self, step: Step) -> Tensor:
        truth = step.truth.pool
        refined, composite = (
            style_loss(step.features(image).pool, truth)
            for image in (step.out.refined, step.out.composite)
        )
        return refined + composite


class TotalVariation(LossTerm):
    """Total variation of the composite, see ``total_variation``.

    Args:
        name, weight: see ``LossTerm``.
        pairs: neighbours that count: ``"dilated"``, ``"all"`` or ``"hole"``.

    Raises:
        ValueError: for other pairs.
    """

    def __init__(self, name: str, weight: float = 1.0, pairs: Pairs = "dilated") -> None:
        super().__init__(name, weight)
        if pairs not in ("dilated", "all", "hole"):
            raise ValueError(f"{name}.pairs={pairs!r}, expected dilated, all or hole")
        self.pairs: Pairs = pairs

    def loss(self, step: Step) -> Tensor:
        return total_variation(step.out.composite, step.batch.mask, self.pairs)
