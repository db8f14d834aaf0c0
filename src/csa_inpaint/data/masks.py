"""What a mask is, masks from files, and how kinds of masks are combined.

A mask is a boolean array (H, W); True is the hole. A generator is called with the height, the width
and the sample's own source of randomness, and returns a mask whose hole is neither empty nor
everything.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from csa_inpaint.data.images import naming, open_image
from csa_inpaint.data.listing import FileList, list_images

Mask = npt.NDArray[np.bool_]
Polarity = Literal["white", "black"]

# A freehand mask may come out empty or full; this many draws in a row mean that it always will.
_MAX_DRAWS = 200


class SoftMaskWarning(UserWarning):
    """A mask has values between hole and known, which were thresholded at half."""


class InvertedMaskWarning(UserWarning):
    """The holes of a set of masks are so large that its polarity is probably the other one."""


class MaskGenerator(Protocol):
    """Whatever makes masks."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Make a mask.

        Args:
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
            rng: source of randomness; the same state gives the same mask.

        Shape:
            (height, width), True in the hole
        """


class FolderMask:
    """Masks from files, one at random for each picture.

    A mask whose size is not the picture's is resized with nearest neighbour, so that it stays
    binary. A file without a hole or without a known pixel is an error; where resizing or dilating
    makes one such, another draw follows.

    Args:
        root: folder of the mask files; folders below it count too.
        polarity: colour of the hole in the files, "white" or "black".
        resize: False refuses a mask of another size than the picture instead of resizing it.
        flip: mirror at random, left and right and top and bottom.
        rotate: turn at random by multiples of 90 degrees.
        dilate: (least, most) pixels by which the hole is widened on each side, drawn for each mask.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        ValueError: a setting is out of range; when called: a file has no hole, no known pixel, or
            another size with `resize=False`.

    Warns:
        InvertedMaskWarning: the holes cover more than 60 % on average.
        SoftMaskWarning: when called, once: a mask is neither black nor white everywhere.
    """

    def __init__(
        self,
        root: Path | str | None,
        polarity: Polarity = "white",
        resize: bool = True,
        flip: bool = False,
        rotate: bool = False,
        dilate: tuple[int, int] = (0, 0),
    ) -> None:
        if root is None:
            raise ValueError("the folder of the masks is missing: add mask.root=/path/to/masks")
        _check_polarity(polarity)
        if not 0 <= dilate[0] <= dilate[1]:
            raise ValueError(f"dilate={dilate}: expected (least, most) pixels, 0 or more")
        self.files = self._select(list_images(Path(root).expanduser()))
        self.polarity: Polarity = polarity
        self.resize = resize
        self.flip = flip
        self.rotate = rotate
        self.dilate = dilate
        self._warned = False
        self._warn_if_inverted()

    def _select(self, files: FileList) -> FileList:
        """The files to use."""
        return files

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a random one of the files."""

        def draw() -> Mask:
            mask = self._file(int(rng.integers(len(self.files))), height, width)
            turns = int(rng.integers(4)) if self.rotate else 0
            before = (height, width) if turns % 2 == 0 else (width, height)
            if mask.shape != before:
                mask = _resize(mask, *before)
            mask = np.rot90(mask, turns)
            if self.flip and rng.random() < 0.5:
                mask = mask[::-1]
            if self.flip and rng.random() < 0.5:
                mask = mask[:, ::-1]
            if self.dilate[1] > 0:
                mask = _dilate(mask, int(rng.integers(self.dilate[0], self.dilate[1] + 1)))
            return mask

        return np.ascontiguousarray(draw_until_partial(draw, self))

    def _file(self, index: int, height: int, width: int) -> Mask:
        path = self.files[index]
        mask, soft = _read(path, self.polarity)
        if soft and not self._warned:  # one example says it all; a folder may have thousands
            self._warned = True
            _warn_soft(str(path), soft, f" (other masks in {self.files.root} are not reported)")
        if mask.shape != (height, width) and not self.resize:
            raise ValueError(_other_size(str(path), mask, (height, width)))
        _check_partial(mask, str(path))
        return mask

    def _warn_if_inverted(self) -> None:
        indices = np.linspace(0, len(self.files) - 1, min(16, len(self.files))).astype(int)
        ratios = []
        for index in indices.tolist():
            try:
                mask, _ = _read(self.files[index], self.polarity)
            except ValueError:
                continue  # reported where it is used, with `data.on_bad_file` respected
            ratios.append(float(mask.mean()))
        if ratios and np.mean(ratios) > 0.6:
            other = "black" if self.polarity == "white" else "white"
            warnings.warn(
                f"the {self.polarity} part of the masks in {self.files.root} covers "
                f"{np.mean(ratios):.0%} on average of {len(ratios)} looked at: if the hole is the "
                f"{other} part, set mask.polarity={other}",
                InvertedMaskWarning,
                stacklevel=3,
            )


class IrregularTestMask(FolderMask):
    """The packed irregular test masks of Liu et al. (2018), by hole ratio and border.

    The 12,000 files `00000.png …` hold 2,000 masks of each ratio in order: 0.01 to 0.1, 0.1 to 0.2,
    and so on to 0.6; the first 1,000 of each keep away from the border. The choice goes by these
    numbers: resized masks may miss their bin by a little.

    Args:
        root: folder of the files.
        ratio: (low, high) hole ratios, at the limits of the bins: (0.2, 0.4) takes two bins.
        border: True takes the masks that touch the border, False those that do not, None both.
        **settings: as for `FolderMask`.
    """

    def __init__(
        self,
        root: Path | str | None,
        ratio: tuple[float, float] = (0.01, 0.6),
        border: bool | None = None,
        **settings: Any,
    ) -> None:
        limits = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
        if not (ratio[0] in limits and ratio[1] in limits and ratio[0] < ratio[1]):
            raise ValueError(f"ratio={ratio}: expected two of {limits}, the smaller first")
        self.bins = range(limits.index(ratio[0]), limits.index(ratio[1]))
        self.border = border
        super().__init__(root, **settings)

    def _select(self, files: FileList) -> FileList:
        indices = [index for index, name in enumerate(files.names()) if self._wanted(files, name)]
        if not indices:
            raise FileNotFoundError(
                f"no mask in {files.root} is of the ratio and border asked for: the packed test "
                "set has files 00000.png to 11999.png"
            )
        return files.select(indices)

    def _wanted(self, files: FileList, name: str) -> bool:
        stem = Path(name).stem
        if not (stem.isascii() and stem.isdigit() and int(stem) < 12_000):
            raise ValueError(
                f"{files.root / name} is none of the packed test masks 00000.png to 11999.png: use "
                "mask=folder for other masks"
            )
        ratio_bin, place = divmod(int(stem), 2000)
        return ratio_bin in self.bins and self.border in (None, place >= 1000)


class HoleRatioMask:
    """Masks of another generator whose hole covers a given share of the picture.

    Args:
        mask: makes the masks; it is asked again until one fits.
        ratio: (low, high) share of the picture.
    """

    def __init__(self, mask: MaskGenerator, ratio: tuple[float, float]) -> None:
        if not 0 <= ratio[0] < ratio[1] <= 1:
            raise ValueError(f"hole_ratio={ratio}: expected (low, high) with 0 <= low < high <= 1")
        self.mask = mask
        self.ratio = ratio

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw until the ratio fits.

        Raises:
            ValueError: none of many masks fits.
        """
        ratios = []
        for _ in range(_MAX_DRAWS):
            mask = self.mask(height, width, rng)
            ratios.append(np.count_nonzero(mask) / mask.size)
            if self.ratio[0] <= ratios[-1] <= self.ratio[1]:
                return mask
        raise ValueError(
            f"none of {_MAX_DRAWS} masks of {type(self.mask).__name__} covers {self.ratio[0]:g} to "
            f"{self.ratio[1]:g} of a {height}x{width} picture, they cover {min(ratios):.3f} to "
            f"{max(ratios):.3f}: widen hole_ratio or change the mask's own settings"
        )


class MixtureMask:
    """One of several kinds of mask for each picture.

    Args:
        kinds: the generators, by a name for messages.
        weights: how often each is used, relative to the others and by the same names; equal by
            default.
    """

    def __init__(
        self, kinds: dict[str, MaskGenerator], weights: dict[str, float] | None = None
    ) -> None:
        if not kinds:
            raise ValueError("a mixture needs at least one kind of mask: fill mask.kinds")
        if weights is None:
            weights = dict.fromkeys(kinds, 1.0)
        if weights.keys() != kinds.keys():
            raise ValueError(
                f"mask.weights names {sorted(weights)}, mask.kinds {sorted(kinds)}: give one "
                "weight for each kind (0 to leave it out)"
            )
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"mask.weights={weights}: expected 0 or more, one of them positive")
        self.kinds = kinds
        self.weights = weights

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Choose a kind and call it."""
        weights = np.array([self.weights[name] for name in self.kinds])
        choice = int(rng.choice(len(weights), p=weights / weights.sum()))
        return list(self.kinds.values())[choice](height, width, rng)


def load_mask(
    path: Path | str,
    polarity: Polarity = "white",
    size: tuple[int, int] | None = None,
) -> Mask:
    """Read a mask file, thresholded at half; values in between are warned about.

    Pictures whose values are only 0 and 1 are taken as labels: 1 as white.

    Args:
        path: the file, of any bit depth; colour is read as grey.
        polarity: colour of the hole, "white" or "black".
        size: (height, width) in pixels of the picture it belongs to; None accepts any.

    Shape:
        (H, W), True in the hole

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: not an image, or a damaged one.
        ValueError: another size than `size`, transparency, no hole or no known pixel.
    """
    mask, soft = _read(Path(path), polarity)
    if size is not None and mask.shape != tuple(size):
        raise ValueError(_other_size(str(path), mask, size))
    _check_partial(mask, str(path))
    if soft:
        _warn_soft(str(path), soft)
    return mask


def mask_from_array(
    mask: Any,
    polarity: Polarity = "white",
    size: tuple[int, int] | None = None,
    name: str = "the mask",
) -> Mask:
    """Turn a picture, array or tensor into a mask, thresholded at half.

    Args:
        mask: a PIL image, or an array or tensor (H, W), with or without axes of length 1: boolean;
            floats from 0 to 1; or integers, either 0 and 1 only or 0 to 255.
        polarity: value of the hole, "white" (high) or "black" (low).
        size: (height, width) in pixels of the picture it belongs to; None accepts any.
        name: what messages call it.

    Shape:
        (H, W), True in the hole

    Raises:
        ValueError: another size than `size`, another shape, other values, no hole or no known
            pixel.
    """
    result, soft = _binarise(_values(mask, name), polarity, name)
    if size is not None and result.shape != tuple(size):
        raise ValueError(_other_size(name, result, size))
    _check_partial(result, name)
    if soft:
        _warn_soft(name, soft)
    return result


def _read(path: Path, polarity: Polarity) -> tuple[Mask, float]:
    with open_image(path) as image, naming(path):
        image.load()
    return _binarise(_values(image, str(path)), polarity, str(path))


def _values(mask: Any, name: str) -> npt.NDArray[Any]:
    """The mask as a two-dimensional array of its own type."""
    if isinstance(mask, Image.Image):
        if mask.has_transparency_data:
            alpha = mask.convert("RGBA").getchannel("A").getextrema()
            if alpha != (255, 255):
                raise ValueError(
                    f"{name} is partly transparent, so its hole is ambiguous: save it without "
                    "transparency, white in the hole and black elsewhere"
                )
        # Not a "1" picture as it is: its array holds 255 for True, which is no valid boolean byte.
        return np.asarray(mask if mask.mode.startswith("I") else mask.convert("L"))
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu()
    values = np.asarray(mask)
    shape = [length for length in values.shape if length != 1]
    if len(shape) > 2 or values.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}: expected (H, W), or that with axes of "
            "length 1"
        )
    return values if values.ndim == 2 else values.reshape(_plane(values.shape))


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    # Of (1, 1, H, W), (1, H, W) and (H, W, 1): drop the channel axis at the end, else those in
    # front.
    if shape[-1] == 1 and len(shape) == 3:
        return shape[0], shape[1]
    return shape[-2], shape[-1]


def _binarise(values: npt.NDArray[Any], polarity: Polarity, name: str) -> tuple[Mask, float]:
    """The mask, and the share of its pixels that were neither white nor black."""
    _check_polarity(polarity)
    if values.dtype == np.bool_:
        white, soft = values, 0.0
    else:
        highest = float(values.max())
        if not (values.min() >= 0 and highest <= 65535):  # written so that NaN fails
            raise ValueError(f"{name} has values outside 0 to 1, 0 to 255 and 0 to 65535")
        if np.issubdtype(values.dtype, np.floating) and highest > 1:
            raise ValueError(
                f"{name} has floating-point values up to {highest:g}: expected 0 to 1 (or integers)"
            )
        full = 1 if highest <= 1 else 255 if highest <= 255 else 65535
        white = values > full / 2
        # Counting is several times faster than the mean of booleans.
        clear = np.count_nonzero(values == 0) + np.count_nonzero(values == full)
        soft = 1 - clear / values.size
    return (white if polarity == "white" else ~white), soft


def _resize(mask: Mask, height: int, width: int) -> Mask:
    """The mask by its nearest neighbours: of each new pixel's centre, in whole numbers."""
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    resized: Mask = mask[rows][:, columns]
    return resized


def _dilate(mask: Mask, pixels: int) -> Mask:
    """Widen the hole by a square of 2·pixels + 1."""
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


def _check_partial(mask: Mask, name: str) -> None:
    if not mask.any():
        raise ValueError(
            f"{name} has no hole, so there is nothing to fill. If its hole is black, set "
            "polarity=black; otherwise paint the hole white or remove the mask"
        )
    if mask.all():
        raise ValueError(
            f"{name} has no known pixel: everything is hole, so there is nothing to fill it from. "
            "If its hole is black, set polarity=black; otherwise leave a part black or remove the "
            "mask"
        )


def _check_polarity(polarity: str) -> None:
    if polarity not in ("white", "black"):
        raise ValueError(f"polarity={polarity!r}: expected white or black, the colour of the hole")


def _warn_soft(name: str, share: float, more: str = "") -> None:
    warnings.warn(
        f"{name} has soft edges: {share:.1%} of its pixels are neither black nor white. They were "
        f"thresholded at half{more}",
        SoftMaskWarning,
        stacklevel=3,
    )


def _other_size(name: str, mask: Mask, size: tuple[int, int]) -> str:
    return (
        f"{name} has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its picture "
        f"{size[0]}x{size[1]}: give a mask of the picture's size"
    )


def draw_until_partial(draw: Callable[[], Mask], generator: object) -> Mask:
    """Call `draw` until its mask has a hole and a known pixel.

    Raises:
        ValueError: that does not happen; it names the settings of `generator`.
    """
    for _ in range(_MAX_DRAWS):
        mask = draw()
        if mask.any() and not mask.all():
            return mask
    raise ValueError(
        f"{type(generator).__name__} drew {_MAX_DRAWS} masks in a row that are empty or cover "
        f"everything: its settings {vars(generator)} do not suit pictures of "
        f"{mask.shape[0]}x{mask.shape[1]} pixels"
    )
