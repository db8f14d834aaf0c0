"""Filling holes in pictures, arrays and tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from csa_inpaint.data.images import to_rgb
from csa_inpaint.data.masks import Mask, mask_from_array
from csa_inpaint.inference.backends import BackendName
from csa_inpaint.inference.blend import BlendName, find_blend
from csa_inpaint.inference.fill import Manner, fill
from csa_inpaint.inference.holes import Strategy, check_strategy
from csa_inpaint.inference.network import Network
from csa_inpaint.inference.trained import Model, latest_trained

Picture = TypeVar("Picture", Image.Image, "npt.NDArray[Any]", Tensor)

DEFAULT_SIZE = 256  # the paper's, for a model that does not know its own
DEEP = 65535  # the white of 16 bits


@torch.no_grad()
def inpaint(
    model: Model | str | Path,
    image: Picture,
    mask: Any,
    *,
    size: int | None = None,
    size_strategy: Strategy = "crop",
    blend: BlendName = "poisson",
    detail: float = 1.0,
    batch_size: int = 8,
    backend: BackendName = "auto",
    trust: Sequence[str] = (),
) -> Picture:
    """Fill the holes of a picture of any size; its known pixels come back unchanged.

    Each connected group of holes is cut out with what is around it and reduced until the network
    sees a hole as large as those that it was trained on. The prediction is enlarged, gets the
    detail that it lacks from the known parts that it resembles, and is joined to the known pixels.
    See docs/predict.md.

    The model runs where it is, and its mode is left as it was. What the picture
    holds inside the holes is never looked at: a tensor may be NaN there.

    Args:
        model: trained; the averaged generator is used when there is one. Or its path, as
            ``load_model`` takes it: ``"pretrained"`` for the weights that come with the library.
            A path is loaded on the CPU, and the model stays loaded until another path is given or
            the file changes.
        image: a PIL picture of any mode, an array (H, W, 3) of uint8 or uint16, or a float tensor
            (3, H, W) or (B, 3, H, W), its known pixels in [-1, 1].
        mask: a PIL picture, an array or a tensor of the image's size; white, 1 or True is the hole.
            Grey values count as hole from half on, with a warning. A batch of images takes a batch
            of masks, (B, 1, H, W).
        size: side of the images that the model was trained on, in pixels; None for what the model
            says of itself, else 256.
        size_strategy: ``"crop"`` fills each group of holes at its own scale, ``"resize"`` reduces
            the whole picture to ``size``, ``"full"`` shows the whole picture to the network as it
            is, and falls back to ``"crop"`` with a warning where the memory does not do.
        blend: how the filling is joined to the known pixels: ``"hard"`` not at all, ``"feather"``
            fades the error at the border out inside the hole, ``"poisson"`` continues the error
            into the hole and keeps the filling's gradients. All change holes only.
        detail: share of the detail of the known parts that the filling gets, from 0 to 1. A smooth
            filling (0) is nearer to the truth on average, a detailed one looks more like it.
        batch_size: windows that the network computes at a time.
        backend: ``"eager"`` computes the model as it is. ``"bfloat16"`` computes a copy with
            bfloat16 weights on the CPU. ``"auto"`` takes the latter for a float32 model on a CPU
            that multiplies bfloat16; see docs/speed.md.
        trust: packages of your own whose classes a model's file may name; see docs/trust.md.

    Returns:
        The same kind: a float tensor on the image's device, an array of the image's type, or an
        upright picture. A grey picture stays grey, and alpha, 16-bit grey, ICC profile and EXIF
        data are kept; any other mode becomes RGB.

    Raises:
        FileNotFoundError: there is no such model.
        TypeError: for another kind of image.
        ValueError: for a mask of another size, without a hole or without a known pixel, for an
            array or tensor of another shape or type, and for a setting out of range.
    """
    if isinstance(model, str | Path):
        model = latest_trained(model, trust)
    filler = make_filler(
        model,
        size=size,
        size_strategy=size_strategy,
        blend=blend,
        detail=detail,
        batch_size=batch_size,
        backend=backend,
    )
    if isinstance(image, Image.Image):
        return filler.picture(image, mask)
    if isinstance(image, np.ndarray):
        return filler.array(image, mask)
    if isinstance(image, Tensor):
        return filler.tensor(image, mask)
    raise TypeError(
        f"an image of type {type(image).__name__}: expected a PIL picture, an array (H, W, 3) of "
        "uint8 or uint16, or a float tensor (3, H, W)"
    )


def make_filler(
    model: Model,
    *,
    size: int | None = None,
    size_strategy: Strategy = "crop",
    blend: BlendName = "poisson",
    detail: float = 1.0,
    batch_size: int = 8,
    backend: BackendName = "auto",
) -> "Filler":
    """What fills pictures with one model and one choice of settings; see ``inpaint``.

    Raises:
        ValueError: a setting is out of range.
    """
    if size is not None and size < 1:
        raise ValueError(f"size={size}: expected the side of the training images, in pixels")
    return Filler(
        Network(model, batch_size, backend),
        trained_side(model, size),
        check_strategy(size_strategy),
        blend,
        detail,
    )


def trained_side(model: Model, size: int | None) -> int:
    """Side of the images that the model was trained on: as given, as the model says, or 256."""
    return (model.trained_size or DEFAULT_SIZE) if size is None else size


class Filler:
    """Fills each kind of image with the same settings.

    Args:
        network: predicts windows of pictures.
        size: side of the images that the model was trained on, in pixels.
        strategy, blend, detail: see ``inpaint``.

    Raises:
        ValueError: for another blend, and for a share of the detail that is none.
    """

    def __init__(
        self,
        network: Network,
        size: int,
        strategy: Strategy,
        blend: BlendName,
        detail: float = 1.0,
    ) -> None:
        if not isinstance(detail, int | float) or not 0 <= detail <= 1:
            raise ValueError(f"detail={detail!r}: expected a share from 0 (none) to 1 (all)")
        self.network = network
        self.manner = Manner(size, strategy, find_blend(blend), detail)

    def picture(self, image: Image.Image, mask: Any) -> Image.Image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return self._deep_grey(upright, mask)
        hole = mask_from_array(mask, size=(upright.height, upright.width))
        filled = Image.fromarray(self._pixels(np.asarray(to_rgb(upright)), hole))
        result = _plain(upright)
        bands = result.getbands()
        alpha = result.getchannel("A") if bands[-1] == "A" else None
        # A paste changes the holes alone. The alpha is the input's everywhere.
        result.paste(filled.convert(result.mode), mask=Image.fromarray(hole))
        if alpha is not None:
            result.putalpha(alpha)
        return result

    def _deep_grey(self, image: Image.Image, mask: Any) -> Image.Image:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > DEEP:
            raise ValueError(
                f"a picture of mode {image.mode} with values from {values.min()} to "
                f"{values.max()}: expected 16 bits, 0 to {DEEP}"
            )
        grey = values.astype(np.uint16)
        hole = mask_from_array(mask, size=grey.shape)
        filled = self._pixels(np.repeat(grey[..., None], 3, axis=2), hole).mean(axis=2)
        result = Image.fromarray(np.where(hole, np.rint(filled), grey).astype(np.uint16))
        result.info = image.info.copy()
        return result

    def array(self, pixels: npt.NDArray[Any], mask: Any) -> npt.NDArray[Any]:
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"an array {pixels.shape} of {pixels.dtype}: expected uint8 or uint16 of shape "
                "(H, W, 3)"
            )
        return self._pixels(pixels, mask_from_array(mask, size=pixels.shape[:2]))

    def _pixels(self, pixels: npt.NDArray[Any], hole: Mask) -> npt.NDArray[Any]:
        half = np.iinfo(pixels.dtype).max / 2
        image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).div_(half).sub_(1)
        self._fill(image, hole)
        generated = (image.permute(1, 2, 0)[torch.from_numpy(hole)].clamp(-1, 1) + 1) * half
        result = pixels.copy()
        result[hole] = generated.round().numpy()
        return result

    def tensor(self, image: Tensor, mask: Any) -> Tensor:
        if image.dim() not in (3, 4) or image.shape[-3] != 3 or not image.is_floating_point():
            raise ValueError(
                f"a tensor {tuple(image.shape)} of {image.dtype}: expected floats in [-1, 1] of "
                "shape (3, H, W) or (B, 3, H, W)"
            )
        images = image.reshape(-1, *image.shape[-3:])
        masks = [mask] if image.dim() == 3 else list(mask)
        if len(masks) != len(images):
            raise ValueError(f"{len(images)} images but {len(masks)} masks: give one mask an image")
        size = (image.shape[-2], image.shape[-1])
        filled = images.clone()
        for one, its_mask, result in zip(images, masks, filled, strict=True):
            hole = mask_from_array(its_mask, size=size)
            unknown = torch.from_numpy(hole).to(image.device)
            known = one.masked_fill(unknown, 0)
            if not known.isfinite().all() or known.abs().max() > 1 + 1e-3:
                raise ValueError(
                    f"known pixels with values from {known.min():g} to {known.max():g}: expected "
                    "[-1, 1]; image * 2 - 1 makes them of [0, 1]"
                )
            canvas = known.to("cpu", torch.float32, copy=True)
            self._fill(canvas, hole)
            result.copy_(torch.where(unknown, canvas.clamp(-1, 1).to(image), one))
        return filled.reshape(image.shape)

    def _fill(self, image: Tensor, hole: Mask) -> None:
        fill(self.network, image, hole, self.manner)


def _plain(image: Image.Image) -> Image.Image:
    """A copy in grey or RGB, with alpha where the picture has transparency."""
    grey = image.mode in ("1", "L", "LA")
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    if image.mode == mode:
        return image.copy()
    plain = image.convert(mode)
    if image.mode not in ("1", "P", "RGB"):
        plain.info.pop("icc_profile", None)  # it describes other channels
    plain.info.pop("transparency", None)  # it is in the alpha
    return plain
