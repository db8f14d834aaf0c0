"""Save a model in a checkpoint, and restore it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from csa_inpaint.training.finiteness import require_finite_weights
from csa_inpaint.training.settings import (
    complete,
    differences,
    fitting_this_version,
    model_settings,
    require_fit,
    trained_size,
)
from csa_inpaint.training.window import Window
from csa_inpaint.weights.files import read_checkpoint
from csa_inpaint.weights.targets import check_targets


class Restorable(pl.LightningModule):
    """A module with a generator, discriminators and an accumulation window, saved and restored.

    Resuming is strict: the adversaries must be those of the checkpoint. Loading for inference or
    for a test needs none of them.
    """

    generator: nn.Module
    discriminators: nn.ModuleDict
    window: Window
    trained_size: int | None = None
    """The shorter side of the images that the model was trained on, in pixels, where known."""

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's would build what a file names
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        strict: bool = True,
        weights_only: bool = True,
        trust: Sequence[str] = (),
        **settings: Any,
    ) -> Self:
        """Load a trained model of this class; ``load_model`` loads a model of any method.

        Args:
            checkpoint_path: see ``load_model``.
            map_location: device of the weights; None for the CPU.
            strict: whether missing and surplus weights are an error.
            weights_only: must stay True, so that no code from the file runs.
            trust: packages of your own whose classes the checkpoint may name.
            settings: replacements for settings in the checkpoint.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, is no checkpoint of this library, names foreign
                classes, or holds weights that do not fit its settings in this version of the
                library; also for ``weights_only=False``.
        """
        if not weights_only:
            raise ValueError(
                f"{checkpoint_path}: weights_only=False would run code of the file, which is not "
                "needed for any checkpoint of this library"
            )
        checkpoint = read_checkpoint(checkpoint_path)
        whole = {**trusted_settings(checkpoint, checkpoint_path, trust), **settings}
        with fitting_this_version(checkpoint_path, list(settings)):
            module = cls(**whole)
        module.on_load_checkpoint(checkpoint)
        if strict:
            require_fit(checkpoint["state_dict"], module.state_dict(), checkpoint_path)
        module.load_state_dict(checkpoint["state_dict"], strict)
        module.trained_size = trained_size(checkpoint)
        return module.to(map_location or "cpu")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite_weights(self.generator)
        checkpoint["window"] = self.window.state_dict(self.named_parameters())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        if self._trainer is None or self.trainer.state.fn != "fit":
            checkpoint["state_dict"] = _with_own_discriminators(state, self)
            return
        settings = complete(checkpoint.get("hyper_parameters", self.hparams))
        differing = list(differences(self.hparams, settings))
        if _generator_shapes(state) != _generator_shapes(self.state_dict()):
            raise ValueError(
                "the checkpoint's generator is another one than this run's: "
                f"{'; '.join(differing) or 'its layers are others'}. Resume with the settings of "
                "the checkpoint's run"
            )
        saved = {key.split(".")[1] for key in state if key.startswith("discriminators.")}
        _require_adversaries(saved, set(self.discriminators))
        self.window.load_state_dict(checkpoint.get("window") or _window_of_0_1(checkpoint, saved))
        for line in differing:
            if "optimizer." not in line:  # `Rates` reports those
                rank_zero_info(f"resumed with another setting: {line}")


def trusted_settings(
    checkpoint: Mapping[str, Any], path: str | Path, trust: Sequence[str]
) -> dict[str, Any]:
    """The settings of the model in a checkpoint, after a check of the classes they name."""
    settings = model_settings(checkpoint, path)
    check_targets(settings, path, trust)
    return settings


def _generator_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items() if key.startswith("generator.")}


def _require_adversaries(saved: set[str], present: set[str]) -> None:
    """Raise a ``ValueError`` that names every adversary that only one side has."""
    if saved == present:
        return
    differ = [f"{name} is missing here" for name in sorted(saved - present)]
    differ += [f"{name} is not in the checkpoint" for name in sorted(present - saved)]
    raise ValueError(
        f"the checkpoint was trained with adversaries [{', '.join(sorted(saved))}]: "
        f"{'; '.join(differ)}. Resume with adversary=[{','.join(sorted(saved))}]"
    )


def _with_own_discriminators(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's weights with a module's discriminators, which inference does not use."""
    own = {k: v for k, v in module.state_dict().items() if k.startswith("discriminators.")}
    return {k: v for k, v in state.items() if not k.startswith("discriminators.")} | own


def _window_of_0_1(checkpoint: Mapping[str, Any], adversaries: set[str]) -> dict[str, Any]:
    """The window of a checkpoint of version 0.1, which counted the optimizers' steps together."""
    waiting = checkpoint.get("accumulated", {"batches": 0, "gradients": {}})
    return {**waiting, "closed": checkpoint["global_step"] // (2 if adversaries else 1)}
