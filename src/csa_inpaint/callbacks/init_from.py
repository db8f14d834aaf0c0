"""Start training from another run's weights."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.settings import complete, differences
from csa_inpaint.weights.files import match, read_checkpoint

SIZES = ("width", "depth")  # settings that decide the shapes of a generator's weights


class InitFrom(pl.Callback):
    """Load a checkpoint's weights, and nothing else of it, before a training starts.

    The callback loads the tensors of the generator and of the discriminators whose names and shapes
    fit, and prints a report of the others. The averaged generator starts from the loaded weights,
    not from the checkpoint's average. The callback must stand behind the adversaries in the
    Trainer's callbacks, because the adversaries register their discriminators first.

    Args:
        path: a checkpoint, an export of one or ``"pretrained"``, see ``read_checkpoint``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint of this library, or holds a generator of
            other sizes.
    """

    def __init__(self, path: str | Path) -> None:
        read_checkpoint(path)  # a wrong path is refused before the data set is listed
        self.path = path

    def setup(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, stage: str
    ) -> None:
        if stage != "fit":
            return
        checkpoint = read_checkpoint(self.path)
        state = without_average(checkpoint["state_dict"])
        own = without_average(pl_module.state_dict())
        found = match(state, own)
        saved = complete(checkpoint.get("hyper_parameters", {}))
        here, there = pl_module.hparams["generator"], saved["generator"]
        settings = list(differences({"generator": here}, {"generator": there}))
        # Some tensors of generators of two sizes fit by chance, but their values mean nothing.
        same_size = all(here[key] == there[key] for key in SIZES if key in here and key in there)
        misshapen = any(line.startswith("generator.") for line in found.misshapen)
        fitting = any(key.startswith("generator.") for key in found.fitting)
        if misshapen or not same_size or not fitting:
            raise ValueError(
                f"init_from={self.path}: its generator's weights do not fit this one: "
                f"{'; '.join(settings) or 'its layers are others'}. model=from_weights in place of "
                "model=… builds the generator of the weights"
            )
        pl_module.load_state_dict({key: state[key] for key in found.fitting}, strict=False)
        pl_module.restart_average()
        lines = [f"loaded {len(found.fitting)} of {len(own)} tensors", *found.differences()]
        if settings:
            lines.append(f"settings that differ from the checkpoint's: {'; '.join(settings)}")
        rank_zero_info("\n  ".join([f"init_from={self.path}", *lines]))


def without_average(state: dict[str, Any]) -> dict[str, Any]:
    """A module's state without the averaged generator."""
    return {key: value for key, value in state.items() if not key.startswith("ema.")}
