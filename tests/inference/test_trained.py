"""A trained model without its training: what is loaded, and what is not."""

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

from csa_inpaint import CSAInpainter, load_model
from csa_inpaint.inference import backends, inpaint, trained
from csa_inpaint.inference.backends import trained_generator
from csa_inpaint.inference.trained import load_trained
from csa_inpaint.training.sharing import write_safetensors, write_slim
from csa_inpaint.weights import shipped
from csa_inpaint.weights.targets import UntrustedTargetError

Make = Callable[..., Any]
OLD = Path(__file__).parents[1] / "fixtures/version_0_1_batch_3.pt"
HEAVY = {"matplotlib", "pytorch_lightning", "scipy", "torchmetrics", "torchvision"}


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    trained._loaded.cache_clear()


@pytest.fixture
def whole(trained_module: CSAInpainter, make_trainer: Make, tmp_path: Path) -> Path:
    """A checkpoint as a training writes it, with both generators and the losses' settings."""
    path = tmp_path / "whole.ckpt"
    trainer = make_trainer([])
    trainer.strategy.connect(trained_module)
    trainer.save_checkpoint(path)
    return path


def test_trained_model_is_the_averaged_generator(
    whole: Path, trained_module: CSAInpainter, make_batch: Make, tmp_path: Path
) -> None:
    write_slim(trained_module, tmp_path / "slim.ckpt")
    write_safetensors(trained_module, tmp_path / "folder")
    image, mask, _ = make_batch(0)
    expected = trained_module(image, mask).composite
    assert not torch.equal(trained_module.generator(image, mask).composite, expected)
    for name in ("whole.ckpt", "slim.ckpt", "folder"):
        loaded = load_trained(tmp_path / name)
        assert torch.equal(loaded(image, mask).composite, expected), name
        assert trained_generator(loaded) is loaded.generator
        assert not loaded.training
        assert loaded.multiple == trained_module.multiple
        assert loaded.trained_size == load_model(tmp_path / name).trained_size
    assert load_trained(tmp_path / "folder").trained_size == trained_module.trained_size


def test_trained_model_without_an_average_is_the_generator(
    make_module: Make, make_trainer: Make, tmp_path: Path
) -> None:
    module = make_module(ema_decay=None)
    trainer = make_trainer([])
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    state = load_trained(tmp_path / "plain.ckpt").generator.state_dict()
    for name, value in module.generator.state_dict().items():
        assert torch.equal(state[name], value), name


def test_trained_model_of_the_first_version_loads(make_batch: Make) -> None:
    image, mask, _ = make_batch(0)
    old, expected = load_trained(OLD), load_model(OLD)
    assert torch.equal(old(image, mask).composite, expected(image, mask).composite)
    assert old.trained_size == expected.trained_size


def test_trained_model_is_refused_in_the_words_of_a_model(whole: Path) -> None:
    content = torch.load(whole, weights_only=True)

    def refused(expected: type[Exception], match: str, **changes: Any) -> None:
        torch.save({**content, **changes}, whole)
        with pytest.raises(expected, match=match):
            load_trained(whole)

    settings, state = content["hyper_parameters"], content["state_dict"]
    refused(ValueError, r"whole\.ckpt holds weights, but not the settings", hyper_parameters=None)
    other = {**settings, "generator": {**settings["generator"], "sharpness": 2}}
    refused(ValueError, r"its settings do not fit.*'sharpness'", hyper_parameters=other)
    foreign = {**settings, "generator": {"_target_": "os.getcwd"}}
    refused(UntrustedTargetError, r"asks to call 'os\.getcwd'", hyper_parameters=foreign)
    key = next(key for key in state if key.startswith("ema.module."))
    less = {name: value for name, value in state.items() if name != key}
    missing = key.removeprefix("ema.module.")
    refused(ValueError, rf"do not fit its settings.*missing \(1\): {missing}", state_dict=less)


def test_inpaint_takes_the_model_by_its_name_or_path(starter: CSAInpainter) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    hole = np.zeros((40, 50), bool)
    hole[10:30, 20:40] = True
    expected = inpaint(starter, pixels, hole)
    assert np.array_equal(inpaint("pretrained", pixels, hole), expected)
    path = shipped.FOLDER / "starter.safetensors"
    assert np.array_equal(inpaint(path, pixels, hole), expected)
    with pytest.raises(FileNotFoundError, match=r"there is no file other\.ckpt"):
        inpaint("other.ckpt", pixels, hole)


def test_inpaint_reads_a_model_once_until_its_file_changes(
    starter: CSAInpainter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[object] = []
    monkeypatch.setattr(trained, "load_trained", lambda path, trust: read.append(path) or starter)
    pixels, hole = np.zeros((40, 50, 3), np.uint8), np.eye(40, 50, dtype=bool)
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"one")
    for _ in range(2):
        inpaint(path, pixels, hole)
    assert read == [path]
    path.write_bytes(b"another")
    inpaint(path, pixels, hole)
    assert read == [path, path]


def test_inpaint_by_path_works_in_and_after_inference_mode(
    starter: CSAInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "multiplies_bfloat16", lambda: True)
    pixels, hole = np.zeros((40, 50, 3), np.uint8), np.eye(40, 50, dtype=bool)
    with torch.inference_mode():
        expected = inpaint("pretrained", pixels, hole)
    assert np.array_equal(inpaint("pretrained", pixels, hole), expected)


def test_predict_loads_nothing_of_a_training(starter: CSAInpainter, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "photo.png")
    hole = Image.new("L", (64, 64))
    hole.paste(255, (20, 20, 44, 44))
    hole.save(tmp_path / "hole.png")
    arguments = [f"checkpoint={shipped.FOLDER / 'starter.safetensors'}", "images=photo.png"]
    arguments += ["masks=hole.png", "output=filled.png", "device=cpu"]
    code = f"import runpy, sys; sys.argv[1:] = {arguments}\n"
    code += "runpy.run_module('csa_inpaint.predict', run_name='__main__')\n"
    code += "print('loaded', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.partition("loaded")[2].split())
    assert (tmp_path / "filled.png").is_file()
    assert "torch" in loaded
    # The first call of an operator imports PyTorch's compiler, and so does torchvision.
    assert not loaded & {*HEAVY, "torch._dynamo"}
