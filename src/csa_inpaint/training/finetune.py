"""A model whose generator is that of trained weights, for a training of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csa_inpaint.training.checkpoint import trusted_settings
from csa_inpaint.training.module import Inpainter
from csa_inpaint.weights.files import read_checkpoint


class FineTuned(Inpainter):
    """An ``Inpainter`` with the generator of trained weights.

    The constructor reads the settings alone: ``init_from`` or ``checkpoint`` of the training loads
    the weights.

    Args:
        init_from: the model that the training starts from, see ``read_checkpoint``.
        checkpoint: the checkpoint that the training continues, in place of ``init_from``.
        trust: packages of your own whose classes the model may name.
        losses: as for ``Inpainter``; None for the terms that the weights were trained with.
        vgg: laid over the settings that the weights were trained with, key by key.
        settings: the other settings of ``Inpainter``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: neither model is named, the file is damaged, or it names foreign classes.
    """

    def __init__(
        self,
        init_from: str | Path | None = None,
        checkpoint: str | Path | None = None,
        trust: Sequence[str] = (),
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        vgg: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        source = checkpoint or init_from
        if source is None:
            raise ValueError(
                "model=from_weights takes its generator from trained weights: name them with "
                "init_from=PATH, or init_from=pretrained for those that come with the library"
            )
        own = trusted_settings(read_checkpoint(source), source, trust)
        super().__init__(
            generator=own["generator"],
            losses=own["losses"] if losses is None else losses,
            vgg={**(own.get("vgg") or {}), **(vgg or {})},
            **settings,
        )
