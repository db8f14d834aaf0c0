"""What the model is to fill: masks that are drawn, read from files, or made of other masks.

A mask is a boolean array (H, W); True is the hole. A generator is called with the height, the width
and the sample's own source of randomness, and returns a mask whose hole is neither empty nor
everything. The mask depends on these alone.
"""

from csa_inpaint.data.masks.combining import HoleRatioMask, MixtureMask
from csa_inpaint.data.masks.drawn import (
    BlobMask,
    BorderMask,
    CenterMask,
    FreeformMask,
    RectangleMask,
)
from csa_inpaint.data.masks.files import (
    FolderMask,
    InvertedMaskWarning,
    IrregularTestMask,
    PairedMask,
)
from csa_inpaint.data.masks.generator import BadMaskError, Mask, MaskGenerator, Shown
from csa_inpaint.data.masks.reading import (
    Polarity,
    SoftMaskWarning,
    load_mask,
    mask_from_array,
)
from csa_inpaint.data.masks.segmentation import SegmentationMask

__all__ = [
    "BadMaskError",
    "BlobMask",
    "BorderMask",
    "CenterMask",
    "FolderMask",
    "FreeformMask",
    "HoleRatioMask",
    "InvertedMaskWarning",
    "IrregularTestMask",
    "Mask",
    "MaskGenerator",
    "MixtureMask",
    "PairedMask",
    "Polarity",
    "RectangleMask",
    "SegmentationMask",
    "Shown",
    "SoftMaskWarning",
    "load_mask",
    "mask_from_array",
]
