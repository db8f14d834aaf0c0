"""What the tests of evaluation share: pictures, a checkpoint, and a command's run."""

import base64
import contextlib
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from csa_inpaint import CSAInpainter
from csa_inpaint.evaluation.records import Record

# Made with onnx.helper: inputs `picture` (1, 3, h, w) and `hole` (1, 1, h, w), both float,
# filled = picture · (1 - hole) + 0.75 · hole.
GREY = (
    "CAg6/QEKFwoDb25lCgRob2xlEgVrbm93biIDU3ViChsKB3BpY3R1cmUKBWtub3duEgRrZXB0IgNNdWwKGgoEaG9sZQoEZ3J"
    "leRIHcGFpbnRlZCIDTXVsChwKBGtlcHQKB3BhaW50ZWQSBmZpbGxlZCIDQWRkEgFnKg0QASIEAACAP0IDb25lKg4QASIEAA"
    "BAP0IEZ3JleVojCgdwaWN0dXJlEhgKFggBEhIKAggBCgIIAwoDEgFoCgMSAXdaIAoEaG9sZRIYChYIARISCgIIAQoCCAEKA"
    "xIBaAoDEgF3YiIKBmZpbGxlZBIYChYIARISCgIIAQoCCAMKAxIBaAoDEgF3QgQKABAN"
)


class Outcome(NamedTuple):
    """What a command left: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """Runs ``python -m csa_inpaint.<command>`` in this process."""

    def call(command: str, *arguments: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        argv, sys.argv = sys.argv, [f"csa_inpaint.{command}", *arguments]
        status = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                importlib.import_module(f"csa_inpaint.{command}").main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.argv = argv
            GlobalHydra.instance().clear()
        return Outcome(status, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of five smooth pictures of 80×72 pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    y, x = np.mgrid[0:72, 0:80] / 12.0
    for number in range(5):
        waves = [np.sin(x * (1 + c) + number) * np.cos(y - c * number) for c in range(3)]
        pixels = np.stack(waves, axis=-1) * 100 + 128
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def data(pictures: Path) -> list[str]:
    """Overrides that name all of these pictures at 64×64, with random rectangular holes."""
    return [
        "+data=folder",
        f"data.root={pictures}",
        f"data.layout.val_root={pictures}",
        "data.size=64",
        "data.num_workers=0",
        "+mask=rectangle",
    ]


@pytest.fixture
def checkpoint(
    make_module: Callable[..., CSAInpainter],
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
) -> Path:
    """A checkpoint of an untrained tiny model, without a configuration."""
    trainer = make_trainer()
    trainer.strategy.connect(make_module())
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    return tmp_path / "model.ckpt"


def record(number: int, ratio: float = 0.25, **scores: dict[str, float]) -> Record:
    """A record with given scores by method."""
    return Record(number, f"{number}", f"{number}.png", f"{number}", ratio, scores, {})


@pytest.fixture
def make_record() -> Callable[..., Record]:
    return record


@pytest.fixture
def grey_model(tmp_path: Path) -> Path:
    """A file of the ONNX model that paints holes grey."""
    pytest.importorskip("onnxruntime")
    path = tmp_path / "grey.onnx"
    path.write_bytes(base64.b64decode(GREY))
    return path
