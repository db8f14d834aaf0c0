"""The paper's model as a configuration of ``Inpainter``."""

from collections.abc import Mapping
from typing import Any

from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.settings import paper_settings


class CSAInpainter(Inpainter):
    """Coherent-semantic-attention inpainting: the two-stage generator with the paper's losses.

    Args:
        generator, losses: the complete settings, see ``Inpainter``; None for the paper's settings,
            which the shorthand varies.
        shorthand: ``width``, ``depth``, ``attention_levels``, ``feature_levels``, ``fill`` and
            ``detach_rough`` of ``Generator``; ``attention``, arguments of ``CSALayer``;
            ``refinement``, False for the first stage alone; ``loss_weights`` of ``l1_rough``,
            ``l1_refined`` and ``consistency``, 0 leaves a term out; ``learning_rate`` and
            ``betas`` of both Adams; and everything else that ``Inpainter`` takes.

    Raises:
        ValueError: for unknown loss terms, and where ``Inpainter`` raises one.
    """

    def __init__(
        self,
        generator: Mapping[str, Any] | None = None,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **shorthand: Any,
    ) -> None:
        if generator is None or losses is None:
            super().__init__(**paper_settings(**shorthand))
        else:
            super().__init__(generator, losses, **shorthand)
