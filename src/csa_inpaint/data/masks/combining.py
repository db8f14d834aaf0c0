"""Masks made of other masks: held to a hole ratio, or of several kinds."""

from collections.abc import Mapping

import numpy as np

from csa_inpaint.data.listing import FileList
from csa_inpaint.data.masks.generator import BadMaskError, Mask, MaskGenerator, Ratio, Shown
from csa_inpaint.data.masks.sizing import check_ratio, in_both


class HoleRatioMask(MaskGenerator):
    """Masks of another generator whose hole covers a given share of the picture.

    Shapes that are drawn are scaled or repeated until they cover the share; mask files are chosen
    among those that were measured to cover it.

    Args:
        mask: makes the masks.
        ratio: (low, high) share of the picture, both included.

    Raises:
        ValueError: `ratio` is out of range, or `mask` cannot be made to measure; in `prepare` or
            when called: no mask covers the share.
    """

    def __init__(self, mask: MaskGenerator, ratio: Ratio) -> None:
        check_ratio("hole_ratio", ratio)
        self.mask = mask
        self.ratio = ratio
        self._made_to_measure = mask.of_ratio(ratio)

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Make a mask that covers the share."""
        return self._made_to_measure(height, width, rng)

    def for_image(self, shown: Shown, rng: np.random.Generator) -> Mask:
        """Make the mask of one picture."""
        return self._made_to_measure.for_image(shown, rng)

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """Masks that cover a share within both ranges."""
        return HoleRatioMask(self.mask, in_both(self.ratio, ratio))

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Measure mask files, or try a mask."""
        return self._made_to_measure.prepare(files, size)


class MixtureMask(MaskGenerator):
    """One of several kinds of mask for each picture.

    Args:
        kinds: the generators, by a name for messages.
        weights: how often each is used, relative to the others and by the same names; equal by
            default.
    """

    def __init__(
        self, kinds: Mapping[str, MaskGenerator], weights: Mapping[str, float] | None = None
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
        return self._choose(rng)(height, width, rng)

    def for_image(self, shown: Shown, rng: np.random.Generator) -> Mask:
        """Choose a kind and make its mask of one picture."""
        return self._choose(rng).for_image(shown, rng)

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """A mixture of the same kinds, each of which covers the share."""
        return MixtureMask(
            {name: kind.of_ratio(ratio) for name, kind in self._used().items()},
            {name: self.weights[name] for name in self._used()},
        )

    def prepare(self, files: FileList, size: tuple[int, int]) -> list[BadMaskError]:
        """Prepare every kind that is used."""
        return [bad for kind in self._used().values() for bad in kind.prepare(files, size)]

    def _choose(self, rng: np.random.Generator) -> MaskGenerator:
        weights = np.array([self.weights[name] for name in self.kinds])
        choice = int(rng.choice(len(weights), p=weights / weights.sum()))
        return list(self.kinds.values())[choice]

    def _used(self) -> dict[str, MaskGenerator]:
        return {name: kind for name, kind in self.kinds.items() if self.weights[name] > 0}
