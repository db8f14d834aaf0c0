"""Which part of a picture the model sees, at which size, and the step from bytes to floats.

A transform here is pure geometry: from the picture's size it derives a `View` before any pixel is
decoded, so that a reader may decode only what the view needs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import nn

from csa_inpaint.types import Batch


class View(NamedTuple):
    """A part of a picture: `box` = (left, top, right, bottom) in its pixels, mirrored if `flip`."""

    box: tuple[float, float, float, float]
    flip: bool

    def scale(self, size: tuple[int, int]) -> float:
        """Factor by which the view is resized to be shown at `size` = (height, width)."""
        left, top, right, bottom = self.box
        return max(size[0] / (bottom - top), size[1] / (right - left))

    def on(self, picture: tuple[int, int], image: Image.Image) -> "View":
        """The same view on `image`, a picture of `picture` = (height, width) at another size."""
        y, x = image.height / picture[0], image.width / picture[1]
        if (x, y) == (1, 1):
            return self
        left, top, right, bottom = self.box
        # min: rounding may put an edge a hair outside the picture, which Pillow refuses.
        right, bottom = min(right * x, image.width), min(bottom * y, image.height)
        return View((left * x, top * y, right, bottom), self.flip)


class Transform(Protocol):
    """From a picture's size to the part of it that is shown."""

    def __call__(
        self, picture: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
    ) -> View:
        """Choose a view.

        Args:
            picture: (height, width) of the upright picture, in pixels.
            size: (height, width) of what the model sees, in pixels.
            rng: the sample's own source of randomness.
        """


class RandomCrop:
    """A random part of the picture, mirrored at random: the augmentation for training.

    A picture smaller than the crop is enlarged until the crop fits.

    Args:
        resize: None crops at the picture's own resolution. A pair (low, high) first scales the
            picture by a random factor, given as a multiple of the smallest scale at which the crop
            still fits: (1, 1) keeps the whole short side, (1, 2) sees between all and half of it.
            The factor is kept low enough not to enlarge the picture.
        flip: probability of mirroring left and right.
        central: first cut the square of this side, in pixels, out of the middle of the picture.
    """

    def __init__(
        self,
        resize: tuple[float, float] | None = None,
        flip: float = 0.5,
        central: int | None = None,
    ) -> None:
        if resize is not None and not 1 <= resize[0] <= resize[1]:
            raise ValueError(f"resize={resize}: expected (low, high) with 1 <= low <= high")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip={flip}: expected a probability between 0 and 1")
        self.resize = resize
        self.flip = flip
        self.central = central

    def __call__(
        self, picture: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
    ) -> View:
        picture, corner = _central(picture, self.central)
        fit = _smallest_scale(picture, size)
        if fit >= 1:
            scale = fit
        elif self.resize is None:
            scale = 1.0
        else:
            low, high = (min(factor, 1 / fit) for factor in self.resize)
            scale = fit * rng.uniform(low, high)
        height, width = size[0] / scale, size[1] / scale
        if scale == 1:  # whole pixels: a crop without interpolation
            top = float(rng.integers(picture[0] - size[0] + 1))
            left = float(rng.integers(picture[1] - size[1] + 1))
        else:
            top = rng.uniform(0, max(0.0, picture[0] - height))
            left = rng.uniform(0, max(0.0, picture[1] - width))
        box = _box(picture, corner, left, top, width, height)
        return View(box, bool(rng.random() < self.flip))


class CenterCrop:
    """The middle of the picture, the same every time: the preprocessing for evaluation.

    A picture smaller than the crop is enlarged until the crop fits.

    Args:
        resize: first scale the picture so that the crop just fits (its short side, for a square
            crop); otherwise crop at the picture's own resolution.
        central: before that, cut the square of this side, in pixels, out of the middle.
    """

    def __init__(self, resize: bool = True, central: int | None = None) -> None:
        self.resize = resize
        self.central = central

    def __call__(
        self, picture: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
    ) -> View:
        picture, corner = _central(picture, self.central)
        fit = _smallest_scale(picture, size)
        scale = fit if self.resize or fit > 1 else 1.0
        height, width = size[0] / scale, size[1] / scale
        top, left = (picture[0] - height) / 2, (picture[1] - width) / 2
        if scale == 1:
            top, left = float(int(top)), float(int(left))
        return View(_box(picture, corner, left, top, width, height), flip=False)


class Augment:
    """Changes of colour and shape, after a picture was cut out: torchvision's own.

    Args:
        color_jitter: arguments of `torchvision.transforms.v2.ColorJitter`: brightness, contrast,
            saturation, hue; None leaves colours as they are.
        affine: arguments of `torchvision.transforms.v2.RandomAffine`: degrees, translate, scale,
            shear; None leaves shapes as they are. What comes into view from outside the picture is
            the picture mirrored at its borders.

    Raises:
        ValueError: `affine` would show what lies beyond the mirrored picture.
    """

    def __init__(
        self,
        color_jitter: Mapping[str, Any] | None = None,
        affine: Mapping[str, Any] | None = None,
    ) -> None:
        self.color_jitter: nn.Module | None = None
        if color_jitter is not None:
            # Imported where it is used: it takes 160 MB in each process that loads data.
            from torchvision.transforms.v2 import ColorJitter

            self.color_jitter = ColorJitter(**color_jitter)
        self.affine = None if affine is None else _affine(**affine)

    def __call__(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        """Change a picture.

        Args:
            image: uint8, 0 to 255.
            seed: decides the change; the process's own random numbers are left as they are.

        Shape:
            (3, H, W), as before
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.color_jitter is not None:
                image = self.color_jitter(image)
            if self.affine is not None:
                from torchvision.transforms.v2 import functional

                height, width = image.shape[-2:]
                # Half of a side all around: `_affine` checks that this is enough.
                padding = [width // 2, height // 2]
                image = self.affine(functional.pad(image, padding, padding_mode="reflect"))
                image = functional.center_crop(image, [height, width])
        return image


def _affine(
    degrees: float = 0.0,
    translate: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    shear: float = 0.0,
) -> nn.Module:
    """Torchvision's transform, for a picture that is padded by half its side all around."""
    from torchvision.transforms.v2 import InterpolationMode, RandomAffine

    turn, lean = math.radians(min(abs(degrees), 45)), math.tan(math.radians(abs(shear)))
    moved = max(translate or (0.0,))
    # How far from the middle a square's corner comes from, in sides of the square.
    reach = ((math.cos(turn) + math.sin(turn)) / 2 + lean / 2) / min(scale or (1.0,)) + moved
    if reach > 1:
        raise ValueError(
            f"data.augment.affine with degrees={degrees}, translate={translate}, scale={scale}, "
            f"shear={shear} shows what lies {reach - 0.5:.2f} of a side outside the picture, more "
            "than the half that is filled by mirroring: choose smaller changes"
        )
    half = None if translate is None else [part / 2 for part in translate]  # of the padded picture
    transform: nn.Module = RandomAffine(
        degrees, half, scale, shear or None, interpolation=InterpolationMode.BILINEAR
    )
    return transform


def show(image: Image.Image, view: View, size: tuple[int, int]) -> Image.Image:
    """The view at `size` = (height, width) in pixels, resized bicubic and antialiased."""
    left, top, right, bottom = view.box
    height, width = size
    if (right - left, bottom - top) == (width, height) and left % 1 == 0 and top % 1 == 0:
        image = image.crop((int(left), int(top), int(right), int(bottom)))
    else:
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=view.box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else image


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An RGB picture as a uint8 tensor (3, H, W), 0 to 255."""
    # Twice as fast as to permute the axes of the whole: Pillow takes the channels apart.
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in image.split()]))


def to_float(batch: Batch, dtype: torch.dtype = torch.float32) -> Batch:
    """The batch as the model takes it: images in [-1, 1], masks 0 or 1; its device is kept.

    Args:
        batch: as the loaders yield it: uint8 images, 0 to 255, and boolean masks.
        dtype: the floating-point type of the result.

    Shape:
        unchanged: image (B, 3, H, W), mask (B, 1, H, W)
    """
    image = batch.image.to(dtype).div_(127.5).sub_(1)
    return Batch(image, batch.mask.to(dtype), batch.path)


def _smallest_scale(picture: tuple[int, int], size: tuple[int, int]) -> float:
    return max(size[0] / picture[0], size[1] / picture[1])


def _central(picture: tuple[int, int], side: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the central square of a picture, and its (top, left) corner."""
    if side is None:
        return picture, (0, 0)
    height, width = min(side, picture[0]), min(side, picture[1])
    return (height, width), ((picture[0] - height) // 2, (picture[1] - width) // 2)


def _box(
    picture: tuple[int, int],
    corner: tuple[int, int],
    left: float,
    top: float,
    width: float,
    height: float,
) -> tuple[float, float, float, float]:
    # Rounding may put an edge a hair outside the picture, which Pillow refuses.
    left, top = max(left, 0.0), max(top, 0.0)
    right, bottom = min(left + width, float(picture[1])), min(top + height, float(picture[0]))
    return left + corner[1], top + corner[0], right + corner[1], bottom + corner[0]
