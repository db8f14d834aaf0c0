"""Images and masks: reading, holes, augmentation, batches."""

from csa_inpaint.data.datamodule import InpaintingDataModule
from csa_inpaint.data.datasets.celeba import CelebA, CelebAHQ
from csa_inpaint.data.datasets.folder import ImageFolder
from csa_inpaint.data.datasets.layout import Layout
from csa_inpaint.data.datasets.list import ListFiles
from csa_inpaint.data.datasets.paris_streetview import ParisStreetView
from csa_inpaint.data.datasets.photos import ShippedPhotos
from csa_inpaint.data.datasets.places2 import Places2
from csa_inpaint.data.datasets.several import SeveralRoots
from csa_inpaint.data.datasets.shards import ShardError, Shards
from csa_inpaint.data.datasets.webdataset import WebDatasetTars, webdataset_module
from csa_inpaint.data.images import UnreadableImageError, load_image
from csa_inpaint.data.listing import FileList, list_images
from csa_inpaint.data.masks import (
    FolderMask,
    HoleRatioMask,
    InvertedMaskWarning,
    IrregularTestMask,
    MaskGenerator,
    MixtureMask,
    SoftMaskWarning,
    load_mask,
    mask_from_array,
)
from csa_inpaint.data.shapes import (
    BlobMask,
    BorderMask,
    CenterMask,
    FreeformMask,
    RectangleMask,
)
from csa_inpaint.data.transforms import (
    Augment,
    CenterCrop,
    RandomCrop,
    Transform,
    View,
    to_float,
)

__all__ = [
    "Augment",
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
    "ParisStreetView",
    "Places2",
    "RandomCrop",
    "RectangleMask",
    "SeveralRoots",
    "ShardError",
    "Shards",
    "ShippedPhotos",
    "SoftMaskWarning",
    "Transform",
    "UnreadableImageError",
    "View",
    "WebDatasetTars",
    "list_images",
    "load_image",
    "load_mask",
    "mask_from_array",
    "to_float",
    "webdataset_module",
]
