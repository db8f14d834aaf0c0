"""Starting from weights: what is loaded, what is reported, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from csa_inpaint.adversaries import FeatureAdversary, LeastSquares, PatchAdversary
from csa_inpaint.callbacks import InitFrom, init_from

Make = Callable[..., Any]


def patch(width: int = 4) -> PatchAdversary:
    return PatchAdversary(LeastSquares(), width=width)


def feature() -> FeatureAdversary:
    return FeatureAdversary(LeastSquares(), width=8)


class Start(pl.Callback):
    """Records the weights that a training starts from."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.state = {key: value.clone() for key, value in pl_module.state_dict().items()}


@pytest.fixture
def saved(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> Path:
    """The checkpoint of a short training against a patch discriminator."""
    trainer = make_trainer([patch(), save_after()], max_epochs=3)
    trainer.fit(make_module(seed=3, learning_rate=1e-2), make_batches(2))
    return tmp_path / "end.ckpt"


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(init_from, "rank_zero_info", messages.append)
    return messages


@pytest.fixture
def start(make_module: Make, make_batches: Make, make_trainer: Make) -> Make:
    """Trains an epoch from a checkpoint's weights, and returns the weights at the start."""

    def run(path: Path, *adversaries: pl.Callback, **settings: Any) -> dict[str, Tensor]:
        start = Start()
        trainer = make_trainer([*adversaries, InitFrom(path), start])
        trainer.fit(make_module(seed=8, **settings), make_batches(1))
        return start.state

    return run


def of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_init_from_loads_every_network_and_restarts_the_average(
    saved: Path, start: Make, reports: list[str]
) -> None:
    old, new = torch.load(saved, weights_only=True)["state_dict"], start(saved, patch())
    assert same(of(new, "generator."), of(old, "generator."))
    assert same(of(new, "discriminators."), of(old, "discriminators."))
    assert same(of(new, "ema.module."), of(old, "generator."))
    assert not same(of(new, "ema.module."), of(old, "ema.module."))
    assert new["ema.n_averaged"] == 0
    (report,) = reports
    count = len(of(old, "generator.")) + len(of(old, "discriminators."))
    assert f"loaded {count} of {count} tensors" in report
    assert not any(word in report for word in ("missing", "unexpected", "misshapen", "settings"))


def test_init_from_loads_weights_only(
    saved: Path, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    trainer = make_trainer([patch(), InitFrom(saved)], max_epochs=1)
    trainer.fit(make_module(), make_batches(2))
    assert trainer.current_epoch == 1
    assert trainer.global_step == 4  # two optimizers
    assert all(
        float(values["step"]) == 2
        for optimizer in trainer.optimizers
        for values in optimizer.state.values()
    )


def test_init_from_takes_other_adversaries(saved: Path, start: Make, reports: list[str]) -> None:
    old, new = torch.load(saved, weights_only=True)["state_dict"], start(saved, feature())
    assert same(of(new, "generator."), of(old, "generator."))
    (report,) = reports
    assert "missing (6): discriminators.feature.0.weight" in report
    assert f"unexpected ({len(of(old, 'discriminators.'))}): discriminators.patch.0" in report

    start(saved, patch(width=6), feature())
    assert "misshapen" in reports[1]
    assert "discriminators.patch.0.weight is (4, 3, 4, 4), expected (6, 3, 4, 4)" in reports[1]


def test_init_from_names_the_settings_that_differ(
    saved: Path, start: Make, reports: list[str]
) -> None:
    state = torch.load(saved, weights_only=True)
    state["hyper_parameters"]["generator"]["attention"]["similarity"] = "cosine"
    torch.save(state, saved)
    start(saved, attention={"similarity": "released"}, detach_rough=True)
    assert "generator.attention.similarity=released (checkpoint: cosine)" in reports[0]
    assert "generator.detach_rough=True (checkpoint: default)" in reports[0]


def test_init_from_refuses_weights_that_do_not_fit(
    saved: Path,
    start: Make,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"end\.ckpt: .*do not fit.*width=6 \(checkpoint: 4\)"):
        start(saved, width=6)
    with pytest.raises(ValueError, match=r"do not fit.*generator\.depth=5 \(checkpoint: 4\)"):
        start(saved, depth=5)
    # some levels of a wide, shallow network happen to have the shapes of a narrow, deep one's
    make_trainer([save_after("deep")]).fit(make_module(depth=6), make_batches(1))
    with pytest.raises(ValueError, match=r"width=16 \(checkpoint: 4\); generator\.depth=4"):
        start(tmp_path / "deep/end.ckpt", width=16)

    checkpoint = torch.load(saved, weights_only=True)
    checkpoint["state_dict"] = {"generator.other.weight": torch.zeros(1)}
    torch.save(checkpoint, saved)
    with pytest.raises(ValueError, match="do not fit this one: its layers are others"):
        start(saved)


def test_init_from_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.ckpt"):
        InitFrom(tmp_path / "absent.ckpt")
    torch.save({"state_dict": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of csa_inpaint"):
        InitFrom(tmp_path / "other.ckpt")


def test_init_from_leaves_validation_alone(
    saved: Path, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(seed=8)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    make_trainer([InitFrom(saved)]).validate(module, make_batches(1), verbose=False)
    assert same(module.state_dict(), before)
