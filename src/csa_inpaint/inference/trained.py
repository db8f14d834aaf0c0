"""A trained generator as inference needs it, loaded without what only training needs.

``Inpainter`` is a LightningModule, and to import Lightning takes twice as long as to import PyTorch
and longer than to fill a hole.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator
from csa_inpaint.training.settings import (
    fitting_this_version,
    model_settings,
    require_fit,
    trained_size,
)
from csa_inpaint.types import Inpainting
from csa_inpaint.weights.files import model_file, read_checkpoint, settings_file
from csa_inpaint.weights.targets import check_targets

if TYPE_CHECKING:
    from csa_inpaint.training.module import Inpainter

AVERAGE, LATEST = "ema.module.", "generator."  # where a checkpoint holds the two generators


class TrainedModel(nn.Module):
    """A trained generator, and the size of the images that it was trained on.

    Args:
        generator: the average of the training where there is one.
        trained_size: shorter side of the images of the training in pixels, where known.
    """

    def __init__(self, generator: InpaintingGenerator, trained_size: int | None) -> None:
        super().__init__()
        self.generator = generator
        self.trained_size = trained_size

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        """Fill the holes; see ``InpaintingGenerator``."""
        out: Inpainting = self.generator(image, mask)
        return out

    @property
    def multiple(self) -> int:
        """Heights and widths must be multiples of this number."""
        return self.generator.multiple


Model: TypeAlias = Union["Inpainter", TrainedModel]


def load_trained(
    path: str | Path, map_location: Any = "cpu", trust: Sequence[str] = ()
) -> TrainedModel:
    """The generator that inference uses of a trained model, in evaluation mode.

    Loading runs no code from the file, and builds nothing but the generator.

    Args:
        path, map_location, trust: see ``load_model``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint of this library, or names foreign classes.
    """
    checkpoint = read_checkpoint(path)
    settings = model_settings(checkpoint, path)["generator"]
    check_targets(settings, path, trust)
    with fitting_this_version(path):
        generator = instantiate(settings, _convert_="all")
    state = checkpoint["state_dict"]
    prefix = AVERAGE if any(key.startswith(AVERAGE) for key in state) else LATEST
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    require_fit(weights, generator.state_dict(), path)
    generator.load_state_dict(weights)
    return TrainedModel(generator, trained_size(checkpoint)).eval().to(map_location)


def latest_trained(path: str | Path, trust: Sequence[str] = ()) -> TrainedModel:
    """What ``load_trained`` loads, kept until another model is asked for or its files change."""
    file = model_file(path).resolve()
    if not file.is_file():
        return load_trained(path)  # which says what is missing
    stamps = [one.stat() for one in (file, settings_file(file)) if one.is_file()]
    state = tuple((file, stamp.st_mtime_ns, stamp.st_size) for stamp in stamps)
    return _loaded(path, state, tuple(trust))


@lru_cache(maxsize=1)
def _loaded(path: str | Path, state: object, trust: tuple[str, ...]) -> TrainedModel:
    with torch.inference_mode(mode=False):  # the model outlives the caller's inference mode
        return load_trained(path, trust=trust)
