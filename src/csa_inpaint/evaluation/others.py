"""Methods from outside: ONNX models, and folders of finished results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.data.images import load_image
from csa_inpaint.data.listing import list_images
from csa_inpaint.data.masks import Polarity
from csa_inpaint.data.transforms import to_tensor
from csa_inpaint.types import Batch

_DTYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class OnnxModel:
    """An inpainting model in an ONNX file, with an image and a mask as inputs, one sample a call.

    Types are read from the file: numbers are rounded for a model that takes bytes. The image is
    (1, 3, H, W) and the mask (1, 1, H, W); the first output is the filled picture, known pixels or
    not.

    Args:
        path: the ONNX file.
        polarity: colour of the hole in the model's mask: ``"white"`` (1) or ``"black"`` (0).
        range: (lowest, highest) value of a pixel in the model's image.
        mask_range: (black, white) in the model's mask.
        output_range: (lowest, highest) value of a pixel in the result; None means ``range``.
        size: (height, width) or a side in pixels that the model works at; None means the size of
            the pictures. Pictures are brought to it bilinearly, masks by nearest neighbour.
        image: name of the input that takes the image; None takes the one of three channels.
        mask: the same for the mask and one channel.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is no ONNX model, its inputs cannot be told apart, or a setting is out
            of range; when called: the result is no picture of the size given.
    """

    def __init__(
        self,
        path: str | Path,
        polarity: Polarity = "white",
        range: Sequence[float] = (-1, 1),
        mask_range: Sequence[float] = (0, 1),
        output_range: Sequence[float] | None = None,
        size: int | Sequence[int] | None = None,
        image: str | None = None,
        mask: str | None = None,
    ) -> None:
        if polarity not in ("white", "black"):
            raise ValueError(f"polarity={polarity}: expected white or black")
        self.path = Path(path)
        self.polarity = polarity
        self.range = _pair("range", range)
        self.mask_range = _pair("mask_range", mask_range)
        self.output_range = (
            self.range if output_range is None else _pair("output_range", output_range)
        )
        self.size = None if size is None else tuple(np.broadcast_to(size, 2).tolist())
        self.session = _open(self.path)
        inputs = {each.name: each for each in self.session.get_inputs()}
        self.image = self._input(inputs, "image", image, 3)
        self.mask = self._input(inputs, "mask", mask, 1)

    def __call__(self, batch: Batch) -> Tensor:
        """Fill each picture of the batch.

        Shape: image (B, 3, H, W) in [-1, 1], mask (B, 1, H, W) → (B, 3, H, W) on the CPU
        """
        pairs = zip(batch.image.float().cpu(), batch.mask.float().cpu(), strict=True)
        return torch.cat([self._fill(image[None], mask[None]) for image, mask in pairs])

    def _fill(self, image: Tensor, mask: Tensor) -> Tensor:
        size = image.shape[-2:]
        if self.size is not None:
            image = F.interpolate(image, self.size, mode="bilinear", antialias=True)
            mask = F.interpolate(mask, self.size, mode="nearest")
        white = mask if self.polarity == "white" else 1 - mask
        (result, *_) = self.session.run(
            None,
            {
                self.image.name: _as(self.image, _between((image + 1) / 2, self.range)),
                self.mask.name: _as(self.mask, _between(white, self.mask_range)),
            },
        )
        filled = torch.from_numpy(np.asarray(result)).float()
        if filled.shape != image.shape:
            raise ValueError(
                f"{self.path} returns {tuple(filled.shape)} for a picture {tuple(image.shape)}: "
                "expected the same; give the size that the model works at"
            )
        low, high = self.output_range
        filled = 2 * (filled - low) / (high - low) - 1
        if self.size is not None:
            filled = F.interpolate(filled, size, mode="bilinear", antialias=True)
        return filled.clamp(-1, 1)

    def _input(self, inputs: dict[str, Any], kind: str, name: str | None, channels: int) -> Any:
        """The model's input for the image or the mask, by name or by its channels."""
        fitting = (
            [each for each in inputs.values() if list(each.shape)[1:2] == [channels]]
            if name is None
            else [each for each in inputs.values() if each.name == name]
        )
        if len(fitting) != 1 or fitting[0].type not in _DTYPES:
            listed = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs.values())
            raise ValueError(
                f"{self.path} has the inputs {listed}: which one takes the {kind} cannot be told, "
                f"name it with {kind}=NAME"
            )
        return fitting[0]


class ResultsFolder:
    """Finished results of another method, one picture for each sample by its name.

    Args:
        path: folder of ``NAME.png`` (or another image extension), NAME the sample's as
            ``per_image.csv`` has it.
        names: of the samples that will be asked for.

    Raises:
        FileNotFoundError: the folder or results are missing.
        ValueError: two files have one name; when called: a result has another size.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        self.path = Path(path)
        self.files: dict[str, Path] = {}
        for file in list_images(self.path):
            name = file.relative_to(self.path).with_suffix("").as_posix()
            if name in self.files:
                raise ValueError(
                    f"{self.files[name]} and {file} differ only in their extension: remove one"
                )
            self.files[name] = file
        missing = [name for name in names if name not in self.files]
        if missing:
            raise FileNotFoundError(
                f"{self.path} has no result for {len(missing)} of {len(names)} samples, the first "
                f"is {missing[0]}: results are named as the samples (the column `name` of "
                "per_image.csv)"
            )

    def __call__(self, batch: Batch) -> Tensor:
        """Read the result of each sample.

        Shape: (B, 3, H, W) in [-1, 1], on the CPU
        """
        size = batch.image.shape[-2:]
        images = []
        for name in batch.path:
            image = to_tensor(load_image(self.files[name]))
            if image.shape[-2:] != size:
                raise ValueError(
                    f"{self.files[name]} is {tuple(image.shape[-2:])} (height, width), its sample "
                    f"{tuple(size)}: results need the size of the pictures that are evaluated"
                )
            images.append(image.float() / 127.5 - 1)
        return torch.stack(images)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an ONNX model needs onnxruntime: pip install 'csa-inpaint[onnx]'"
        ) from error
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(str(path), providers=available)
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise ValueError(f"{path} cannot be read as an ONNX model: {error}") from error


def _pair(name: str, values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    if low >= high:
        raise ValueError(f"{name}=[{low}, {high}]: expected the lower value first")
    return float(low), float(high)


def _between(unit: Tensor, ends: tuple[float, float]) -> Tensor:
    """Values of [0, 1] between the two ends."""
    return ends[0] + unit * (ends[1] - ends[0])


def _as(given: Any, values: Tensor) -> npt.NDArray[Any]:
    """An array of the type that a model's input takes."""
    array = values.numpy()
    whole = given.type in ("tensor(uint8)", "tensor(bool)")
    return (np.rint(array) if whole else array).astype(_DTYPES[given.type])
