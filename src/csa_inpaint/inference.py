"""Filling holes in pictures, arrays and tensors."""

from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from csa_inpaint.data.images import to_rgb
from csa_inpaint.data.masks import mask_from_array
from csa_inpaint.training.module import CSAInpainter

Picture = TypeVar("Picture", Image.Image, "np.ndarray[Any, Any]", Tensor)


def size_multiple(model: CSAInpainter) -> int:
    """What the heights and widths that the model takes are multiples of, in pixels."""
    return 2 ** int(model.hparams["depth"])


@torch.no_grad()
def inpaint(model: CSAInpainter, image: Picture, mask: Any) -> Picture:
    """Fill the hole of a picture; its known pixels come back unchanged.

    A size that the model's depth does not divide is padded at the right and bottom with the mirror
    image of picture and hole, and the padding cut off again. The model runs where it is, in its own
    type, and its mode is left as it was. What the picture holds inside the hole is never looked at:
    a tensor may be NaN there.

    Args:
        model: trained; the averaged generator is used when there is one.
        image: a PIL picture of any mode, a uint8 array (H, W, 3), or a float tensor
            (3, H, W) or (B, 3, H, W), its known pixels in [-1, 1].
        mask: a PIL picture, an array or a tensor of the image's size; white, 1 or True is the hole.
            Grey values count as hole from half on, with a warning. A batch of images takes a batch
            of masks, (B, 1, H, W).

    Returns:
        The same kind: an RGB picture, a uint8 array or a float tensor on the image's device.

    Raises:
        TypeError: for another kind of image.
        ValueError: for a mask of another size, without a hole or without a known pixel, and for an
            array or tensor of another shape or type.
    """
    if isinstance(image, Image.Image):
        pixels = np.asarray(to_rgb(image))
        return Image.fromarray(_fill_array(model, pixels, mask))
    if isinstance(image, np.ndarray):
        return _fill_array(model, image, mask)
    if isinstance(image, Tensor):
        return _fill_tensor(model, image, mask)
    raise TypeError(
        f"an image of type {type(image).__name__}: expected a PIL picture, a uint8 array (H, W, 3) "
        "or a float tensor (3, H, W)"
    )


def _fill_array(
    model: CSAInpainter, pixels: "np.ndarray[Any, Any]", mask: Any
) -> "np.ndarray[Any, Any]":
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"an array {pixels.shape} of {pixels.dtype}: expected uint8 of shape (H, W, 3)"
        )
    hole = mask_from_array(mask, size=pixels.shape[:2])
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    filled = _fill(model, image, torch.from_numpy(hole)[None, None].float())[0]
    generated = ((filled.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.where(hole[..., None], generated, pixels)


def _fill_tensor(model: CSAInpainter, image: Tensor, mask: Any) -> Tensor:
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or not image.is_floating_point():
        raise ValueError(
            f"a tensor {tuple(image.shape)} of {image.dtype}: expected floats in [-1, 1] of shape "
            "(3, H, W) or (B, 3, H, W)"
        )
    images = image.reshape(-1, *image.shape[-3:])
    masks = [mask] if image.dim() == 3 else list(mask)
    if len(masks) != len(images):
        raise ValueError(f"{len(images)} images but {len(masks)} masks: give one mask an image")
    size = (image.shape[-2], image.shape[-1])
    holes = np.stack([mask_from_array(_numpy(one), size=size) for one in masks])
    hole = torch.from_numpy(holes)[:, None].to(image.device)
    known = images.masked_fill(hole, 0)
    if not known.isfinite().all() or known.abs().max() > 1 + 1e-3:
        raise ValueError(
            f"known pixels with values from {known.min():g} to {known.max():g}: expected [-1, 1]; "
            "image * 2 - 1 makes them of [0, 1]"
        )
    filled = _fill(model, known, hole.float()).to(image)
    return torch.where(hole, filled.clamp(-1, 1), images).reshape(image.shape)


def _numpy(mask: Any) -> Any:
    """NumPy has no bfloat16."""
    return mask.float() if isinstance(mask, Tensor) and mask.dtype == torch.bfloat16 else mask


def _fill(model: CSAInpainter, image: Tensor, mask: Tensor) -> Tensor:
    """The composite of (B, 3, H, W) images, computed on the model's device and padded to fit."""
    multiple = size_multiple(model)
    height, width = image.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    # Mirroring repeats no more than the picture has; a tiny picture is padded with its last pixels.
    mode = "reflect" if padding[1] < width and padding[3] < height else "replicate"
    # The mask is padded as the image is: what is mirrored from the hole is hole.
    image, mask = F.pad(image, padding, mode=mode), F.pad(mask, padding, mode=mode)
    reference = next(model.generator.parameters())
    out = model(image.to(reference), mask.to(reference))
    composite: Tensor = out.composite[..., :height, :width]
    return composite.to(image.device, torch.float32)
