"""The paper's model as a configuration of ``Inpainter``."""

from typing import Any

from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.settings import paper_settings


class CSAInpainter(Inpainter):
    """Coherent-semantic-attention inpainting: the two-stage generator with the paper's losses.

    Args:
        settings: the complete settings, see ``Inpainter``, by default the paper's. Shorthand is
            laid over them: ``width``, ``depth``, ``attention_levels``, ``feature_levels``,
            ``fill`` and ``detach_rough`` of ``Generator``; ``attention``, arguments of
            ``CSALayer``; ``refinement``, False for the first stage alone; ``loss_weights`` of the
            terms ``l1_rough``, ``l1_refined`` and ``consistency``, 0 leaves a term out;
            ``learning_rate`` and ``betas`` of both Adams.

    Raises:
        ValueError: for unknown loss terms, and where ``Inpainter`` raises one.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**paper_settings(**settings))
