"""Models on a model hub: ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

The module needs huggingface_hub: ``pip install 'csa-inpaint[hub]'``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download

from csa_inpaint.training.card import model_card
from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.sharing import Precision, write_folder
from csa_inpaint.weights.files import SETTINGS_FILE, WEIGHTS_FILE


class HubInpainter(Inpainter, PyTorchModelHubMixin):  # type: ignore[misc]  # Any to mypy
    """An ``Inpainter`` that model hubs hold; ``load_from_checkpoint`` makes one of a training's.

    ``save_pretrained(FOLDER)`` writes the averaged generator, its settings and a card, as
    ``csa_inpaint.export`` does. ``from_pretrained(FOLDER_OR_NAME)`` loads such a folder, or
    downloads it, and runs no code from it. ``push_to_hub(NAME)`` uploads. ``model_card_kwargs`` of
    both are the arguments ``evaluation`` and ``about`` of ``model_card``.

    Args: see ``Inpainter``.
    """

    share_precision: Precision = "float32"
    """Type of the numbers in the files that ``save_pretrained`` and ``push_to_hub`` write."""

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(self, save_directory, self.share_precision)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that ``csa_inpaint.export`` writes."""
        return ModelCard(model_card(self, self.share_precision, **kwargs))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: Any = "cpu",
        trust: Sequence[str] = (),
    ) -> Self:
        """Load from a folder, or from the hub's files.

        Args:
            model_id: a folder, or a name on the hub.
            revision, cache_dir, force_download, local_files_only, token: see huggingface_hub.
            map_location, trust: see ``load_model``.
        """
        folder = Path(model_id)
        if not folder.is_dir():
            files = [
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
                for name in (SETTINGS_FILE, WEIGHTS_FILE)
            ]
            folder = Path(files[0]).parent
        return cls.load_from_checkpoint(folder, map_location=map_location, trust=trust).eval()
