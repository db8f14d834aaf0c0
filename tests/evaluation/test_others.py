"""Methods from outside: ONNX models, and folders of results."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.evaluation import others
from csa_inpaint.evaluation.others import OnnxModel, ResultsFolder
from csa_inpaint.types import Batch


@pytest.fixture
def batch() -> Batch:
    """Two pictures of 8×6 with holes of their own."""
    torch.manual_seed(0)
    mask = torch.zeros(2, 1, 8, 6)
    mask[0, :, 2:4, 1:5] = mask[1, :, 5:7] = 1
    return Batch(torch.rand(2, 3, 8, 6) * 2 - 1, mask, ["a", "below/b"])


class Session:
    """Stands for an ONNX session: keeps what it is given and returns a given picture."""

    def __init__(self, image: str, mask: str, result: Any, channels: tuple[Any, Any] = (3, 1)):
        self.inputs = [
            SimpleNamespace(name="x", type=image, shape=[1, channels[0], "h", "w"]),
            SimpleNamespace(name="m", type=mask, shape=[1, channels[1], "h", "w"]),
        ]
        self.result = result
        self.given: list[dict[str, Any]] = []

    def get_inputs(self) -> list[Any]:
        return self.inputs

    def run(self, names: None, given: dict[str, Any]) -> list[Any]:
        self.given.append(given)
        return [self.result(given) if callable(self.result) else self.result]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*arguments: Any, **settings: Any) -> Session:
        session = Session(*arguments, **settings)
        monkeypatch.setattr(others, "_open", lambda path: session)
        return session

    return use


def test_onnx_file_is_run_with_its_own_range(grey_model: Path, batch: Batch) -> None:
    filled = OnnxModel(grey_model, range=[0, 1])(batch)
    expected = torch.where(batch.mask > 0, 0.5, batch.image)  # 0.75 of [0, 1]
    torch.testing.assert_close(filled, expected)
    outside = OnnxModel(grey_model, range=[0, 255])(batch)
    assert outside[0, 0, 2, 1] == pytest.approx(2 * 0.75 / 255 - 1)


def test_onnx_file_that_is_none_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.onnx cannot be read as an ONNX model"):
        OnnxModel(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        OnnxModel(tmp_path / "absent.onnx")


def test_onnx_model_of_bytes_gets_rounded_bytes(stub: Any, batch: Batch) -> None:
    session = stub("tensor(uint8)", "tensor(uint8)", lambda given: given["x"])
    settings = {"range": [0, 255], "mask_range": [0, 255], "polarity": "black"}
    filled = OnnxModel("any.onnx", **settings)(batch)
    first = session.given[0]
    pixels = ((batch.image[:1] + 1) * 127.5).round().byte().numpy()
    assert first["x"].dtype == first["m"].dtype == np.uint8
    assert np.array_equal(first["x"], pixels)
    assert np.array_equal(first["m"], ((1 - batch.mask[:1]) * 255).byte().numpy())
    assert (filled - batch.image).abs().max() < 1 / 127.5


def test_onnx_model_works_at_its_size(stub: Any, batch: Batch) -> None:
    session = stub("tensor(float)", "tensor(float)", np.full((1, 3, 16, 12), 0.3, np.float32))
    filled = OnnxModel("any.onnx", size=[16, 12])(batch)
    assert session.given[0]["x"].shape == (1, 3, 16, 12)
    assert set(np.unique(session.given[0]["m"])) == {0, 1}
    assert session.given[0]["m"].mean() == pytest.approx(batch.mask[0].mean().item())
    torch.testing.assert_close(filled, torch.full_like(batch.image, 0.3))


def test_onnx_output_may_have_a_range_of_its_own(stub: Any, batch: Batch) -> None:
    stub("tensor(float)", "tensor(float)", np.full((1, 3, 8, 6), 255.0, np.float32))
    filled = OnnxModel("any.onnx", output_range=[0, 255])(batch)
    assert torch.equal(filled, torch.ones_like(filled))


def test_onnx_inputs_are_found_by_channels_or_name(stub: Any, batch: Batch) -> None:
    stub("tensor(float)", "tensor(float)", np.zeros((1, 3, 8, 6)), channels=("c", "c"))
    with pytest.raises(ValueError, match=r"x tensor\(float\).*which one takes the image.*image="):
        OnnxModel("any.onnx")
    assert OnnxModel("any.onnx", image="x", mask="m")(batch).shape == batch.image.shape


def test_onnx_result_of_another_size_is_refused(stub: Any, batch: Batch) -> None:
    stub("tensor(float)", "tensor(float)", np.zeros((1, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"returns \(1, 3, 16, 16\) for a picture \(1, 3, 8, 6\)"):
        OnnxModel("any.onnx")(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"polarity": "grey"}, "polarity=grey"), ({"range": [1, -1]}, r"range=\[1, -1\]")],
)
def test_onnx_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnnxModel("any.onnx", **settings)


def test_results_are_read_by_name(tmp_path: Path, batch: Batch) -> None:
    pixels = ((batch.image + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    (tmp_path / "below").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    Image.fromarray(pixels[1]).save(tmp_path / "below/b.bmp")
    results = ResultsFolder(tmp_path, batch.path)
    assert (results(batch) - batch.image).abs().max() < 1 / 127.5
    swapped = results(batch._replace(path=batch.path[::-1]))
    assert torch.equal(swapped, results(batch).flip(0))


def test_results_that_do_not_fit_are_named(tmp_path: Path, batch: Batch) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"no result for 1 of 2 samples.*below/b"):
        ResultsFolder(tmp_path, batch.path)
    results = ResultsFolder(tmp_path, ["a"])
    with pytest.raises(ValueError, match=r"a\.png is \(6, 8\).*its sample \(8, 6\)"):
        results(Batch(batch.image[:1], batch.mask[:1], ["a"]))
    Image.new("RGB", (8, 6)).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match="differ only in their extension"):
        ResultsFolder(tmp_path, ["a"])
