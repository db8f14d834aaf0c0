"""Lightning callbacks: adversaries, previews, the progress bar, stopping and naming runs."""

from csa_inpaint.callbacks.adversary import Adversary, FeatureAdversary, PatchAdversary
from csa_inpaint.callbacks.init_from import InitFrom
from csa_inpaint.callbacks.interrupt import SaveOnInterrupt
from csa_inpaint.callbacks.preview import Preview
from csa_inpaint.callbacks.progress import LossProgressBar
from csa_inpaint.callbacks.run_config import RunConfig

__all__ = [
    "Adversary",
    "FeatureAdversary",
    "InitFrom",
    "LossProgressBar",
    "PatchAdversary",
    "Preview",
    "RunConfig",
    "SaveOnInterrupt",
]
