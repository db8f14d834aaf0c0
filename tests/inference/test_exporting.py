"""Models as graphs for other runtimes: the same pictures as the model's own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from csa_inpaint import CSAInpainter
from csa_inpaint.evaluation.others import OnnxModel
from csa_inpaint.inference import exporting
from csa_inpaint.inference.exporting import export_onnx, export_torch
from csa_inpaint.training.module import Inpainter
from csa_inpaint.types import Batch

TOLERANCE = 1e-3
PRACTICAL = {
    "width": 4,
    "depth": 4,
    "fill": "pull_push",
    "residual": True,
    "mask_input": True,
    "upsampling": "resize",
}
ENCODER = {"width": 4, "bottleneck": 8, "depth": 3}
EXAMPLE = Path(__file__).parents[2] / "examples/onnx_inpaint.py"
Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def model() -> CSAInpainter:
    torch.manual_seed(0)
    made = CSAInpainter(width=4, depth=4, vgg={"weights": "random", "width": 4}).eval()
    made.trained_size = 64
    return made


@pytest.fixture(scope="module")
def onnx_file(model: CSAInpainter, tmp_path_factory: Factory) -> Path:
    pytest.importorskip("onnxscript", reason="needs csa-inpaint[onnx]")
    (path,) = export_onnx(model, tmp_path_factory.mktemp("onnx") / "model.onnx")
    return path


@pytest.fixture(scope="module")
def torch_file(model: CSAInpainter, tmp_path_factory: Factory) -> Path:
    (path,) = export_torch(model, tmp_path_factory.mktemp("torch") / "model.pt2")
    return path


def draw(seed: int, multiple: int) -> tuple[Tensor, Tensor]:
    """Up to three images of a random size, each with random rectangles as its hole, or none."""
    rng = np.random.default_rng(seed)
    batch, rows, columns = rng.integers(1, 4, 3)
    height, width = multiple * rows, multiple * columns
    mask = torch.zeros(batch, 1, height, width)
    for sample in mask[:, 0]:
        for _ in range(rng.integers(0, 4)):
            top, left = rng.integers(0, (height, width))
            below, right = rng.integers((top, left), (height, width)) + 1
            sample[top:below, left:right] = 1
    values = rng.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
    return torch.from_numpy(values), mask


def untrained(method: str, settings: dict[str, Any]) -> Inpainter:
    """A model with random weights, also where they would start at zero."""
    torch.manual_seed(0)
    losses = {"l1": {"_target_": "csa_inpaint.losses.Reconstruction", "image": "rough"}}
    generator = {"_target_": f"csa_inpaint.methods.{method}", **settings}
    model = Inpainter(generator=generator, losses=losses, ema_decay=None).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1  # one batch decides, else the untrained statistics make all outputs zero
    if norms:
        mask = torch.zeros(2, 1, 64, 64)
        mask[..., 24:40, 24:40] = 1
        model.train()(torch.rand(2, 3, 64, 64) * 2 - 1, mask)
    return model.eval()


def run(path: Path, image: Tensor, mask: Tensor) -> list[Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    return [torch.from_numpy(output) for output in outputs]


@torch.no_grad()
def own(model: Inpainter, image: Tensor, mask: Tensor) -> list[Tensor]:
    out = model(image, mask)
    return [out.composite, out.refined, out.rough]


def test_onnx_model_equals_the_model_for_random_holes_and_sizes(
    onnx_file: Path, model: CSAInpainter
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    counts = set()
    for seed in range(50):
        image, mask = draw(seed, model.multiple)
        counts.add(tuple(mask.sum((1, 2, 3)).tolist()))
        outputs = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
        for ours, theirs in zip(own(model, image, mask), outputs, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=TOLERANCE, rtol=0)
    assert len(counts) > 40  # the holes differ, also within a batch


def test_onnx_model_says_what_sizes_it_takes(onnx_file: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata == {"multiple": "16", "size": "64"}


def test_evaluation_runs_the_onnx_model_as_it_runs_the_model(
    onnx_file: Path, model: CSAInpainter
) -> None:
    image, mask = draw(3, model.multiple)
    filled = OnnxModel(onnx_file)(Batch(image, mask, ["a"] * len(image)))
    expected = own(model, image, mask)[0].clamp(-1, 1)
    torch.testing.assert_close(filled, expected, atol=TOLERANCE, rtol=0)


def test_torch_graph_equals_the_model(torch_file: Path, model: CSAInpainter) -> None:
    graph = torch.export.load(torch_file)
    assert not [node for node in graph.graph.nodes if "csa_inpaint" in str(node.target)]
    filling = graph.module(check_guards=False)
    for seed in range(5):
        image, mask = draw(seed, model.multiple)
        for ours, theirs in zip(own(model, image, mask), filling(image, mask), strict=True):
            torch.testing.assert_close(theirs, ours, atol=TOLERANCE, rtol=0)


def test_example_fills_a_picture_without_torch(
    onnx_file: Path, model: CSAInpainter, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 53, 3), dtype=np.uint8)
    hole = np.zeros((40, 53), np.uint8)
    hole[9:30, 20:53] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(hole).save(tmp_path / "hole.png")
    blocked = "import runpy, sys; sys.modules.update(torch=None, csa_inpaint=None)\n"
    blocked += f"sys.argv = {[str(EXAMPLE), str(onnx_file), 'photo.png', 'hole.png', 'filled.png']}"
    blocked += f"\nrunpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", blocked], cwd=tmp_path, env=environment, check=True)
    filled = np.asarray(Image.open(tmp_path / "filled.png"))
    assert (filled[hole == 0] == pixels[hole == 0]).all()

    padding = ((0, 8), (0, 11))
    image = np.pad(pixels, (*padding, (0, 0)), mode="symmetric").transpose(2, 0, 1)[None]
    mask = np.pad(hole > 0, padding, mode="symmetric")[None, None]
    composite, *_ = own(
        model, torch.from_numpy(image / 127.5 - 1).float(), torch.from_numpy(mask).float()
    )
    expected = (composite[0, :, :40, :53].permute(1, 2, 0).clamp(-1, 1).numpy() + 1) * 127.5
    difference = np.abs(filled - expected)[hole > 0]
    assert difference.max() < 1
    assert np.ptp(filled[hole > 0]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("gated_conv.GatedConvGenerator", {"width": 4}),
        ("csa.Generator", {"width": 4, "depth": 5, "attention": {"patch_size": 3}}),
        ("csa.RoughGenerator", {"width": 4, "depth": 2}),
        ("csa.Generator", PRACTICAL),
        ("contextual_attention.ContextualAttentionGenerator", {"width": 4}),
        ("partial_conv.PartialConvGenerator", {"width": 4, "depth": 3}),
        ("context_encoder.ContextEncoderGenerator", {**ENCODER, "region": "all"}),
        ("glcic.GLCICGenerator", {"width": 4}),
    ],
)
def test_generators_of_all_kinds_export(
    method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs csa-inpaint[onnx]")
    if "attention" in settings:
        attention = {"_target_": "csa_inpaint.CSALayer", **settings["attention"]}
        settings = {**settings, "attention": attention}
    model = untrained(method, settings)
    (path,) = export_onnx(model, tmp_path / "model.onnx")
    for seed in range(3):
        image, mask = draw(seed, model.multiple)
        for ours, theirs in zip(own(model, image, mask), run(path, image, mask), strict=True):
            assert ours.std() > 5 * TOLERANCE
            torch.testing.assert_close(theirs, ours, atol=TOLERANCE, rtol=0)


def test_export_uses_the_average_and_leaves_the_model_as_it_is(
    torch_file: Path, model: CSAInpainter
) -> None:
    assert model.ema is not None
    assert all(parameter.requires_grad for parameter in model.generator.parameters())
    weights = torch.export.load(torch_file).state_dict
    for name, value in model.ema.module.state_dict().items():
        torch.testing.assert_close(weights[f"generator.{name}"], value)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("context_encoder.ContextEncoderGenerator", {**ENCODER, "region": "center"}),
        ("shift_net.ShiftNetGenerator", {"width": 4, "depth": 4}),
    ],
)
def test_export_names_a_generator_that_no_graph_can_hold(
    method: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = untrained(method, settings)
    name = method.split(".")[1]
    with pytest.raises(ValueError, match=f"{name} cannot be written as a graph"):
        export_torch(model, tmp_path / "model.pt2")
    assert "def forward" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_says_what_to_install(
    model: CSAInpainter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(exporting, "find_spec", missing)
    with pytest.raises(ModuleNotFoundError, match=r"csa-inpaint\[onnx\]"):
        export_onnx(model, tmp_path / "model.onnx")
