"""What a method brings: a generator that fills the holes of a batch of images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csa_inpaint.types import Inpainting


class InpaintingGenerator(nn.Module, ABC):
    """A network ``(image, mask) → Inpainting``; every method's generator is one.

    The constructor of a subclass takes plain values (numbers, strings, lists, mappings) or modules
    that Hydra builds from plain values, so that a checkpoint can say how to build the generator.
    """

    multiple: int = 1
    """Heights and widths must be multiples of this number."""
    smallest: int = 1
    """Heights and widths must be at least this number."""
    width: int = 64
    """Channels of the first level; a patch discriminator without a width of its own has as many."""
    feature_levels: tuple[int, ...] = ()
    """Halvings of the image at which ``Inpainting.features`` holds features."""
    refines: bool = True
    """Whether the refined image differs from the rough one."""

    @abstractmethod
    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        """Fill the holes.

        A network with one stage returns its image both as rough and as refined.

        Shape:
            - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
            - mask: (B, 1, H, W), 1 in the hole.
        """


def fill_colour(rgb: Sequence[float]) -> Tensor:
    """An RGB colour of 0 … 255 as (3, 1, 1) in [-1, 1].

    Raises:
        ValueError: for values out of range, and for another number of values than three.
    """
    if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb):
        raise ValueError(f"fill={list(rgb)}, expected red, green and blue of 0 … 255")
    return torch.tensor(tuple(rgb))[:, None, None] * 2 / 255 - 1


def check_pair(image: Tensor, mask: Tensor) -> None:
    """Raise a ``ValueError`` unless this is a (B, 3, H, W) image with its (B, 1, H, W) mask."""
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (B, 3, H, W)")
    expected = (image.shape[0], 1, *image.shape[-2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, the image needs {expected}")
