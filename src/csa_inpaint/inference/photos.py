"""Filling the hole of a picture file, and showing both stages of the model."""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from csa_inpaint.data.images import to_rgb
from csa_inpaint.data.masks import Mask
from csa_inpaint.inference.files import Photo
from csa_inpaint.inference.network import Network
from csa_inpaint.inference.pictures import Filler, inpaint, trained_side
from csa_inpaint.inference.trained import Model
from csa_inpaint.types import Inpainting

BATCH = 8  # windows at a time


class Stages(NamedTuple):
    """A picture whose hole holds the prediction of a stage, without any blending, 8-bit RGB."""

    rough: Image.Image
    refined: Image.Image


def fill_photo(model: Model, photo: Photo, hole: Mask, **settings: Any) -> Photo:
    """Fill the hole of a picture in all the bits that the file has.

    Args:
        model: trained.
        photo: the picture.
        hole: True in the hole.
        settings: of ``inpaint``.
    """
    if photo.deep is None:
        return Photo(inpaint(model, photo.image, hole, **settings), None)
    deep = photo.deep.copy()
    colours = np.ascontiguousarray(deep[..., :3])
    deep[..., :3] = inpaint(model, colours, hole, **settings)
    return Photo(photo.image, deep)


@torch.no_grad()
def stages(model: Model, image: Image.Image, hole: Mask, size: int | None = None) -> Stages:
    """What the rough and the refinement network put into the hole, at the picture's own size.

    The windows and the detail are those of ``inpaint`` with ``blend="hard"``.

    Args:
        model: trained.
        image: the picture.
        hole: True in the hole, of the picture's size.
        size: side of the images that the model was trained on, in pixels; None as in ``inpaint``.
    """
    pixels = np.asarray(to_rgb(image))
    side = trained_side(model, size)
    recorder = _Recorder(model, BATCH)
    refined = Filler(recorder, side, "crop", "hard").array(pixels, hole)
    replayed = _Recording(model, recorder.rough)
    rough = Filler(replayed, side, "crop", "hard").array(pixels, hole)
    return Stages(Image.fromarray(rough), Image.fromarray(refined))


class _Recorder(Network):
    """Predicts as the model does, and keeps the rough predictions in order.

    The other backends compute with a copy of the model.
    """

    def __init__(self, model: Model, batch_size: int) -> None:
        super().__init__(model, batch_size, "eager")
        self.rough: list[Tensor] = []

    def __call__(self, images: Any, known: Any) -> list[Tensor]:
        def keep(model: object, arguments: object, out: Inpainting) -> None:
            self.rough += list(out.rough.to("cpu", torch.float32))

        hook = self.network.register_forward_hook(keep)
        try:
            return super().__call__(images, known)
        finally:
            hook.remove()


class _Recording(Network):
    """Predicts what was recorded for the same windows."""

    def __init__(self, model: Model, predictions: list[Tensor]) -> None:
        super().__init__(model, BATCH, "eager")
        self.predictions = iter(predictions)

    def __call__(self, images: Any, known: Any) -> list[Tensor]:
        return [
            next(self.predictions)[:, : image.shape[1], : image.shape[2]].clone()
            for image in images
        ]
