"""Trained models as graphs for other runtimes: ONNX and ``torch.export``."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from csa_inpaint.csa.scanned import attend_scanned
from csa_inpaint.inference.backends import trained_generator
from csa_inpaint.methods.generator import InpaintingGenerator
from csa_inpaint.training.module import Inpainter

INPUTS = ["image", "mask"]
OUTPUTS = ["composite", "refined", "rough"]
OPSET = 20
TRACED = 128  # least side of the image that is traced, in pixels; the graph takes any size


class Filling(nn.Module):
    """A generator whose results are a plain tuple, composite first.

    Shape: image (B, 3, H, W), mask (B, 1, H, W) → composite, refined and rough image, (B, 3, H, W)
    """

    def __init__(self, generator: InpaintingGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.generator(image, mask)
        return out.composite, out.refined, out.rough


def graph_of(model: Inpainter) -> ExportedProgram:
    """The generator as a graph of PyTorch's own operators, in float32.

    The graph takes any number of images of any size that the generator takes. It computes what the
    generator computes; the recurrence of a CSA layer is one scan.

    Raises:
        ValueError: the generator computes something that such a graph cannot hold.
    """
    generator = copy.deepcopy(trained_generator(model)).float().cpu().eval()
    multiple, least = generator.multiple, -(-generator.smallest // generator.multiple)
    side = 2 * -(-TRACED // multiple) * multiple
    image, mask = torch.zeros(2, 3, side, side + multiple), torch.zeros(2, 1, side, side + multiple)
    axes = {
        0: Dim("batch"),
        2: multiple * Dim("rows", min=least),
        3: multiple * Dim("columns", min=least),
    }
    # A gradient would keep the scan from being traced again, as the translation to ONNX does.
    filling = Filling(generator.requires_grad_(False))
    # Otherwise a level of one pixel in the traced image would become a case of its own.
    oblivious = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _refusing(generator), oblivious:
        graph = torch.export.export(filling, (image, mask), dynamic_shapes=(axes, axes))
        scanned: ExportedProgram = graph.run_decompositions(
            {torch.ops.csa_inpaint.attend.default: attend_scanned}
        )
    return scanned


@contextmanager
def _refusing(generator: InpaintingGenerator) -> Iterator[None]:
    """Raise PyTorch's errors as a ``ValueError`` that names the generator.

    PyTorch writes the unfinished graph to the standard error, which nobody wants to read.
    """
    try:
        with redirect_stderr(StringIO()):
            yield
    except Exception as error:  # PyTorch's errors share no class of their own
        raise ValueError(
            f"{type(generator).__name__} cannot be written as a graph for images of any size: "
            "PyTorch does not translate all of its operations. docs/onnx.md lists the methods that "
            "can be written; format=safetensors holds every model"
        ) from error


def export_torch(model: Inpainter, path: str | Path) -> Sequence[Path]:
    """Write the generator for ``torch.export.load``, which needs PyTorch and not this library.

    ``torch.export.load(path).module(check_guards=False)(image, mask)`` returns composite, refined
    and rough image. With its guards the graph refuses images of one ``multiple`` on a side, which
    PyTorch traces as a case of its own, although the result is the same.

    Args:
        model: trained; the averaged generator is used when there is one.
        path: the file, usually ``.pt2``.

    Returns:
        the file that was written.

    Raises:
        ValueError: the generator computes something that such a graph cannot hold.
    """
    torch.export.save(graph_of(model), path, extra_files=notes(model))
    return [Path(path)]


def export_onnx(model: Inpainter, path: str | Path) -> Sequence[Path]:
    """Write the generator as an ONNX model.

    Inputs and outputs are float32. Inputs: ``image`` (B, 3, H, W) in [-1, 1] and ``mask``
    (B, 1, H, W), 1 in the hole. Outputs: ``composite``, ``refined`` and ``rough``, (B, 3, H, W).
    The metadata hold ``multiple``, of which height and width must be multiples, and ``size``, the
    side of the images of the training, where the model knows it.

    Args:
        model: trained; the averaged generator is used when there is one.
        path: the file.

    Returns:
        the file that was written.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        ValueError: the generator computes something that ONNX cannot hold.
    """
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise ModuleNotFoundError(
            "writing ONNX models needs onnx and onnxscript: pip install 'csa-inpaint[onnx]'"
        )
    graph = graph_of(model)
    with _refusing(model.generator):
        program = cast(
            torch.onnx.ONNXProgram,
            torch.onnx.export(
                graph,
                input_names=INPUTS,
                output_names=OUTPUTS,
                opset_version=OPSET,
                verbose=False,
            ),
        )
    program.model.metadata_props.update(notes(model))
    program.save(path)
    return [Path(path)]


def notes(model: Inpainter) -> dict[str, str]:
    """What a user of the file must know of the sizes of images."""
    size = {} if model.trained_size is None else {"size": str(model.trained_size)}
    return {"multiple": str(model.multiple)} | size
