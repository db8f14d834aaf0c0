"""Holes shaped like things: regions of label maps, as segmentation data sets have them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.images import naming, open_image
from csa_inpaint.data.masks.files import check_dilation, list_root
from csa_inpaint.data.masks.generator import MAX_DRAWS, Mask, draw_until_partial
from csa_inpaint.data.masks.raster import dilated, mirrored, nonzero, resized
from csa_inpaint.data.masks.reading import as_bad_mask
from csa_inpaint.data.masks.sizing import HoleSize, MadeToMeasure, enlarge, filled_up


class SegmentationMask(MadeToMeasure):
    """Holes with the outline of a random region of a random label map, at a random place.

    A region is all that has one label. Label maps are pictures whose values are labels: of one
    channel, with a palette or without, or of three channels, where each colour is a label.

    A map is scaled until it covers the picture, and by a random factor on top. The region is put at
    a random place: inside the picture where it fits, else with a random part of it in the picture.
    With a hole ratio, the region is scaled to the share instead.

    Args:
        root: folder of the label maps; folders below it count too.
        ignore: labels that are no region: by default 0 and 255, customary for background and void.
        smallest: share of its map that a region covers at least.
        scale: (smallest, largest) factor.
        flip: mirror at random, left and right and top and bottom.
        dilate: (least, most) pixels by which the hole is widened on each side, drawn for each mask.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        ValueError: a setting is out of range; when called: no map has a region.
        BadMaskError: when called: a file is unreadable.
    """

    def __init__(
        self,
        root: Path | str | None,
        ignore: Sequence[int] = (0, 255),
        smallest: float = 0.01,
        scale: tuple[float, float] = (0.5, 1.5),
        flip: bool = True,
        dilate: tuple[int, int] = (0, 0),
    ) -> None:
        if not 0 <= smallest < 1:
            raise ValueError(f"smallest={smallest}: expected a share of the map, from 0 to below 1")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale={scale}: expected (smallest, largest) factors above 0")
        check_dilation(dilate)
        self.files = list_root(root, "label_maps")
        self.ignore = tuple(ignore)
        self.smallest = smallest
        self.scale = scale
        self.flip = flip
        self.dilate = dilate

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a label map and put one of its regions into the picture."""

        def draw() -> Mask:
            region, (rows, columns) = self._region(rng)
            place = _place(region, rng)
            scale = max(height / rows, width / columns) * rng.uniform(*self.scale)
            dilation = int(rng.integers(self.dilate[0], self.dilate[1] + 1))
            return dilated(_put(region, place, scale, height, width), dilation)

        return draw_until_partial(draw, self)

    def of_size(self, hole: HoleSize, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a label map and scale one of its regions."""
        region, _ = self._region(rng)
        place = _place(region, rng)
        dilation = int(rng.integers(self.dilate[0], self.dilate[1] + 1))

        def draw(scale: float) -> Mask:
            return dilated(_put(region, place, scale, height, width), dilation)

        start = math.sqrt(hole.target / np.count_nonzero(region))
        return filled_up(*enlarge(draw, start, hole), hole)

    def _region(self, rng: np.random.Generator) -> tuple[Mask, tuple[int, int]]:
        """A random region, cut out, and (height, width) of its label map, in pixels."""
        for _ in range(MAX_DRAWS):
            path = self.files[int(rng.integers(len(self.files)))]
            with as_bad_mask(path):
                labels = read_labels(path)
            values, counts = _counted(labels)
            regions = values[
                (counts >= self.smallest * labels.size) & ~np.isin(values, self.ignore)
            ]
            if len(regions):
                region = labels == rng.choice(regions)
                rows, columns = (
                    np.flatnonzero(region.any(axis=1)),
                    np.flatnonzero(region.any(axis=0)),
                )
                cut = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                cut = mirrored(cut, rng) if self.flip else cut
                return np.ascontiguousarray(cut), (labels.shape[0], labels.shape[1])
        raise ValueError(
            f"none of {MAX_DRAWS} label maps of {self.files.root} has a region that covers "
            f"{self.smallest:g} of it and is none of the labels {list(self.ignore)}: change "
            "mask.smallest or mask.ignore"
        )


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Read a label map.

    Args:
        path: a picture of one channel, whose values are labels (those of a palette are numbers, not
            colours), or of three, whose labels are red + 256 green + 65536 blue.

    Shape:
        (H, W)

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: not an image, or a damaged one.
        ValueError: a picture of another kind.
    """
    with open_image(path) as image, naming(path):
        image.load()
    if image.mode in ("RGB", "RGBA"):
        colours = np.asarray(image.convert("RGB")).astype(np.int64)
        labels: npt.NDArray[np.int64] = colours @ np.array([1, 256, 65536])
        return labels
    if image.mode == "1":
        return nonzero(image).astype(np.uint8)
    if image.mode in ("L", "P") or image.mode.startswith("I"):
        return np.asarray(image)
    raise ValueError(
        f"{path} is no map of labels: expected one channel of 1 to 32 bits, a palette, or RGB, not "
        f"{image.mode}"
    )


def _counted(labels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The labels that are there, and their numbers of pixels."""
    if labels.dtype != np.uint8:
        return np.unique(labels, return_counts=True)
    counts = np.bincount(labels.ravel(), minlength=256)  # several times faster than sorting
    values = np.flatnonzero(counts)
    return values, counts[values]


def _place(region: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """A random point of the region, from (0, 0) at its top left to (1, 1) at its bottom right."""
    row, column = divmod(int(rng.choice(np.flatnonzero(region))), region.shape[1])
    down, across = rng.random(2).tolist()
    return (row + down) / region.shape[0], (column + across) / region.shape[1]


def _put(region: Mask, place: tuple[float, float], scale: float, height: int, width: int) -> Mask:
    """A mask with a scaled region in it.

    Args:
        region: what is put, cut out.
        place: (down, across) from 0 to 1: where the region is in the room that it has, and which
            part of a region that is larger than the mask is in it. At a place within the region,
            the hole grows with the scale until it covers everything.
        scale: factor of the region's sides.
        height: rows of the mask, in pixels.
        width: columns of the mask, in pixels.
    """
    mask = np.zeros((height, width), dtype=np.bool_)
    rows, columns = (max(1, round(scale * side)) for side in region.shape)
    top, left = round(place[0] * (height - rows)), round(place[1] * (width - columns))
    # What is seen of the region: in the mask's pixels, and in its own.
    first_row, last_row = max(top, 0), min(top + rows, height)
    first_column, last_column = max(left, 0), min(left + columns, width)
    down, across = region.shape[0] / rows, region.shape[1] / columns
    box = (
        (first_column - left) * across,
        (first_row - top) * down,
        min((last_column - left) * across, region.shape[1]),
        min((last_row - top) * down, region.shape[0]),
    )
    seen = resized(region, last_row - first_row, last_column - first_column, box)
    mask[first_row:last_row, first_column:last_column] = seen
    return mask
