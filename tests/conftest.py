"""Fixtures of the tests of training: a tiny model, its batches and a quiet Trainer."""

import os
import socket

# The networks here are tiny: a second thread costs more in waiting than it brings. Set before
# torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from two_processes import in_process

from csa_inpaint import CSAInpainter
from csa_inpaint.training.sharing import write_safetensors
from csa_inpaint.types import Batch
from csa_inpaint.weights import released, shipped

SIZE = 64


class Batches:
    """A data loader of given batches, which a run can leave and resume at any of them."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.next = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for index in range(self.next % len(self.batches), len(self.batches)):
            self.next = index + 1
            yield self.batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.next = state_dict["next"]


def random_batch(seed: int, batch: int = 1, size: int = SIZE) -> Batch:
    """Random images, each with a rectangular hole of its own."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, size, size, generator=generator) * 2 - 1
    mask = torch.zeros(batch, 1, size, size)
    for index in range(batch):
        top, left = torch.randint(8, size // 2, (2,), generator=generator).tolist()
        mask[index, :, top : top + size // 2 - 4, left : left + size // 2 - 8] = 1
    return Batch(image, mask, [f"{seed}_{index}.jpg" for index in range(batch)])


class SaveAfter(pl.callbacks.Checkpoint):
    """Saves ``batch_<n>.ckpt`` after the given numbers of batches, ``epoch_<n>.ckpt`` after each
    epoch and ``end.ckpt``. It runs where ModelCheckpoint does, after all other hooks."""

    def __init__(self, folder: Path, batches: tuple[int, ...] = ()) -> None:
        self.folder, self.batches, self.done = folder, batches, 0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.done += 1
        if self.done in self.batches:
            trainer.save_checkpoint(self.folder / f"batch_{self.done}.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.folder / f"epoch_{trainer.current_epoch}.ckpt")

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.folder / "end.ckpt")


def tiny(**settings: Any) -> dict[str, Any]:
    """Arguments of a model that takes 64×64 images and trains a step in a few milliseconds."""
    return {"width": 4, "depth": 4, "vgg": {"weights": "random", "width": 4}, **settings}


@pytest.fixture
def make_module() -> Callable[..., CSAInpainter]:
    """Builds the same tiny model every time; ``cls`` names a subclass."""

    def make(
        cls: type[CSAInpainter] = CSAInpainter, seed: int = 0, **settings: Any
    ) -> CSAInpainter:
        torch.manual_seed(seed)
        return cls(**tiny(**settings))

    return make


@pytest.fixture
def trained_module(make_module: Callable[..., CSAInpainter]) -> CSAInpainter:
    """A tiny model in evaluation mode whose average differs from its latest weights."""
    module = make_module(seed=5)
    assert module.ema is not None
    for value in module.ema.module.parameters():
        value.mul_(1.01)
    module.trained_size = SIZE
    return module.eval()


@pytest.fixture
def starter(
    trained_module: CSAInpainter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CSAInpainter:
    """The tiny model, as the only one that comes with the library."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    write_safetensors(trained_module, folder / "starter.safetensors")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return trained_module


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture
def make_batches() -> Callable[..., Batches]:
    """A resumable loader of ``count`` random batches, or of those given."""

    def make(count: int = 2, batch: int = 1, given: list[Batch] | None = None) -> Batches:
        return Batches(given or [random_batch(seed, batch) for seed in range(count)])

    return make


@pytest.fixture
def save_after(tmp_path: Path) -> Callable[..., SaveAfter]:
    """The callback that saves to a folder below ``tmp_path``."""

    def make(folder: str = ".", batches: tuple[int, ...] = ()) -> SaveAfter:
        return SaveAfter(tmp_path / folder, batches)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """A Trainer on the CPU that writes and prints nothing."""

    def make(callbacks: list[pl.Callback] | None = None, **settings: Any) -> pl.Trainer:
        # Initial weights and random draws in a step must not depend on the tests before.
        torch.manual_seed(1)
        settings = {"max_epochs": 1, "logger": False, "num_sanity_val_steps": 0, **settings}
        return pl.Trainer(
            accelerator="cpu",
            devices=1,
            callbacks=callbacks,
            enable_checkpointing=any(
                isinstance(c, pl.callbacks.Checkpoint) for c in callbacks or ()
            ),
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **settings,
        )

    return make


@pytest.fixture
def in_two_processes() -> Callable[..., None]:
    """Runs a function of a test module in two processes that can find each other."""

    def run(function: Callable[..., None], *arguments: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torch.multiprocessing.spawn(in_process, (function, port, arguments), nprocs=2)

    return run


def released_state(network: nn.Module, layers: Mapping[str, str]) -> dict[str, Tensor]:
    """A network's weights under their released names."""
    names = {ours: theirs for theirs, ours in layers.items()}
    state = {}
    for key, value in network.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        state[f"{names[layer]}.{kind}"] = value
    return state


@pytest.fixture
def save_released(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Saves networks as the authors' implementation does; returns the files by our names."""

    def save(
        generator: nn.Module,
        patch: nn.Module | None = None,
        feature: nn.Module | None = None,
        epoch: int = 30,
    ) -> dict[str, Path]:
        networks = {
            "rough": ("P", generator.rough, released.rough_layers()),
            "refine": ("G", generator.refinement, released.refinement_layers()),
            "patch": ("D", patch, released.PATCH_LAYERS),
            "feature": ("F", feature, released.FEATURE_LAYERS),
        }
        files = {}
        for name, (letter, network, layers) in networks.items():
            if network is not None:
                files[name] = tmp_path / f"{epoch}_net_{letter}.pth"
                torch.save(released_state(network, layers), files[name])
        return files

    return save


def _differences(one: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(one, Tensor):
        if not isinstance(other, Tensor) or not torch.equal(one, other):
            yield where
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            yield f"{where}: keys {set(one) ^ set(other)}"
        for key in one.keys() & other.keys():
            yield from _differences(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield where
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(*pair, f"{where}.{index}")
    elif one != other:
        yield f"{where}: {one} and {other}"


@pytest.fixture
def assert_same_state() -> Callable[[Path, Path], None]:
    """Compares two checkpoints bit by bit: weights and averages, optimizers, schedules, gradients
    that wait for an update, and the counters."""

    def check(one: Path, other: Path) -> None:
        first, second = (torch.load(path, weights_only=True) for path in (one, other))
        kept = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
        for key in (*kept, "window"):
            assert list(_differences(first.get(key), second.get(key), key)) == []
        assert all(key in first for key in kept)

    return check
