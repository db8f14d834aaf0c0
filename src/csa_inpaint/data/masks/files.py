"""Masks from files: of a folder, of the official test set, and in pairs with pictures."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.images import BadImageError
from csa_inpaint.data.listing import FileList, list_images
from csa_inpaint.data.masks.generator import (
    BadMaskError,
    Mask,
    MaskGenerator,
    Ratio,
    Shown,
    draw_until_partial,
)
from csa_inpaint.data.masks.measuring import Measured, Survey, measure
from csa_inpaint.data.masks.raster import dilated, mirrored, resized, turned
from csa_inpaint.data.masks.reading import (
    Polarity,
    check_polarity,
    read_usable,
    warn_soft,
)
from csa_inpaint.data.masks.sizing import check_ratio, hole_limits, in_both

_NAMED = 5  # of many files with the same fault, these are named

_log = logging.getLogger(__name__)


class InvertedMaskWarning(UserWarning):
    """The holes of a set of masks are so large that its polarity is probably the other one."""


class FolderMask(MaskGenerator):
    """Masks from files, one at random for each picture.

    A mask whose size is not the picture's is resized with nearest neighbour, so that it stays
    binary. A file without a hole or without a known pixel is an error; where resizing or dilating
    makes one such, another draw follows.

    With a hole ratio, masks are drawn among the files that cover the share. For that every file is
    measured once, at the size of the picture and with every dilation. What was measured of 1,000
    files or more is remembered in the user's cache folder until one of them changes.

    Args:
        root: folder of the mask files; folders below it count too.
        polarity: colour of the hole in the files, "white" or "black".
        resize: False refuses a mask of another size than the picture instead of resizing it.
        flip: mirror at random, left and right and top and bottom.
        rotate: turn at random by multiples of 90 degrees.
        dilate: (least, most) pixels by which the hole is widened on each side, drawn for each mask.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        ValueError: a setting is out of range.
        BadMaskError: when called: a file is unreadable, partly transparent or coloured, or it has
            no hole, no known pixel, or another size with `resize=False`.

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
        check_polarity(polarity)
        check_dilation(dilate)
        self.files = list_root(root, "masks")
        self.polarity: Polarity = polarity
        self.resize = resize
        self.flip = flip
        self.rotate = rotate
        self.dilate = dilate
        self._measured: dict[tuple[int, int], Measured] = {}
        self._warned = False
        self._warn_if_inverted()

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a random one of the files."""

        def draw() -> Mask:
            index = int(rng.integers(len(self.files)))
            turns = int(rng.integers(4)) if self.rotate else 0
            dilation = int(rng.integers(self.dilate[0], self.dilate[1] + 1))
            return self.shaped(index, height, width, turns, dilation, rng)

        return draw_until_partial(draw, self)

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """Masks drawn among the files that cover the share."""
        return ChosenMask(self, ratio)

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Nothing: a file is read when it is drawn."""
        return []

    def shaped(
        self,
        index: int,
        height: int,
        width: int,
        turns: int,
        dilation: int,
        rng: np.random.Generator,
    ) -> Mask:
        """One of the files as a mask of the given size.

        Args:
            index: place of the file in `files`.
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
            turns: by how many times 90 degrees it is turned.
            dilation: pixels by which the hole is widened.
            rng: source of randomness, for mirroring.

        Raises:
            BadMaskError: the file cannot be used.
        """
        mask = self.read(index, None if self.resize else (height, width))
        mask = dilated(turned(mask, height, width, turns), dilation)
        return np.ascontiguousarray(mirrored(mask, rng) if self.flip else mask)

    def read(self, index: int, size: tuple[int, int] | None = None) -> Mask:
        """One of the files as it is.

        Args:
            index: place of the file in `files`.
            size: (height, width) in pixels that it must have; None accepts any.

        Raises:
            BadMaskError: the file cannot be used.
        """
        path = self.files[index]
        mask, soft = read_usable(path, self.polarity, size)
        if soft and not self._warned:  # one example says it all; a folder may have thousands
            self._warned = True
            warn_soft(str(path), soft, f" (other masks in {self.files.root} are not reported)")
        return mask

    def measured(self, height: int, width: int, processes: bool = False) -> Measured:
        """How large the holes of the files are, at the given size.

        Args:
            height: rows of the masks, in pixels.
            width: columns of the masks, in pixels.
            processes: several processes may be started.
        """
        size = height, width
        if size not in self._measured:
            # Turning a square changes the place of a hole, not its size.
            turns = (0, 1) if self.rotate and height != width else (0,)
            self._measured[size] = measure(
                Survey(self.files, self.polarity, size, self.resize, turns, self.dilate[1]),
                processes,
            )
        return self._measured[size]

    def usable(self, measured: Measured, total: int) -> npt.NDArray[np.bool_]:
        """Which files may be drawn, by what was measured of them: all that are not bad.

        Args:
            measured: the holes of the files.
            total: pixels of a mask.

        Shape:
            (files, turns)

        Raises:
            ValueError: none may.
        """
        usable: npt.NDArray[np.bool_] = measured.pixels[:, :, 0] >= 0
        if not usable.any():
            raise measured.bad[0]
        return usable

    def _warn_if_inverted(self) -> None:
        indices = np.linspace(0, len(self.files) - 1, min(16, len(self.files))).astype(int)
        ratios = []
        for index in indices.tolist():
            try:
                mask, _ = read_usable(self.files[index], self.polarity)
            except BadMaskError:
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


class ChosenMask(MaskGenerator):
    """Masks of a folder, drawn among those that were measured to fit.

    Args:
        folder: the files, and how masks are made of them.
        ratio: (low, high) share of the picture that a hole covers, both included, after it was
            resized, turned and widened; None accepts any.
    """

    def __init__(self, folder: FolderMask, ratio: Ratio | None) -> None:
        self.folder = folder
        self.ratio = ratio
        self._choices: dict[tuple[int, int], npt.NDArray[np.int32]] = {}

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a random one of the files that fit.

        Raises:
            BadMaskError: a file cannot be used, and `prepare` was not called to leave it out.
            ValueError: no file fits.
        """
        size = height, width
        if size not in self._choices:
            measured = self.folder.measured(height, width)
            if measured.bad:
                raise measured.bad[0]
            self._choices[size] = self._fitting(measured, height, width)
        choices = self._choices[size]
        index, turns, dilation = choices[rng.integers(len(choices))].tolist()
        if self.folder.rotate:
            # Of a square one orientation was measured, of others two: half turns keep the size.
            turns = int(rng.integers(4)) if height == width else turns + 2 * int(rng.integers(2))
        return self.folder.shaped(index, height, width, turns, dilation, rng)

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """Masks that cover a share within both ranges."""
        return ChosenMask(self.folder, ratio if self.ratio is None else in_both(self.ratio, ratio))

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Measure the files.

        Raises:
            ValueError: no file fits.
        """
        measured = self.folder.measured(*size, processes=True)
        if size not in self._choices:
            self._choices[size] = self._fitting(measured, *size)
        return measured.bad

    def _fitting(self, measured: Measured, height: int, width: int) -> npt.NDArray[np.int32]:
        """What fits: (N, 3) of file, turns and dilation."""
        folder, total = self.folder, height * width
        lowest, highest = hole_limits(self.ratio or (0.0, 1.0), height, width)
        possible = np.repeat(
            folder.usable(measured, total)[:, :, None], measured.pixels.shape[2], axis=2
        )
        possible[:, :, : folder.dilate[0]] = False
        fits = possible & (measured.pixels >= lowest) & (measured.pixels <= highest)
        count = np.count_nonzero(fits.any(axis=(1, 2)))
        share = f"{lowest / total:.4g} to {highest / total:.4g} of a {height}x{width} picture"
        if count == 0:
            there = measured.pixels[possible] / total
            raise ValueError(
                f"0 of {len(folder.files)} mask files in {folder.files.root} cover {share}, they "
                f"cover {there.min():.4g} to {there.max():.4g}: choose another data.hole_ratio, or "
                "add masks"
            )
        _log.info(
            "%d of %d mask files in %s cover %s", count, len(folder.files), folder.files.root, share
        )
        return np.argwhere(fits).astype(np.int32)


class IrregularTestMask(FolderMask):
    """The packed irregular test masks of Liu et al. (2018), by hole ratio and border.

    The set has 2,000 masks of each ratio: 0.01 to 0.1, 0.1 to 0.2, and so on to 0.6; half of each
    keep away from the border. Ratio and border are those of a mask at the size of the picture,
    where some are in another bin than at their own size. Every file is measured once, see
    `FolderMask`.

    Args:
        root: folder of the files, all of them or a part.
        ratio: (low, high) hole ratio: above low, at most high. Dilation comes on top of it.
        border: True takes the masks that touch the border, False those that do not, None both.
        **settings: as for `FolderMask`.

    Raises:
        ValueError: `ratio` is out of range; in `prepare` or when called: no mask is of that ratio
            and border.
    """

    def __init__(
        self,
        root: Path | str | None,
        ratio: Ratio = (0.01, 0.6),
        border: bool | None = None,
        **settings: Any,
    ) -> None:
        check_ratio("ratio", ratio)
        super().__init__(root, **settings)
        self.ratio = ratio
        self.border = border
        self._chosen = ChosenMask(self, None)

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a random one of the files of that ratio and border."""
        return self._chosen(height, width, rng)

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Measure the files."""
        return self._chosen.prepare(files, size)

    def usable(self, measured: Measured, total: int) -> npt.NDArray[np.bool_]:
        """Which files are of that ratio and border."""
        shares = measured.pixels[:, :, 0] / total
        usable: npt.NDArray[np.bool_] = (shares > self.ratio[0]) & (shares <= self.ratio[1])
        if self.border is not None:
            usable &= (measured.touches == self.border)[:, None]
        if not usable.any():
            where = {None: "", True: " and touches the border", False: " and keeps away from it"}
            raise ValueError(
                f"none of {len(self.files)} mask files in {self.files.root} covers "
                f"{self.ratio[0]:g} to {self.ratio[1]:g} of the picture{where[self.border]}: "
                "choose another mask.ratio or mask.border"
            )
        return usable


class PairedMask(FolderMask):
    """The mask that belongs to each picture: the file of the same name in a folder of masks.

    The mask of `a/1.jpg` is `a/1.png`, or has another image suffix. A mask that has as many pixels
    as its picture is cut out and resized as the picture is; one that has the size at which
    pictures are shown is taken as it is.

    Without a picture, when called, a random one of the files is read.

    Args:
        root: folder of the mask files, in the same folders below it as the pictures are.
        polarity: colour of the hole in the files, "white" or "black".

    Raises:
        FileNotFoundError: the folder does not exist or holds no image; in `prepare`: pictures have
            no mask.
        ValueError: two masks have one name.
    """

    def __init__(self, root: Path | str | None, polarity: Polarity = "white") -> None:
        super().__init__(root, polarity)
        self._places: dict[str, int] = {}
        for place, name in enumerate(self.files.names()):
            first = self._places.setdefault(_without_suffix(name), place)
            if first != place:
                raise ValueError(
                    f"{self.files[first]} and {self.files[place]} differ only in their suffix, so "
                    "it is ambiguous which is the mask of the picture: remove one"
                )

    def for_image(self, shown: Shown, rng: np.random.Generator) -> Mask:
        """Read the mask of one picture.

        Raises:
            FileNotFoundError: there is none.
            BadImageError: it cannot be used; another mask does not help.
        """
        place = self._places.get(_without_suffix(shown.name))
        if place is None:
            raise FileNotFoundError(self._missing([shown.name]))
        path = self.files[place]
        try:
            mask = self.read(place)
        except BadMaskError as error:
            raise BadImageError(f"{error} (the mask of {shown.name})") from error
        if mask.shape == shown.picture:
            mask = resized(mask, *shown.size, shown.view.box)
        elif mask.shape != shown.size:
            raise BadImageError(
                f"{path} has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its picture "
                f"{shown.name} {shown.picture[0]}x{shown.picture[1]}: give a mask of the picture's "
                f"size, or of the {shown.size[0]}x{shown.size[1]} at which it is shown"
            )
        if not mask.any() or mask.all():
            what = "known pixel" if mask.any() else "hole"
            raise BadImageError(
                f"{path} has no {what} in the part of {shown.name} that is shown: change the mask, "
                "or show the whole picture (data.train_transform.resize=[1,1] in training)"
            )
        return np.ascontiguousarray(mask[:, ::-1] if shown.view.flip else mask)

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """Refused: each picture has its mask.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "mask=paired has one mask for each picture, whatever its hole covers: leave "
            "data.hole_ratio out"
        )

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Look whether every picture has a mask.

        Raises:
            FileNotFoundError: some have none; the message names them.
        """
        missing = [name for name in files.names() if _without_suffix(name) not in self._places]
        if missing:
            raise FileNotFoundError(self._missing(missing))
        return []

    def _missing(self, names: Sequence[str]) -> str:
        named = ", ".join(names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        example = self.files.root / f"{_without_suffix(names[0])}.png"
        return f"no mask in {self.files.root} for {named}{more}: add {example}, for one"


def list_root(root: Path | str | None, content: str) -> FileList:
    """The image files of a folder that a setting names.

    Args:
        root: the folder, `mask.root`.
        content: what the folder holds, for the message.

    Raises:
        ValueError: `root` is None.
        FileNotFoundError: the folder does not exist or holds no image.
    """
    if root is None:
        raise ValueError(
            f"the folder of the {content} is missing: add mask.root=/path/to/{content}"
        )
    return list_images(Path(root).expanduser())


def check_dilation(dilate: tuple[int, int]) -> None:
    """Refuse what is no range of pixels.

    Raises:
        ValueError: it is not (least, most) with 0 <= least <= most.
    """
    if len(dilate) != 2 or not 0 <= dilate[0] <= dilate[1]:
        raise ValueError(f"dilate={dilate}: expected (least, most) pixels, 0 or more")


def _without_suffix(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)
