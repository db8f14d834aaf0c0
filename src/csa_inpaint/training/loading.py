"""Loading a trained model of any method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csa_inpaint.training.module import Inpainter
from csa_inpaint.weights.shipped import DEFAULT, shipped_path


def load_model(path: str | Path, map_location: Any = "cpu", trust: Sequence[str] = ()) -> Inpainter:
    """A trained model of any method, in evaluation mode.

    Loading runs no code from the file. The settings in the file may name only classes of this
    library, optimizers of PyTorch and classes of trusted packages.

    Args:
        path: a checkpoint that ``csa_inpaint.train``, ``export`` or ``import_released`` wrote: a
            ``.ckpt`` or ``.safetensors`` file, or a folder with ``model.safetensors``;
            ``"pretrained"`` for the weights that come with the library.
        map_location: device of the weights.
        trust: packages of your own whose classes the checkpoint may name, such as a generator's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint of this library, or names foreign classes.
    """
    return Inpainter.load_from_checkpoint(path, map_location=map_location, trust=trust).eval()


def load_pretrained(name: str = DEFAULT, map_location: Any = "cpu") -> Inpainter:
    """A model that comes with the library, in evaluation mode.

    Args:
        name: of the weights in the package's folder ``weights/pretrained``, where a card says what
            each was trained on.
        map_location: device of the weights.

    Raises:
        FileNotFoundError: no weights of that name come with this version; the message lists those
            that do.
    """
    return load_model(shipped_path(name), map_location)
