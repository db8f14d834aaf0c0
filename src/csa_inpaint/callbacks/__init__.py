"""Lightning callbacks: previews, health, progress, stopping and naming runs."""

from csa_inpaint.callbacks.effective_batch import EffectiveBatch
from csa_inpaint.callbacks.frozen_statistics import FreezeStatistics
from csa_inpaint.callbacks.guard import DumpBadBatch
from csa_inpaint.callbacks.health import TrainingHealth
from csa_inpaint.callbacks.init_from import InitFrom
from csa_inpaint.callbacks.logs import KeepLogs
from csa_inpaint.callbacks.phases import Phases
from csa_inpaint.callbacks.preview import Preview
from csa_inpaint.callbacks.progress import LossProgressBar, ProgressLines, progress_display
from csa_inpaint.callbacks.run_config import RunConfig
from csa_inpaint.callbacks.within_epoch import Preempted, SaveWithinEpoch

__all__ = [
    "DumpBadBatch",
    "EffectiveBatch",
    "FreezeStatistics",
    "InitFrom",
    "KeepLogs",
    "LossProgressBar",
    "Phases",
    "Preempted",
    "Preview",
    "ProgressLines",
    "RunConfig",
    "SaveWithinEpoch",
    "TrainingHealth",
    "progress_display",
]
