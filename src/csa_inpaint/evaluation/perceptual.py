"""What judges pictures by the features of a trained network: LPIPS, and features for KID.

The weights come from files or from torchvision's download. A network without weights is a named gap
of the tables.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchmetrics.image.fid import NoTrainInceptionV3
from torchmetrics.image.kid import poly_mmd

from csa_inpaint.weights.files import read_tensors

IMAGENET = "imagenet"
_NAMES = {"alex": "AlexNet", "vgg": "VGG-16"}
_LPIPS_OF = {"lpips_alex": "alex", "lpips_vgg": "vgg"}
LPIPS_SCORES = tuple(_LPIPS_OF)
KID_SCORES = ("kid_alex", "kid_inception")
LEAST_SIDE = 32  # pixels; AlexNet has no features of smaller pictures
CROP_SIDE = 64  # pixels; the smallest crop of a hole that KID looks at
_INCEPTION_FEATURES = "2048"


class IncompleteNetworkError(ValueError):
    """A weight file is one of the network that is needed, but it ends before the last layer."""


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al., CVPR 2018).

    The implementation is torchmetrics'; its weights come from files here.

    Args:
        net: ``"alex"`` or ``"vgg"``, the network that is looked through.
        backbone: a file of that network's convolutions with torchvision's key names
            (``features.N.weight``), or ``"imagenet"`` for torchvision's download.
        heads: a file of the linear layers (``lin0.model.1.weight`` …); None takes those that come
            with torchmetrics, which are the published ones.

    Shape: prediction, truth (B, 3, H, W) in [-1, 1] → (B,)

    Raises:
        FileNotFoundError: a file is not there.
        IncompleteNetworkError: the backbone's file ends before the last layer that LPIPS needs.
        ValueError: a file is damaged or holds another network.
        RuntimeError: the download failed; the message says how to pass a file.
    """

    def __init__(
        self, net: Literal["alex", "vgg"], backbone: str | Path, heads: str | Path | None = None
    ) -> None:
        super().__init__()
        download = backbone == IMAGENET
        try:
            # The metric class of torchmetrics can only download; the network inside it can also
            # start from random weights, which the file's then replace.
            self.network = _NoTrainLpips(net=net, pnet_rand=not download)
        except (OSError, RuntimeError) as error:  # URLError is an OSError, a bad hash the other
            raise RuntimeError(
                f"could not download torchvision's {_NAMES[net]} ({error}): on a machine with "
                f"access fetch it, and pass the file as weights.lpips_{net}.backbone=FILE"
            ) from error
        if not download:
            _load(self.network.net, read_tensors(Path(backbone)), str(backbone), _NAMES[net])
        if heads is not None:
            _load(
                nn.ModuleList(self.network.lins),
                read_tensors(Path(heads)),
                str(heads),
                "heads of LPIPS",
            )
        self.requires_grad_(False)

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        distance: Tensor = self.network(prediction.float().clamp(-1, 1), truth.float())
        return distance.flatten()

    def embed(self, image: Tensor) -> Tensor:
        """The last layer's features, averaged over positions.

        Shape: (B, 3, H, W) in [-1, 1] → (B, D)
        """
        scaled = self.network.scaling_layer(image.float().clamp(-1, 1))
        features: Tensor = self.network.net(scaled)[-1]
        return features.mean((2, 3))


class Inception(nn.Module):
    """The Inception-v3 of the published FID and KID figures, by torchmetrics and torch-fidelity.

    Args:
        weights: torch-fidelity's file ``weights-inception-2015-12-05-6726825d.pth``.

    Raises:
        FileNotFoundError: the file is not there.
        ModuleNotFoundError: torch-fidelity is not installed.
        ValueError: the file holds another network.
    """

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        if find_spec("torch_fidelity") is None:
            raise ModuleNotFoundError(
                "KID by Inception needs torch-fidelity: pip install 'csa-inpaint[kid]'"
            )
        # torch-fidelity would run what a pickle says; this refuses all but tensors.
        read_tensors(Path(weights))
        try:
            self.network = NoTrainInceptionV3(
                "inception-v3-compat", [_INCEPTION_FEATURES], str(weights)
            )
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"{weights} is no Inception-v3 of torch-fidelity ({error}): expected its file "
                "weights-inception-2015-12-05-6726825d.pth"
            ) from error
        self.requires_grad_(False)

    def embed(self, image: Tensor) -> Tensor:
        """The features of the last pooling.

        Shape: (B, 3, H, W) in [-1, 1] → (B, 2048)
        """
        pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte()
        features: Tensor = self.network(pixels)
        return features.reshape(len(image), -1)


FeatureNetwork = LPIPS | Inception
"""What turns pictures into one vector each, by ``embed``."""


def load_judges(
    weights: Mapping[str, Any], size: tuple[int, int]
) -> tuple[dict[str, LPIPS], dict[str, FeatureNetwork], dict[str, str]]:
    """The networks whose weights are there, and why the others are not.

    Args:
        weights: ``lpips_alex`` and ``lpips_vgg``, each with ``backbone`` and ``heads``, and
            ``inception``: files, or None for none.
        size: (height, width) of the pictures, in pixels.

    Returns:
        LPIPS by score, feature networks by score, and the reason of each gap by score.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: as ``LPIPS`` and ``Inception``.
    """
    lpips: dict[str, LPIPS] = {}
    networks: dict[str, FeatureNetwork] = {}
    gaps: dict[str, str] = {}
    for score, net in _LPIPS_OF.items():
        files = weights[score]
        if files["backbone"] is None:
            gaps[score] = f"no weights: weights.{score}.backbone=FILE, or {IMAGENET} to download"
        elif min(size) < LEAST_SIDE:
            gaps[score] = f"pictures of {size[0]}x{size[1]} are too small, {LEAST_SIDE} are needed"
        else:
            try:
                lpips[score] = LPIPS(net, files["backbone"], files["heads"])  # type: ignore[arg-type]
            except IncompleteNetworkError as error:
                gaps[score] = str(error)
    if "lpips_alex" in lpips:
        networks["kid_alex"] = lpips["lpips_alex"]
    else:
        gaps["kid_alex"] = "needs the network of lpips_alex"
    if weights["inception"] is None:
        gaps["kid_inception"] = "no weights: weights.inception=FILE"
    else:
        networks["kid_inception"] = Inception(weights["inception"])
    return lpips, networks, gaps


def hole_crop(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the box around a hole, at least ``CROP_SIDE`` wide where there is room.

    Shape: mask (1, H, W)
    """
    rows, columns = mask[0].any(1).nonzero().flatten(), mask[0].any(0).nonzero().flatten()
    return _widened(rows, mask.shape[-2]), _widened(columns, mask.shape[-1])


def _widened(covered: Tensor, length: int) -> slice:
    first, last = int(covered[0]), int(covered[-1]) + 1
    side = min(max(last - first, CROP_SIDE), length)
    start = min(max((first + last - side) // 2, 0), length - side)
    return slice(start, start + side)


def kernel_distance(truth: Tensor, other: Tensor, block: int = 1000) -> float:
    """The kernel inception distance (Binkowski et al., ICLR 2018) of two sets of features.

    It is the unbiased estimate of the squared maximum mean discrepancy under the kernel
    ``(x · y / D + 1)³``, over all features at once. Of more than ``block`` features it is the mean
    over consecutive blocks, which need no random draws.

    Args:
        truth: of the true pictures.
        other: of the filled ones, in the same order.
        block: the most features in one estimate.

    Returns:
        The distance; NaN of fewer than two features. It may be negative, since it is unbiased.

    Shape: (N, D), (N, D)
    """
    blocks = -(-len(truth) // block)
    estimates = [
        poly_mmd(x.double(), y.double())
        for x, y in zip(truth.tensor_split(blocks), other.tensor_split(blocks), strict=True)
    ]
    return float(torch.stack(estimates).mean())


def _load(module: nn.Module, state: Mapping[str, Any], file: str, kind: str) -> None:
    """Copy a file's tensors into the module; torchvision's numbers are the ends of its keys."""
    wanted = module.state_dict()
    names = {key: _name_in_file(key) for key in wanted}
    missing = [name for name in names.values() if name not in state]
    if missing and len(missing) < len(names):
        raise IncompleteNetworkError(
            f"{file} ends too early for {kind}: it lacks {', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''}"
        )
    if missing:
        raise ValueError(f"{file} holds no {kind}: expected the keys {', '.join(missing[:3])} …")
    for key, name in names.items():
        if state[name].shape != wanted[key].shape:
            raise ValueError(
                f"{file} holds no {kind}: {name} is {tuple(state[name].shape)}, expected "
                f"{tuple(wanted[key].shape)}"
            )
    module.load_state_dict({key: state[name].float() for key, name in names.items()})


def _name_in_file(key: str) -> str:
    """``slice3.6.bias`` → ``features.6.bias``; ``0.model.1.weight`` → ``lin0.model.1.weight``."""
    first, rest = key.split(".", 1)
    return f"features.{rest}" if first.startswith("slice") else f"lin{key}"
