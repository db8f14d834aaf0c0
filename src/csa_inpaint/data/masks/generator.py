"""What makes masks, and what all kinds of masks share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.images import BadImageError
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.transforms import View

Mask = npt.NDArray[np.bool_]
Ratio = tuple[float, float]

# So many draws in a row that do not fit mean that no draw will.
MAX_DRAWS = 200


class BadMaskError(BadImageError):
    """A mask file cannot be used, while other masks of its folder may be.

    Args:
        message: names the file and says why.
        path: the file.
    """

    def __init__(self, message: str, path: Path | str = "") -> None:
        # `path` may be left out, because a loader's process sends an error on with its message
        # alone.
        super().__init__(message)
        self.path = str(path)


class Shown(NamedTuple):
    """A picture that a mask is made for, and the part of it that the model sees."""

    name: str  # of the file, below the folder of the images
    picture: tuple[int, int]  # (height, width) of the upright picture, in pixels
    view: View
    size: tuple[int, int]  # (height, width) at which the view is shown, in pixels


class MaskGenerator(ABC):
    """Whatever makes masks. A kind of one's own overrides `__call__` and what else it can do."""

    @abstractmethod
    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Make a mask.

        Args:
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
            rng: source of randomness; the same state gives the same mask.

        Shape:
            (height, width), True in the hole

        Raises:
            BadMaskError: a mask file cannot be used; another call may take another file.
        """

    def for_image(self, shown: Shown, rng: np.random.Generator) -> Mask:
        """Make the mask of one picture: any mask, unless masks and pictures are paired.

        Args:
            shown: the picture.
            rng: source of randomness; the same state gives the same mask.

        Shape:
            `shown.size`, True in the hole

        Raises:
            BadMaskError: as when called.
        """
        return self(*shown.size, rng)

    def of_ratio(self, ratio: Ratio) -> "MaskGenerator":
        """Masks of the same kind whose hole covers a given share of the picture.

        Args:
            ratio: (low, high) share, both included.

        Raises:
            ValueError: this kind cannot be made to measure.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be made to a hole ratio: leave data.hole_ratio out, or "
            "override of_ratio in that class"
        )

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Do once what the masks of many pictures need, before processes are started that load.

        Args:
            files: the pictures.
            size: (height, width) of the masks, in pixels.

        Returns:
            the mask files that turned out to be bad and will not be used.

        Raises:
            ValueError: masks of this size, or for these pictures, cannot be made.
        """
        try:
            self(*size, np.random.default_rng(0))
        except BadMaskError as error:
            return [error]
        return []


def described(generator: object) -> str:
    """The kind of a generator with its settings, for messages."""
    settings = {
        name: str(value.root) if isinstance(value, FileList) else value
        for name, value in vars(generator).items()
        if not name.startswith("_")
    }
    return f"{type(generator).__name__} with the settings {settings}"


def draw_until_partial(draw: Callable[[], Mask], generator: object) -> Mask:
    """Call `draw` until its mask has a hole and a known pixel.

    Raises:
        ValueError: that does not happen; it names the settings of `generator`.
    """
    for _ in range(MAX_DRAWS):
        mask = draw()
        if mask.any() and not mask.all():
            return mask
    raise ValueError(
        f"{described(generator)} drew {MAX_DRAWS} masks in a row that are empty or cover "
        f"everything: its settings do not suit pictures of {mask.shape[0]}x{mask.shape[1]} pixels"
    )
