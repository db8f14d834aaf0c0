"""Masks as pictures: resized, widened, drawn upon."""

import numpy as np
from PIL import Image

from csa_inpaint.data.masks.generator import Mask


def as_picture(mask: Mask) -> Image.Image:
    """A mask as a picture of 0 and 1."""
    return Image.fromarray(mask.view(np.uint8))


def resized(
    mask: Mask,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
) -> Mask:
    """A mask at another size, by nearest neighbour, so that it stays binary.

    Args:
        mask: any.
        height: rows of the result.
        width: columns of the result.
        box: (left, top, right, bottom), the part of `mask` that is resized; None means all of it.

    Shape:
        (height, width), True in the hole
    """
    picture = as_picture(np.ascontiguousarray(mask))
    return nonzero(picture.resize((width, height), Image.Resampling.NEAREST, box))


def dilated(mask: Mask, pixels: int) -> Mask:
    """The hole widened by a square of 2·pixels + 1."""
    if pixels == 0:
        return mask
    # Pillow's MaxFilter gives the same and takes 20 to 200 times as long.
    for _ in range(2):  # one axis after the other: the square is separable
        wide = mask.copy()
        for shift in range(1, pixels + 1):
            wide[shift:] |= mask[:-shift]
            wide[:-shift] |= mask[shift:]
        mask = np.ascontiguousarray(wide.T)
    return mask


def nonzero(image: Image.Image) -> Mask:
    """Where a drawn picture is not black."""
    mask: Mask = np.asarray(image) != 0
    return mask


def turned(mask: Mask, height: int, width: int, turns: int) -> Mask:
    """A mask turned by multiples of 90 degrees, resized before so that the result has a given size.

    Shape:
        (height, width), True in the hole
    """
    before = (height, width) if turns % 2 == 0 else (width, height)
    return np.rot90(mask if mask.shape == before else resized(mask, *before), turns)


def mirrored(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask mirrored at random, left and right and top and bottom."""
    if rng.random() < 0.5:
        mask = mask[::-1]
    return mask[:, ::-1] if rng.random() < 0.5 else mask
