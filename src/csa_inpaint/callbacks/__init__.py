"""Lightning callbacks: previews, health, progress, stopping and naming runs."""

from csa_inpaint.callbacks.effective_batch import EffectiveBatch
from csa_inpaint.callbacks.guard import DumpBadBatch
from csa_inpaint.callbacks.health import TrainingHealth
from csa_inpaint.callbacks.init_from import InitFrom
from csa_inpaint.callbacks.interrupt import SaveOnInterrupt
from csa_inpaint.callbacks.preview import Preview
from csa_inpaint.callbacks.progress import LossProgressBar
from csa_inpaint.callbacks.run_config import RunConfig

__all__ = [
    "DumpBadBatch",
    "EffectiveBatch",
    "InitFrom",
    "LossProgressBar",
    "Preview",
    "RunConfig",
    "SaveOnInterrupt",
    "TrainingHealth",
]
