"""Saving, loading and resuming: other versions, other settings, other adversaries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from csa_inpaint import CSAInpainter, Inpainter, load_model
from csa_inpaint.adversaries import Hinge, LeastSquares, PatchAdversary
from csa_inpaint.training import checkpoint as checkpoints
from csa_inpaint.training import module as modules
from csa_inpaint.weights.targets import UntrustedTargetError

Make = Callable[..., Any]

FIXTURES = Path(__file__).parents[1] / "fixtures"
# A checkpoint of version 0.1 from the middle of a window, and that training's final weights.
OLD = FIXTURES / "version_0_1_batch_3.pt"
OLD_END = FIXTURES / "version_0_1_end.safetensors"


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages of a resumed training about its settings."""
    said: list[str] = []
    monkeypatch.setattr(checkpoints, "rank_zero_info", said.append)
    monkeypatch.setattr(modules, "rank_zero_info", said.append)
    return said


# --- version 0.1 ---------------------------------------------------------------------------------


def old_settings() -> dict[str, Any]:
    settings = torch.load(OLD, weights_only=True)["hyper_parameters"]
    assert "generator" not in settings
    return dict(settings)


def test_checkpoint_of_version_0_1_loads(make_batch: Make) -> None:
    loaded = CSAInpainter.load_from_checkpoint(OLD)
    state = torch.load(OLD, weights_only=True)["state_dict"]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[name]), name
    batch = make_batch(0, size=32)
    expected = loaded(batch.image, batch.mask).composite
    assert torch.equal(load_model(OLD)(batch.image, batch.mask).composite, expected)


def test_checkpoint_of_version_0_1_resumes_as_that_version_did(
    make_batches: Make, make_batch: Make, make_trainer: Make, messages: list[str]
) -> None:
    torch.manual_seed(9)
    module = CSAInpainter(**old_settings())
    batches = make_batches(given=[make_batch(seed, size=32) for seed in range(4)])
    trainer = make_trainer([PatchAdversary(Hinge(), width=2)], max_epochs=2)
    trainer.fit(module, batches, ckpt_path=OLD, weights_only=True)
    assert trainer.global_step == 8
    state = module.state_dict()
    for name, value in load_file(OLD_END).items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    assert messages == []


# --- a changed configuration ---------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_resumed_run_goes_on_with_its_own_schedule_and_rates(
    unit: str,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    messages: list[str],
    tmp_path: Path,
) -> None:
    def fit(epochs: int, schedule: dict[str, Any], rate: float, **options: Any) -> pl.Trainer:
        module = make_module(schedule={**schedule, "unit": unit}, learning_rate=rate)
        adversary = PatchAdversary(LeastSquares(), width=4, learning_rate=rate / 10)
        trainer = make_trainer([adversary, save_after()], max_epochs=epochs)
        trainer.fit(module, make_batches(1), weights_only=True, **options)
        return trainer

    fit(2, {"constant": 0, "decay": 2}, 1e-3)
    longer = {"constant": 0, "decay": 8}
    trainer = fit(4, longer, 4e-3, ckpt_path=tmp_path / "end.ckpt")
    # Four of eight units have passed, so the rates are at half of what this run asks for.
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == pytest.approx([2e-3, 2e-4])
    assert [o.param_groups[0]["initial_lr"] for o in trainer.optimizers] == [4e-3, 4e-4]
    said = "\n".join(messages)
    assert "schedule.decay=8 (checkpoint: 2)" in said
    assert "generator: learning rate 0.004 (checkpoint: 0.001)" in said
    assert "patch: learning rate 0.0004 (checkpoint: 0.0001)" in said
    assert len(messages) == 3


def test_resumed_run_may_count_its_schedule_in_another_unit(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    def fit(epochs: int, schedule: dict[str, Any], **options: Any) -> list[float]:
        trainer = make_trainer([save_after()], max_epochs=epochs)
        module = make_module(schedule=schedule, learning_rate=1e-3)
        trainer.fit(module, make_batches(3), weights_only=True, **options)
        return trainer.lr_scheduler_configs[0].scheduler.get_last_lr()

    fit(2, {"constant": 1, "decay": 9, "unit": "epoch"})
    # two epochs of three updates, and a third one
    by_step = {"constant": 0, "decay": 18, "unit": "step"}
    assert fit(3, by_step, ckpt_path=tmp_path / "end.ckpt") == pytest.approx([0.5e-3])


def test_second_training_of_a_module_resumes_exactly(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    schedule = {"constant": 0, "decay": 10, "unit": "step"}

    def fit(module: Any, folder: str, epochs: int, **options: Any) -> None:
        trainer = make_trainer([save_after(folder)], max_epochs=epochs)
        trainer.fit(module, make_batches(2), weights_only=True, **options)

    module = make_module(schedule=schedule)
    fit(module, "first", 1)
    fit(module, "second", 2)
    resumed = make_module(seed=5, schedule=schedule)
    fit(resumed, "resumed", 2, ckpt_path=tmp_path / "second/epoch_0.ckpt")
    assert_same_state(tmp_path / "second/end.ckpt", tmp_path / "resumed/end.ckpt")


def test_resumed_run_keeps_the_moments(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    make_trainer([save_after()]).fit(make_module(), make_batches(3))
    trainer = make_trainer(max_epochs=2)
    module = make_module(learning_rate=1e-5)
    trainer.fit(module, make_batches(3), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    assert all(float(state["step"]) == 6 for state in trainer.optimizers[0].state.values())


def test_resuming_another_generator_is_refused_in_words(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    make_trainer([save_after()]).fit(make_module(), make_batches(1))
    gated = Inpainter(
        generator={
            "_target_": "csa_inpaint.methods.gated_conv.GatedConvGenerator",
            "width": 2,
        },
        losses={"l1": {"_target_": "csa_inpaint.losses.Reconstruction"}},
    )
    for module, message in (
        (make_module(width=6), r"generator\.width=6 \(checkpoint: 4\)"),
        (make_module(depth=5), r"generator\.depth=5 \(checkpoint: 4\)"),
        (gated, r"GatedConvGenerator \(checkpoint: csa_inpaint\.Generator\)"),
    ):
        with pytest.raises(
            ValueError, match=f"generator is another one than this run's.*{message}"
        ):
            make_trainer(max_epochs=2).fit(
                module, make_batches(1), ckpt_path=tmp_path / "end.ckpt", weights_only=True
            )


# --- validating and fitting again ----------------------------------------------------------------


def test_checkpoint_validates_on_the_module_that_was_trained(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    module = make_module()
    trainer = make_trainer([PatchAdversary(Hinge(), width=4), save_after()])
    trainer.fit(module, make_batches(2))
    before = {k: v.clone() for k, v in module.discriminators.state_dict().items()}
    assert before
    (scores,) = make_trainer().validate(
        module,
        make_batches(1),
        ckpt_path=tmp_path / "end.ckpt",
        weights_only=True,
        verbose=False,
    )
    loaded = load_model(tmp_path / "end.ckpt")
    (expected,) = make_trainer().validate(loaded, make_batches(1), verbose=False)
    assert scores == expected
    for name, value in module.discriminators.state_dict().items():
        assert torch.equal(value, before[name])


# --- what a checkpoint may ask for ---------------------------------------------------------------


@pytest.fixture
def saved(make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make) -> Any:
    """A checkpoint's path, and a function that changes its settings."""
    save = save_after()
    make_trainer([save]).fit(make_module(), make_batches(1))
    path = save.folder / "end.ckpt"

    def change(**settings: Any) -> Path:
        state = torch.load(path, weights_only=True)
        state["hyper_parameters"] |= settings
        torch.save(state, path)
        return Path(path)

    return path, change


@pytest.mark.parametrize("load", [load_model, CSAInpainter.load_from_checkpoint])
def test_model_names_nothing_but_this_library(load: Make, saved: Any, tmp_path: Path) -> None:
    path, change = saved
    assert isinstance(load(path), Inpainter)
    target = tmp_path / "written"
    for key in ("generator", "optimizer"):
        call = {"_target_": "pathlib.Path.write_text", "_args_": [str(target), "x"]}
        broken = change(**{key: {"_target_": "csa_inpaint.Generator", "attention": call}})
        with pytest.raises(UntrustedTargetError, match=r"end\.ckpt asks to call 'pathlib\.Path"):
            load(broken)
    assert not target.exists()


@pytest.mark.parametrize("escape", ["", "\\"])
def test_model_looks_nothing_up(escape: str, saved: Any, tmp_path: Path) -> None:
    path, change = saved
    target = tmp_path / "made"
    text = f"{escape}${{oc.create:{{_target_:os.mkdir,path:{target}}}}}"
    for settings in ({"attention": text}, {"width": text}):
        change(generator={"_target_": "csa_inpaint.Generator", "width": 4, **settings})
        with pytest.raises(UntrustedTargetError, match="plain values only"):
            load_model(path)
    assert not target.exists()


def test_model_without_settings_is_refused(saved: Any) -> None:
    path, _ = saved
    state = torch.load(path, weights_only=True)
    del state["hyper_parameters"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"end\.ckpt holds weights, but not the settings"):
        load_model(path)


def test_model_runs_no_code_on_request(saved: Any) -> None:
    with pytest.raises(ValueError, match="weights_only=False would run code of the file"):
        CSAInpainter.load_from_checkpoint(saved[0], weights_only=False)


def test_model_loads_with_other_settings(saved: Any) -> None:
    path, _ = saved
    assert load_model(path).channels_last is False
    assert CSAInpainter.load_from_checkpoint(path, channels_last=True).channels_last is True
    weights = {"consistency": 0.0, "l1_rough": 2.0}
    changed = CSAInpainter.load_from_checkpoint(path, learning_rate=1e-5, loss_weights=weights)
    assert changed.optimizer["lr"] == 1e-5
    assert {term.name: term.weight for term in changed.terms} == {"l1_rough": 2, "l1_refined": 1}


def test_model_with_settings_of_another_version_is_refused_in_words(saved: Any) -> None:
    path, change = saved
    change(sharpness=2)
    with pytest.raises(ValueError, match=r"end\.ckpt: its settings do not fit.*'sharpness'"):
        load_model(path)


def test_shorthand_is_laid_over_complete_settings() -> None:
    gated = {"_target_": "csa_inpaint.methods.gated_conv.GatedConvGenerator", "width": 2}
    l1 = {"_target_": "csa_inpaint.losses.Reconstruction"}
    assert CSAInpainter(generator=gated, loss_weights={"consistency": 0}).multiple == 8
    module = CSAInpainter(losses={"only": l1}, width=4, depth=4)
    assert [term.name for term in module.terms] == ["only"]
    assert module.generator.width == 4
    with pytest.raises(ValueError, match="unknown loss terms l1_rough; loss_weights has only"):
        CSAInpainter(losses={"only": l1}, width=4, depth=4, loss_weights={"l1_rough": 1})
