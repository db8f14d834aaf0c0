"""A step that failed is kept, and its replay finds the fault."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import (
    WGANGP,
    FeatureAdversary,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.callbacks import DumpBadBatch
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.losses.terms import Term
from csa_inpaint.replay import Report, replay
from csa_inpaint.training.finiteness import NonFiniteLossError
from csa_inpaint.types import Batch, Inpainting
from csa_inpaint.weights.targets import UntrustedTargetError

Make = Callable[..., Any]

CONFIG: dict[str, Any] = {
    "model": {
        "_target_": "csa_inpaint.CSAInpainter",
        "width": 4,
        "depth": 4,
        "vgg": {"weights": "random", "width": 4},
    },
    "objective": {"_target_": "csa_inpaint.adversaries.WGANGP"},
    "adversary": {
        "patch": {
            "_target_": "csa_inpaint.adversaries.PatchAdversary",
            "width": 4,
            "objective": "${objective}",
        },
        "feature": {
            "_target_": "csa_inpaint.adversaries.FeatureAdversary",
            "width": 8,
            "objective": {"_target_": "csa_inpaint.adversaries.RelativisticAverageLeastSquares"},
        },
    },
}


def callbacks(folder: Path, **model: Any) -> list[pl.Callback]:
    config = {**CONFIG, "model": {**CONFIG["model"], **model}}
    return [
        PatchAdversary(WGANGP(), width=4),
        FeatureAdversary(RelativisticAverageLeastSquares(), width=8),
        DumpBadBatch(folder, config),
    ]


def settings(dump: Path, **changed: Any) -> DictConfig:
    """The command's configuration, on the CPU."""
    cfg = OmegaConf.load(config_directory() / "replay.yaml")
    assert isinstance(cfg, DictConfig)
    cfg.trainer.accelerator = "cpu"
    return OmegaConf.merge(cfg, {"dump": str(dump), **changed})  # type: ignore[return-value]


def failing(trainer: pl.Trainer, module: CSAInpainter, batches: Any) -> tuple[str, Path]:
    """The message of the error, and the dump that the message names."""
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit(module, batches)
    (note,) = caught.value.__notes__
    command = shlex.split(note.splitlines()[-1])
    assert command[:3] == ["python", "-m", "csa_inpaint.replay"]
    return str(caught.value), Path(command[3].removeprefix("dump="))


def poisoned(batch: Batch, place: str) -> Batch:
    """The batch with a NaN in the hole, which the generator does not see, or outside it."""
    row, column = (batch.mask[0, 0] == (place == "hole")).nonzero()[0].tolist()
    batch.image[0, 0, row, column] = float("nan")
    return batch


# --- a batch that is not finite -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("hole", "the output of vgg (VGG16Features), whose input is not finite"),
        ("known", "the output of generator.rough.down.0.0 (Conv2d), whose input is not finite"),
    ],
)
def test_replay_of_a_bad_batch_fails_again(
    place: str,
    first: str,
    make_module: Make,
    make_batches: Make,
    make_batch: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    bad = poisoned(make_batch(9, 2), place)
    batches = make_batches(given=[make_batch(0), make_batch(1), bad])
    message, dump = failing(make_trainer(callbacks(tmp_path)), make_module(), batches)
    assert dump == tmp_path / "bad_batch_step_2_rank_0.pt"

    report = replay(settings(dump))
    assert report.failure is not None
    assert report.failure.split(", in epoch")[0] == message.split(", in epoch")[0]
    assert report.weights == []
    assert report.first is not None
    assert report.first.startswith(first)
    printed = capsys.readouterr().out
    assert "The batch's image holds values that are not finite." in printed
    assert "The failure reproduces with precision 32-true" in printed
    assert message in printed


def test_dump_holds_the_step(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make, tmp_path: Path
) -> None:
    bad = poisoned(make_batch(9, 2), "known")
    module = make_module()
    trainer = make_trainer(callbacks(tmp_path))
    message, path = failing(trainer, module, make_batches(given=[make_batch(0), bad]))
    dump = torch.load(path, weights_only=True)
    assert (dump["step"], dump["epoch"], dump["rank"], dump["reason"]) == (1, 0, 0, message)
    assert torch.equal(dump["image"].nan_to_num(7), bad.image.nan_to_num(7))
    assert torch.equal(dump["mask"], bad.mask)
    assert dump["path"] == bad.path
    assert dump["seed"] == module.step_seed
    assert dump["precision"] == "32-true"
    assert dump["config"]["objective"] == CONFIG["objective"]
    assert {"python", "torch", "csa-inpaint"} <= set(dump["versions"])
    state = {k: v for k, v in module.state_dict().items() if not k.startswith("ema.")}
    assert dump["weights"].keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in dump["weights"].items())


def test_other_errors_leave_no_dump(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    class Broken(CSAInpainter):
        def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
            raise RuntimeError("broken")

    trainer = make_trainer([DumpBadBatch(tmp_path, CONFIG)])
    with pytest.raises(RuntimeError, match="broken"):
        trainer.fit(make_module(Broken), make_batches(1))
    assert not list(tmp_path.glob("*.pt"))


# --- a step that is exactly the failed one -------------------------------------------------------


class Strict(CSAInpainter):
    """Makes the generator's terms of the third step NaN, and records their values."""

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        terms = super().generator_terms(batch, out)
        if self.trainer.fit_loop.epoch_loop.total_batch_idx == 2:
            self.values = {term.name: float(term.loss.detach()) for term in terms}
            return [terms[0]._replace(loss=terms[0].loss * float("nan")), *terms[1:]]
        return terms

    def discriminator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        terms = super().discriminator_terms(batch, out)
        self.random = float(torch.rand(()))
        return terms


@pytest.mark.parametrize("accumulate_batches", [1, 2])
def test_replay_sees_the_values_of_the_failed_step(
    accumulate_batches: int,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    changed = {"accumulate_batches": accumulate_batches, "learning_rate": 1e-2}
    module = make_module(Strict, **changed)
    trainer = make_trainer(callbacks(tmp_path, **changed))
    _, dump = failing(trainer, module, make_batches(3))

    drawn: list[float] = []
    original = CSAInpainter.generator_terms

    def generator_terms(self: CSAInpainter, batch: Batch, out: Inpainting) -> list[Term]:
        drawn.append(float(torch.rand(())))
        return original(self, batch, out)

    monkeypatch.setattr(CSAInpainter, "generator_terms", generator_terms)
    report = replay(settings(dump))
    assert {
        term.name: term.value for term in report.terms if term.name in module.values
    } == module.values
    assert drawn == [module.random]
    assert all(term.gradient_norm > 0 for term in report.terms)
    assert report == Report(None, None, [], report.terms)
    assert "does not reproduce with precision 32-true" in capsys.readouterr().out


# --- what was at fault ----------------------------------------------------------------------------


def test_replay_names_weights_that_were_not_finite(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    module = make_module()
    with torch.no_grad():
        module.generator.refinement.last[1].weight[0, 0, 0, 0] = float("inf")
    _, dump = failing(make_trainer(callbacks(tmp_path)), module, make_batches(1))
    report = replay(settings(dump))
    assert report.weights == ["generator.refinement.last.1.weight"]
    assert report.first == "the output of generator.refinement.last.1 (ConvTranspose2d)"


class Rooted(CSAInpainter):
    """Has a term whose value is finite and whose gradient is not, on the second batch."""

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        terms = super().generator_terms(batch, out)
        if batch.path == ["1_0.jpg"]:
            terms.append(Term("generator/rooted", (0 * out.rough).sum().sqrt(), 1.0))
        return terms


def test_replay_finds_a_gradient_that_is_not_finite(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    module = make_module(Rooted)
    trainer = make_trainer(callbacks(tmp_path, _target_=f"{__name__}.Rooted"))
    message, dump = failing(trainer, module, make_batches(3))
    assert message.startswith("the gradient of generator.rough.down.0.0.weight, ")
    assert "on the batch of 1_0.jpg" in message
    assert all(p.isfinite().all() for p in module.parameters())  # the error came before the update

    report = replay(settings(dump, trust=[__name__]))
    assert report.failure == message
    assert report.first is None
    lost = {term.name: term.gradient_lost_at for term in report.terms if term.gradient_lost_at}
    assert lost == {"generator/rooted": "generator.rough.up.3.2 (Tanh)"}
    assert "reaches the output of generator.rough.up.3.2 (Tanh)" in capsys.readouterr().out


def test_replay_tries_another_precision(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    _, dump = failing(
        make_trainer(callbacks(tmp_path), precision="bf16-mixed"),
        make_module(),
        make_batches(given=[poisoned(make_batches(1).batches[0], "known")]),
    )
    replay(settings(dump))
    assert "The failure reproduces with precision bf16-mixed" in capsys.readouterr().out
    content = torch.load(dump, weights_only=True)
    content["image"] = content["image"].nan_to_num()
    torch.save(content, dump)
    replay(settings(dump, precision=32))
    assert "The failure does not reproduce with precision 32" in capsys.readouterr().out


def test_replay_refuses_something_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'other.pt'} is no bad_batch_")):
        replay(settings(tmp_path / "other.pt"))
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        replay(settings(tmp_path / "absent.pt"))


def test_replay_calls_nothing_that_a_stranger_names(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make, tmp_path: Path
) -> None:
    batches = make_batches(given=[poisoned(make_batch(9, 2), "hole")])
    _, path = failing(make_trainer(callbacks(tmp_path)), make_module(), batches)
    dump = torch.load(path, weights_only=True)
    written = tmp_path / "written"
    evil = {"_target_": "pathlib.Path.write_text", "_args_": [str(written), "x"]}
    for key, config in (
        ("objective", {**CONFIG, "objective": evil}),
        ("adversary", {**CONFIG, "adversary": {"patch": evil}}),
        ("model", {**CONFIG, "model": {**CONFIG["model"], "vgg": evil}}),
    ):
        torch.save({**dump, "config": config}, path)
        with pytest.raises(UntrustedTargetError, match="asks to call 'pathlib"):
            replay(settings(path))
        assert not written.exists(), key


def test_replay_takes_the_generators_step_whatever_the_pace(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make, tmp_path: Path
) -> None:
    bad = make_batch(9)
    bad.image[bad.mask.expand(-1, 3, -1, -1) > 0.5] = float("inf")
    dump = DumpBadBatch(tmp_path, {**CONFIG, "model": {**CONFIG["model"], "generator_every": 2}})
    module = make_module(generator_every=2)
    batches = make_batches(given=[make_batch(0), bad])
    with pytest.raises(NonFiniteLossError, match=r"generator/l1_rough = inf"):
        make_trainer([dump]).fit(module, batches)
    (path,) = tmp_path.glob("bad_batch_*.pt")
    content = torch.load(path, weights_only=True)
    content["config"]["adversary"] = {}
    torch.save(content, path)
    report = replay(settings(path))
    assert report.failure is not None
    assert "generator/l1_rough" in {term.name for term in report.terms}
