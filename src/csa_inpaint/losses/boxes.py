"""Boxes around holes: crops of one size that local losses and local discriminators look at."""

import torch
from torch import Tensor


def hole_boxes(mask: Tensor, size: int) -> list[tuple[int, int]]:
    """Top and left of a square box around the hole of each sample.

    The box lies in the image, with its middle as near as possible to that of the hole's bounding
    box. So it holds every hole that is not larger than the box. Without a hole the box lies in the
    middle of the image.

    Args:
        mask: above 0.5 in the hole.
        size: side of the boxes, in pixels.

    Shape: (B, 1, H, W) → B pairs.

    Raises:
        ValueError: for boxes larger than the image.
    """
    hole = mask[:, 0] > 0.5
    return list(zip(_starts(hole.any(2), size), _starts(hole.any(1), size), strict=True))


def _starts(inside: Tensor, size: int) -> list[int]:
    """Starts along one axis, from (B, N) truth values."""
    count = inside.shape[1]
    if not 1 <= size <= count:
        raise ValueError(f"a box of {size} pixels does not fit an image side of {count}: set size")
    marks = inside | ~inside.any(1, keepdim=True)
    first = marks.int().argmax(1)
    behind = count - marks.flip(1).int().argmax(1)
    starts: list[int] = ((first + behind - size) // 2).clamp(0, count - size).tolist()
    return starts


def crop(image: Tensor, boxes: list[tuple[int, int]], size: int) -> Tensor:
    """Cut a box out of each sample: (B, C, H, W) → (B, C, size, size)."""
    return torch.stack(
        [
            sample[:, top : top + size, left : left + size]
            for sample, (top, left) in zip(image, boxes, strict=True)
        ]
    )
