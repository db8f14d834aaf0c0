"""The figures of a training's health are right, and the checks do not change the training."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from csa_inpaint import CSAInpainter, CSALayer
from csa_inpaint.adversaries import (
    WGANGP,
    FeatureAdversary,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.callbacks import TrainingHealth
from csa_inpaint.callbacks.health import attention_statistics
from csa_inpaint.losses.terms import Term
from csa_inpaint.types import Batch, Inpainting

Make = Callable[..., Any]


def adversaries() -> list[pl.Callback]:
    return [
        PatchAdversary(WGANGP(), width=4),
        FeatureAdversary(RelativisticAverageLeastSquares(), width=8),
    ]


def rows(folder: Path) -> list[dict[str, float]]:
    """The checks in a CSV log, each with its step."""
    found = []
    for row in csv.DictReader((folder / "metrics.csv").open()):
        figures = {k: float(v) for k, v in row.items() if k.startswith("health/") and v}
        if figures:
            found.append({"step": int(row["step"]), **figures})
    return found


GRADIENTS = {"l1_rough", "l1_refined", "consistency", "patch", "feature"}
OTHERS = {"attention/previous_weight", "attention/best_similarity", "images_per_second"}
OTHERS |= {"data_wait", "memory_mb"}


def test_health_logs_every_figure_at_its_steps(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    callbacks = [*adversaries(), TrainingHealth(every_n_steps=3)]
    make_trainer(callbacks, logger=logger, max_epochs=2).fit(
        make_module(), make_batches(4, batch=2), make_batches(1)
    )
    checks = rows(tmp_path)
    assert [check["step"] for check in checks] == [0, 3, 6]
    judged = {f"{kind}/{name}" for kind in ("logit_gap", "accuracy") for name in GRADIENTS}
    judged = {key for key in judged if key.endswith(("patch", "feature"))}
    keys = {f"health/{key}" for key in judged | OTHERS | {f"grad_norm/{g}" for g in GRADIENTS}}
    for check in checks:
        assert set(check) == keys | {"step"}
        assert all(check[f"health/grad_norm/{name}"] > 0 for name in GRADIENTS)
        assert all(0 <= check[f"health/accuracy/{name}"] <= 1 for name in ("patch", "feature"))
        assert 0 < check["health/attention/best_similarity"] <= 1
        assert 0 <= check["health/attention/previous_weight"] < 1
        assert 0 < check["health/data_wait"] < 1
        assert check["health/images_per_second"] > 0
        assert check["health/memory_mb"] > 100


class Alone(CSAInpainter):
    """Descends one term only, and records the gradient that reaches the update."""

    keep: str

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        return [t for t in super().generator_terms(batch, out) if t.name.endswith(self.keep)]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        gradients = [p.grad for p in self.generator.parameters() if p.grad is not None]
        if gradients:
            self.norm = float(torch.cat([g.flatten() for g in gradients]).norm())


@pytest.mark.parametrize("keep", ["l1_rough", "consistency", "patch"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_health_gradient_norm_is_that_of_the_weighted_term(
    keep: str, precision: str, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Alone)
    module.keep = keep
    trainer = make_trainer([*adversaries(), TrainingHealth()], precision=precision)
    trainer.fit(module, make_batches(1))
    logged = float(trainer.callback_metrics[f"health/grad_norm/{keep}"])
    assert logged == pytest.approx(module.norm, rel=1e-5)


def test_health_judges_what_the_discriminators_said(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make
) -> None:
    module, callbacks = make_module(), adversaries()
    trainer = make_trainer([*callbacks, TrainingHealth()])
    trainer.fit(module, make_batches(1), make_batches(1))
    for adversary in callbacks:
        real, fake = adversary.verdict
        assert not any(logits.requires_grad for logits in adversary.verdict)
        assert not torch.equal(real, fake)
        gap = trainer.callback_metrics[f"health/logit_gap/{adversary.name}"]
        assert gap == pytest.approx(float(real.mean() - fake.mean()), abs=1e-6)
        accuracy = trainer.callback_metrics[f"health/accuracy/{adversary.name}"]
        assert accuracy == adversary.objective.accuracy(real, fake)


# precision, accumulation and adversaries of a run
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"precision": "bf16-mixed"},
    "accumulated": {"accumulate_batches": 2},
    "no adversary": {"callbacks": list},
    "clipped": {"clip_norm": 0.1},
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_health_does_not_change_the_training(
    run: dict[str, Any],
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    settings = dict(run)
    callbacks = settings.pop("callbacks", adversaries)
    precision = settings.pop("precision", "32-true")
    for folder, health in (("without", []), ("with", [TrainingHealth(every_n_steps=2)])):
        trainer = make_trainer(
            [*callbacks(), *health, save_after(folder)], precision=precision, max_epochs=2
        )
        trainer.fit(make_module(**settings), make_batches(3, batch=2), make_batches(1))
    assert_same_state(tmp_path / "without/end.ckpt", tmp_path / "with/end.ckpt")


class Defective(CSAInpainter):
    """Cuts the consistency loss from its graph, as the released code does, in the given batches."""

    dead: range

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        terms = super().generator_terms(batch, out)
        if self.trainer.fit_loop.epoch_loop.total_batch_idx not in self.dead:
            return terms
        return [t._replace(loss=t.loss.detach()) if "consistency" in t.name else t for t in terms]


@pytest.mark.parametrize(
    ("dead", "steps"), [(range(0), []), (range(1, 7), [3]), (range(2), []), (range(1, 4), [3])]
)
def test_health_names_a_dead_term_once(
    dead: range,
    steps: list[int],
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = make_module(Defective)
    module.dead = dead
    with caplog.at_level(logging.WARNING, logger="csa_inpaint"):
        make_trainer([TrainingHealth(every_n_steps=1, patience=3)]).fit(module, make_batches(7))
    messages = [r.getMessage() for r in caplog.records if r.name == "csa_inpaint.callbacks.health"]
    assert len(messages) == len(steps)
    for message, step in zip(messages, steps, strict=True):
        assert message.startswith("The loss term generator/consistency is dead")
        assert f"the last at step {step} " in message


def test_health_finds_a_term_of_weight_zero_dead(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    adversary = PatchAdversary(WGANGP(), width=4, weight=0.0)
    make_trainer([adversary, TrainingHealth(every_n_steps=1, patience=2)]).fit(
        make_module(), make_batches(2)
    )
    assert "generator/patch is dead" in caplog.text


@pytest.mark.parametrize("patch_size", [1, 2])
def test_attention_statistics_are_those_of_the_loop(patch_size: int) -> None:
    layer = CSALayer(patch_size=patch_size, stride=patch_size)
    features = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)).abs()
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:6, 2:6] = 1
    mask[1, :, 4:8, 0:4] = 1
    figures = attention_statistics(layer, features, mask)

    weights, similarities = [], []
    holes = torch.nn.functional.max_pool2d(mask, patch_size).flatten(1) > 0.5
    patches = torch.nn.functional.unfold(features, patch_size, stride=patch_size).mT
    for sample, hole in zip(patches, holes, strict=True):
        previous = None
        for patch in sample[hole]:
            to_known = torch.cosine_similarity(patch, sample[~hole], dim=1)
            match, d_max = sample[~hole][to_known.argmax()], to_known.max()
            d_ad = 0 * d_max if previous is None else torch.cosine_similarity(patch, previous, 0)
            weights.append(d_ad / (d_ad + d_max))
            similarities.append(d_max)
            previous = match if previous is None else torch.lerp(match, previous, weights[-1])
    torch.testing.assert_close(figures["previous_weight"], torch.stack(weights).mean())
    torch.testing.assert_close(figures["best_similarity"], torch.stack(similarities).mean())


def test_attention_statistics_without_a_hole_are_nan() -> None:
    figures = attention_statistics(CSALayer(), torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    assert all(value.isnan() for value in figures.values())


@pytest.mark.parametrize("settings", [{"every_n_steps": 0}, {"patience": 0}])
def test_health_refuses_bad_values(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        TrainingHealth(**settings)


def test_health_waits_for_the_generators_window(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    health = TrainingHealth(every_n_steps=2)
    adversary = PatchAdversary(WGANGP(), width=4)
    trainer = make_trainer([adversary, health], logger=logger)
    trainer.fit(make_module(generator_every=2), make_batches(8))
    logger.save()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("health/grad_norm/l1_rough")
    assert sum(bool(row.split(",")[column]) for row in rows[1:]) == 4
