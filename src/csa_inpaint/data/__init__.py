"""Images and masks: reading, holes, augmentation, batches."""

from csa_inpaint.data.celeba import CelebA, CelebAHQ
from csa_inpaint.data.datamodule import InpaintingDataModule
from csa_inpaint.data.files import FileList, list_images
from csa_inpaint.data.images import UnreadableImageError, load_image
from csa_inpaint.data.layouts import ImageFolder, Layout, ListFiles, ShippedPhotos
from csa_inpaint.data.masks import (
    BadMaskError,
    BlobMask,
    BorderMask,
    CenterMask,
    FolderMask,
    FreeformMask,
    HoleRatioMask,
    InvertedMaskWarning,
    IrregularTestMask,
    MaskGenerator,
    MixtureMask,
    PairedMask,
    RectangleMask,
    SegmentationMask,
    SoftMaskWarning,
    load_mask,
    mask_from_array,
)
from csa_inpaint.data.paris_streetview import ParisStreetView
from csa_inpaint.data.places2 import Places2
from csa_inpaint.data.shards import ShardError, Shards
from csa_inpaint.data.transforms import CenterCrop, RandomCrop, Transform, View, to_float

__all__ = [
    "BadMaskError",
    "BlobMask",
    "BorderMask",
    "CelebA",
    "CelebAHQ",
    "CenterCrop",
    "CenterMask",
    "FileList",
    "FolderMask",
    "FreeformMask",
    "HoleRatioMask",
    "ImageFolder",
    "InpaintingDataModule",
    "InvertedMaskWarning",
    "IrregularTestMask",
    "Layout",
    "ListFiles",
    "MaskGenerator",
    "MixtureMask",
    "PairedMask",
    "ParisStreetView",
    "Places2",
    "RandomCrop",
    "RectangleMask",
    "SegmentationMask",
    "ShardError",
    "Shards",
    "ShippedPhotos",
    "SoftMaskWarning",
    "Transform",
    "UnreadableImageError",
    "View",
    "list_images",
    "load_image",
    "load_mask",
    "mask_from_array",
    "to_float",
]
