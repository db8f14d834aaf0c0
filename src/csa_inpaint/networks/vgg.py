"""The frozen VGG-16 that the consistency loss and the feature-patch discriminator look through."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from csa_inpaint.weights.files import read_tensors

FULL_WIDTH = 64  # of the published network: 64, 128, 256, 512 channels
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (channels / width, convolutions)
# Indices in torchvision's `features`: each stage's last ReLU (relu1_2, 2_2, 3_3, 4_3, 5_3), and
# the first three poolings.
LAST_RELU = (3, 8, 15, 22, 29)
POOLS = {4: 1, 9: 2, 16: 3}
POOL3 = 16
DEEPEST_LEVEL = len(STAGES) - 1  # 1/16 of the image's resolution


class VGGFeatures(NamedTuple):
    """Features at several depths of VGG-16."""

    pool: dict[int, Tensor]  # (B, C, H / 2^n, W / 2^n) by number n, 1 to 3
    relu: dict[int, Tensor]  # (B, C, H / 2^level, W / 2^level) by level; 3 is relu4_3

    @property
    def pool3(self) -> Tensor:
        """(B, 4 · width, H/8, W/8), what the feature-patch discriminator judges."""
        return self.pool[3]

    def detach(self) -> "VGGFeatures":
        """The same values, cut from the graph."""
        pool, relu = ({key: v.detach() for key, v in part.items()} for part in self)
        return VGGFeatures(pool, relu)


class VGG16Features(nn.Module):
    """VGG-16, frozen.

    The weights follow the module that holds this network to another device or type, but they are no
    parameters of that module: no optimizer, no checkpoint and no gradient synchronisation sees the
    weights, and ``train()`` leaves the network in evaluation mode.

    Args:
        weights: ``"imagenet"`` downloads torchvision's weights, a path reads a file (``.pth`` or
            ``.safetensors`` with torchvision's key names ``features.N.weight``), ``"random"``
            draws them with a fixed seed and needs no download.
        width: channels of the first stage, 64 in the published network. Only random weights
            can have another width.
        imagenet_norm: True normalises by ImageNet's mean and deviation, as the weights expect;
            False feeds the image in [-1, 1], as the released code does.
        levels: halvings of the image at which features are returned, 0 to 4: the last ReLU of the
            stage with that resolution. 3 is the paper's relu4_3.

    Shape: image (B, 3, H, W) in [-1, 1] → ``VGGFeatures``; H, W ≥ 8.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is no VGG-16, or the width does not fit the weights.
        RuntimeError: the download failed; the message says how to pass a file.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: str = "imagenet",
        width: int = FULL_WIDTH,
        imagenet_norm: bool = True,
        levels: Sequence[int] = (3,),
    ) -> None:
        super().__init__()
        if weights != "random" and width != FULL_WIDTH:
            raise ValueError(
                f"VGG-16 weights {weights!r} have width {FULL_WIDTH}, not {width}: "
                'leave the width at 64 or use weights="random"'
            )
        self.levels = {LAST_RELU[level]: level for level in levels}
        # Through pool3 for the feature-patch discriminator, and deeper where a level needs it.
        features = vgg16_layers(width, max([3, *(level + 1 for level in levels)]))
        features = features[: max([POOL3, *self.levels]) + 1]
        if weights == "random":
            draw_weights(features)
        else:
            features.load_state_dict(read_weights(weights, features))
        # A tuple keeps nn.Module from registering the layers; `_apply` moves them nevertheless.
        self._features = (features.eval().requires_grad_(False),)
        # [-1, 1] → [0, 1] → ImageNet's mean 0 and deviation 1, in one affine step.
        shift = (0.485, 0.456, 0.406) if imagenet_norm else (0.5, 0.5, 0.5)
        scale = (0.229, 0.224, 0.225) if imagenet_norm else (0.5, 0.5, 0.5)
        self.register_buffer("mean", 2 * torch.tensor(shift)[:, None, None] - 1, persistent=False)
        self.register_buffer("std", 2 * torch.tensor(scale)[:, None, None], persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._features[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> VGGFeatures:
        return self._look(image, len(self._features[0]))

    def pools(self, image: Tensor) -> VGGFeatures:
        """The features through the third pooling, without the deeper layers.

        Shape: image (B, 3, H, W) in [-1, 1]; H, W ≥ 8.
        """
        return self._look(image, POOL3 + 1)

    def _look(self, image: Tensor, layers: int) -> VGGFeatures:
        x = (image - self.mean) / self.std
        features = VGGFeatures({}, {})
        for index, layer in enumerate(self._features[0][:layers]):
            x = layer(x)
            if index in POOLS:
                features.pool[POOLS[index]] = x
            if index in self.levels:
                features.relu[self.levels[index]] = x
        return features


def vgg16_layers(width: int, stages: int) -> nn.Sequential:
    """The layers of VGG-16's first stages, numbered as in torchvision."""
    layers: list[nn.Module] = []
    inputs = 3
    for multiple, convolutions in STAGES[:stages]:
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, multiple * width, 3, padding=1), nn.ReLU()]
            inputs = multiple * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def draw_weights(features: nn.Sequential) -> None:
    """Draw Kaiming-normal weights with a fixed seed, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def read_weights(weights: str, features: nn.Sequential) -> dict[str, Tensor]:
    """The entries of a torchvision VGG-16 state dict that ``features`` has, in float32."""
    state = download_weights() if weights == "imagenet" else read_tensors(Path(weights))
    wanted = features.state_dict()
    missing = [f"features.{name}" for name in wanted if f"features.{name}" not in state]
    if missing:
        raise ValueError(
            f"{weights} is no torchvision VGG-16: it lacks {', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''}; expected the keys "
            f"features.0.weight … features.{[*wanted][-1]}"
        )
    selected = {name: state[f"features.{name}"].float() for name in wanted}
    for name, value in selected.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{weights} is no VGG-16: features.{name} is {tuple(value.shape)}, "
                f"expected {tuple(wanted[name].shape)}"
            )
    return selected


def download_weights() -> dict[str, Any]:
    """Torchvision's ImageNet weights, from torchvision's cache where it holds them."""
    try:
        return dict(VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a bad hash a RuntimeError
        raise RuntimeError(
            f"could not download the ImageNet weights of VGG-16 ({error}). On a machine with "
            f"access fetch {VGG16_Weights.IMAGENET1K_V1.url} and pass the file: "
            "model.vgg.weights=/path/to/vgg16.pth (or .safetensors). "
            "model.vgg.weights=random needs no file, but its features are not trained."
        ) from error
