"""Holes shaped like things: regions of label maps, as segmentation data sets have them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from csa_inpaint.data.images import naming, open_image
from csa_inpaint.data.masks.files import check_dilation, list_root
from csa_inpaint.data.masks.generator import MAX_DRAWS, Mask, draw_until_partial
from csa_inpaint.data.masks.raster import as_picture, dilated, mirrored, nonzero
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
            region = self._region(rng)
            rows, columns = region.map_size
            scale = max(height / rows, width / columns) * rng.uniform(*self.scale)
            mask = dilated(region.put(scale, height, width), self._dilation(rng))
            return self._mirrored(mask, rng)

        return draw_until_partial(draw, self)

    def of_size(self, hole: HoleSize, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a label map and scale one of its regions."""
        region, dilation = self._region(rng), self._dilation(rng)

        def draw(scale: float) -> Mask:
            return dilated(region.put(scale, height, width), dilation)

        start = math.sqrt(hole.target / region.pixels)
        return self._mirrored(filled_up(*enlarge(draw, start, hole), hole), rng)

    def _region(self, rng: np.random.Generator) -> "_Region":
        """A random region of a random label map, at a random place."""
        for _ in range(MAX_DRAWS):
            path = self.files[int(rng.integers(len(self.files)))]
            with as_bad_mask(path):
                labels = read_labels(path)
            values, counts = _counted(labels)
            regions = values[
                (counts >= self.smallest * labels.size) & ~np.isin(values, self.ignore)
            ]
            if len(regions):
                label = int(rng.choice(regions))  # a NumPy integer would widen the whole array
                return _Region.cut(labels == label, rng)
        raise ValueError(
            f"none of {MAX_DRAWS} label maps of {self.files.root} has a region that covers "
            f"{self.smallest:g} of it and is none of the labels {list(self.ignore)}: change "
            "mask.smallest or mask.ignore"
        )

    def _dilation(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.dilate[0], self.dilate[1] + 1))

    def _mirrored(self, mask: Mask, rng: np.random.Generator) -> Mask:
        return np.ascontiguousarray(mirrored(mask, rng)) if self.flip else mask


class _Region(NamedTuple):
    """A region that was cut out of a label map, and where it goes."""

    picture: Image.Image  # 1 in the region, 0 beside it
    pixels: int
    map_size: tuple[int, int]  # (height, width) of the label map, in pixels
    place: tuple[float, float]  # a point of the region, from (0, 0) at its top left to (1, 1)

    @classmethod
    def cut(cls, region: Mask, rng: np.random.Generator) -> "_Region":
        """Cut a region out of a label map and choose a random point of it as its place."""
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        part = np.ascontiguousarray(region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        pixels = np.flatnonzero(part)
        row, column = divmod(int(pixels[rng.integers(len(pixels))]), part.shape[1])
        down, across = rng.random(2).tolist()
        place = (row + down) / part.shape[0], (column + across) / part.shape[1]
        return cls(as_picture(part), len(pixels), (region.shape[0], region.shape[1]), place)

    def put(self, scale: float, height: int, width: int) -> Mask:
        """A mask with the region in it.

        The place says where the region is in the room that it has, and which part of a region that
        is larger than the mask is in it. Because the place is a point of the region, the hole grows
        with the scale until it covers everything.

        Args:
            scale: factor of the region's sides.
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
        """
        rows = max(1, round(scale * self.picture.height))
        columns = max(1, round(scale * self.picture.width))
        top = round(self.place[0] * (height - rows))
        left = round(self.place[1] * (width - columns))
        # What is seen of the region: in pixels of the mask, and in its own.
        first_row, last_row = max(top, 0), min(top + rows, height)
        first_column, last_column = max(left, 0), min(left + columns, width)
        down, across = self.picture.height / rows, self.picture.width / columns
        box = (
            (first_column - left) * across,
            (first_row - top) * down,
            min((last_column - left) * across, self.picture.width),
            min((last_row - top) * down, self.picture.height),
        )
        size = last_column - first_column, last_row - first_row
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[first_row:last_row, first_column:last_column] = nonzero(
            self.picture.resize(size, Image.Resampling.NEAREST, box)
        )
        return mask


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
    counts = np.array(Image.fromarray(labels).histogram())  # ten times faster than NumPy
    values = np.flatnonzero(counts)
    return values, counts[values]
