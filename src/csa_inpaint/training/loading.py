"""Loading a trained model of any method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csa_inpaint.training.module import Inpainter


def load_model(path: str | Path, map_location: Any = "cpu", trust: Sequence[str] = ()) -> Inpainter:
    """A trained model of any method, in evaluation mode.

    The file is read without running code from it, and its settings may name only classes of this
    library.

    Args:
        path: a checkpoint that ``csa_inpaint.train`` or ``import_released`` wrote.
        map_location: device of the weights.
        trust: packages of your own whose classes the checkpoint may name, such as a generator's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, a checkpoint of something else, or asks for foreign code.
    """
    return Inpainter.load_from_checkpoint(path, map_location=map_location, trust=trust).eval()
