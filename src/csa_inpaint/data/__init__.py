"""Images and masks: reading, holes, augmentation, batches.

The public names load when they are first used: a process that only loads data needs neither
Lightning nor torchvision.
"""

from typing import TYPE_CHECKING

from csa_inpaint.cli.lazy import lazy_names

if TYPE_CHECKING:
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
    from csa_inpaint.data.datasets.webdataset import WebDatasetModule, WebDatasetTars
    from csa_inpaint.data.images import UnreadableImageError, load_image
    from csa_inpaint.data.listing import FileList, list_images
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
    from csa_inpaint.data.transforms import (
        Augment,
        CenterCrop,
        RandomCrop,
        Transform,
        View,
        to_float,
    )

_HOMES = {
    "Augment": "transforms",
    "BadMaskError": "masks",
    "BlobMask": "masks",
    "BorderMask": "masks",
    "CelebA": "datasets.celeba",
    "CelebAHQ": "datasets.celeba",
    "CenterCrop": "transforms",
    "CenterMask": "masks",
    "FileList": "listing",
    "FolderMask": "masks",
    "FreeformMask": "masks",
    "HoleRatioMask": "masks",
    "ImageFolder": "datasets.folder",
    "InpaintingDataModule": "datamodule",
    "InvertedMaskWarning": "masks",
    "IrregularTestMask": "masks",
    "Layout": "datasets.layout",
    "ListFiles": "datasets.list",
    "MaskGenerator": "masks",
    "MixtureMask": "masks",
    "PairedMask": "masks",
    "ParisStreetView": "datasets.paris_streetview",
    "Places2": "datasets.places2",
    "RandomCrop": "transforms",
    "RectangleMask": "masks",
    "SegmentationMask": "masks",
    "SeveralRoots": "datasets.several",
    "ShardError": "datasets.shards",
    "Shards": "datasets.shards",
    "ShippedPhotos": "datasets.photos",
    "SoftMaskWarning": "masks",
    "Transform": "transforms",
    "UnreadableImageError": "images",
    "View": "transforms",
    "WebDatasetModule": "datasets.webdataset",
    "WebDatasetTars": "datasets.webdataset",
    "list_images": "listing",
    "load_image": "images",
    "load_mask": "masks",
    "mask_from_array": "masks",
    "to_float": "transforms",
}

__all__ = [
    "Augment",
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
    "SeveralRoots",
    "ShardError",
    "Shards",
    "ShippedPhotos",
    "SoftMaskWarning",
    "Transform",
    "UnreadableImageError",
    "View",
    "WebDatasetModule",
    "WebDatasetTars",
    "list_images",
    "load_image",
    "load_mask",
    "mask_from_array",
    "to_float",
]

__getattr__, __dir__ = lazy_names(globals(), _HOMES)
