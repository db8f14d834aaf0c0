"""The training step: terms, windows, clipping, schedule, average, and stopping and resuming."""

import pickle
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import (
    WGANGP,
    FeatureAdversary,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.callbacks import SaveWithinEpoch, within_epoch
from csa_inpaint.losses.terms import Term
from csa_inpaint.networks.vgg import VGG16Features, VGGFeatures
from csa_inpaint.training.finiteness import NonFiniteLossError
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.training.schedule import LinearDecay
from csa_inpaint.types import Batch, Inpainting

Make = Callable[..., Any]


def adversaries() -> list[pl.Callback]:
    return [
        PatchAdversary(WGANGP(), width=4),
        FeatureAdversary(RelativisticAverageLeastSquares(), width=8),
    ]


class Recorder(CSAInpainter):
    """Records what each update of the generator consists of."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.updates: list[Tensor] = []  # the generator's gradient, flat, as it is applied
        self.weights: list[Tensor] = []  # the generator's weights after each batch
        self.recorded_rates: list[list[float]] = []  # the learning rates of each batch
        self.reached: dict[str, float] = {}  # gradient norm of each term in each network

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        terms = super().generator_terms(batch, out)
        for term in terms:
            for stage, network in self.generator.named_children():
                weights = list(network.parameters())
                found = torch.autograd.grad(
                    term.loss, weights, retain_graph=True, allow_unused=True
                )
                norm = sum(float(g.norm()) for g in found if g is not None)
                self.reached[f"{term.name} {stage}"] = norm
        return terms

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if parameters[0] is next(self.generator.parameters()):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            self.updates.append(torch.cat([gradient.flatten() for gradient in gradients]))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        parameters = [p.detach().flatten() for p in self.generator.parameters()]
        self.weights.append(torch.cat(parameters))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        rates = [group["lr"] for o in self.trainer.optimizers for group in o.param_groups]
        self.recorded_rates.append(rates)


def join(*batches: Batch) -> Batch:
    images, masks = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    return Batch(images, masks, [path for batch in batches for path in batch.path])


def assert_close(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm()


# --- terms ---------------------------------------------------------------------------------------

TERMS = ("l1_rough", "l1_refined", "consistency", "patch", "feature")


@pytest.mark.parametrize("detach_rough", [False, True])
def test_module_terms_reach_the_generator(
    detach_rough: bool, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Recorder, detach_rough=detach_rough)
    make_trainer(adversaries()).fit(module, make_batches(1))
    assert set(module.reached) == {
        f"generator/{term} {stage}" for term in TERMS for stage in ("rough", "refinement")
    }
    assert module.reached["generator/l1_rough rough"] > 0
    assert module.reached["generator/l1_rough refinement"] == 0
    for term in TERMS[1:]:
        assert module.reached[f"generator/{term} refinement"] > 0, term
        assert (module.reached[f"generator/{term} rough"] > 0) is not detach_rough, term


def test_module_update_is_the_weighted_sum_of_its_terms(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    def update(**weights: float) -> Tensor:
        weights = {"l1_rough": 0.0, "l1_refined": 0.0, "consistency": 0.0, **weights}
        module = make_module(Recorder, loss_weights=weights)
        make_trainer().fit(module, make_batches(1))
        return module.updates[0]

    alone = update(l1_refined=1.0), update(consistency=1.0)
    total = update(l1_refined=3.0, consistency=0.5)
    assert_close([total], [3 * alone[0] + 0.5 * alone[1]])


def test_module_without_vgg_terms_makes_no_vgg(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(loss_weights={"consistency": 0.0}, vgg={"weights": "nowhere.pth"})
    make_trainer().fit(module, make_batches(1))
    assert module.vgg is None


def test_module_looks_at_the_generated_image_once_a_batch(
    make_module: Make, make_batches: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides share its VGG features; the gradient still reaches the generator (above)."""
    with_graph = []
    pools = VGG16Features.pools

    def count(vgg: VGG16Features, image: Tensor) -> VGGFeatures:
        with_graph.append(image.requires_grad)
        return pools(vgg, image)

    monkeypatch.setattr(VGG16Features, "pools", count)
    make_trainer(adversaries(), max_epochs=1).fit(make_module(), make_batches(2))
    assert with_graph == [True] * 2


# --- variants of the generator -------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_levels": []},
        {"attention_levels": [], "feature_levels": [3]},
        {"attention_levels": [2]},
        {"attention_levels": [4, 1], "depth": 5},
        {"attention_levels": [3, 5], "feature_levels": [3], "depth": 6},
    ],
)
def test_module_terms_reach_the_generator_wherever_the_attention_stands(
    settings: dict[str, Any], make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    nothing = not settings["attention_levels"] and "feature_levels" not in settings
    weights = {"consistency": 0.0 if nothing else 0.01}
    module = make_module(Recorder, loss_weights=weights, **settings)
    make_trainer(adversaries()).fit(module, make_batches(1))
    for term in TERMS[1:]:
        if term != "consistency" or not nothing:
            assert module.reached[f"generator/{term} refinement"] > 0, term
    assert ("generator/consistency refinement" in module.reached) is not nothing
    named = list(module.generator.named_parameters())
    gradients = module.updates[0].split([parameter.numel() for _, parameter in named])
    still = [name for (name, _), g in zip(named, gradients, strict=True) if not g.any()]
    assert still == []


def test_module_consistency_is_the_mean_over_levels(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    def loss(levels: list[int]) -> float:
        settings = {"attention_levels": [2, 3], "feature_levels": levels}
        trainer = make_trainer()
        trainer.fit(make_module(**settings), make_batches(1))
        return float(trainer.callback_metrics["generator/consistency"])

    second, third = loss([2]), loss([3])
    assert abs(second - third) > 0.01
    assert loss([2, 3]) == pytest.approx((second + third) / 2)


def test_module_without_refinement_trains_validates_and_resumes(
    make_module: Make,
    make_batches: Make,
    make_batch: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def fit(folder: str, checkpoint: Path | None = None) -> Recorder:
        weights = {"l1_refined": 0.0, "consistency": 0.0}
        module: Recorder = make_module(
            Recorder, refinement=False, loss_weights=weights, seed=5 if checkpoint else 0
        )
        trainer = make_trainer([*adversaries(), save_after(folder)], max_epochs=2)
        trainer.fit(
            module, make_batches(2), make_batches(1), ckpt_path=checkpoint, weights_only=True
        )
        metrics = trainer.callback_metrics
        assert metrics["val/rough_psnr"] == metrics["val/refined_psnr"]
        return module

    module = fit("whole")
    assert set(module.reached) == {f"generator/{t} rough" for t in ("l1_rough", "patch", "feature")}
    assert all(norm > 0 for norm in module.reached.values())
    fit("resumed", checkpoint=tmp_path / "whole/epoch_0.ckpt")
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")

    loaded = CSAInpainter.load_from_checkpoint(tmp_path / "whole/end.ckpt", weights_only=True)
    batch = make_batch(0)
    out = loaded(batch.image, batch.mask)
    assert torch.equal(out.refined, out.rough)
    assert not any("refinement" in name for name, _ in loaded.named_parameters())


# --- accumulation and clipping -------------------------------------------------------------------


def test_module_accumulation_equals_one_large_batch(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make
) -> None:
    mask = make_batch(0).mask  # the consistency loss is a mean over the batch's hole positions
    single = [make_batch(seed)._replace(mask=mask) for seed in range(5)]
    # five batches in windows of two: the last window holds one
    large = [join(*single[:2]), join(*single[2:4]), single[4]]

    def updates(given: list[Batch], accumulate_batches: int) -> Recorder:
        module = make_module(Recorder, accumulate_batches=accumulate_batches)
        make_trainer(max_epochs=2).fit(module, make_batches(given=given))
        return module

    windows, batches = updates(single, 2), updates(large, 1)
    assert len(windows.updates) == 6
    # Adam turns rounding errors into steps, so only the first update starts from equal weights.
    assert_close(windows.updates[:1], batches.updates[:1])
    for module, per_update in ((windows, 2), (batches, 1)):
        moved = [not torch.equal(a, b) for a, b in pairwise(module.weights)]
        per_epoch = [False, True, False, True, True] if per_update == 2 else [True] * 3
        assert moved == (per_epoch * 2)[1:]


def test_module_last_window_is_averaged_over_its_own_batches(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make
) -> None:
    single = [make_batch(seed) for seed in range(2)]
    whole, short = make_module(Recorder), make_module(Recorder, accumulate_batches=3)
    for module in (whole, short):
        mean_of = make_batch(0).mask
        given = [batch._replace(mask=mean_of) for batch in single]
        given = [join(*given)] if module is whole else given
        make_trainer().fit(module, make_batches(given=given))
    assert_close(short.updates, whole.updates)


def test_module_accumulation_survives_a_validation(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    plain, validated = (make_module(Recorder, accumulate_batches=2) for _ in range(2))
    make_trainer(adversaries()).fit(plain, make_batches(2))
    make_trainer(adversaries(), val_check_interval=1).fit(
        validated, make_batches(2), make_batches(1)
    )
    assert len(plain.updates) == 1
    assert torch.equal(plain.updates[0], validated.updates[0])


@pytest.mark.parametrize("accumulate_batches", [1, 2])
def test_module_clip_norm_bounds_the_update(
    accumulate_batches: int, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    updates = []
    for clip_norm in (None, 0.01, 1e6):
        module = make_module(Recorder, clip_norm=clip_norm, accumulate_batches=accumulate_batches)
        make_trainer().fit(module, make_batches(2))
        updates.append(module.updates[0])
    free, clipped, loose = updates
    assert free.norm() > 0.02
    assert_close([clipped], [0.01 * free / free.norm()])
    assert_close([loose], [free])


# --- schedule and average ------------------------------------------------------------------------


def test_schedule_is_constant_then_linear() -> None:
    schedule = LinearDecay(constant=2, decay=4)
    assert [schedule(n) for n in range(8)] == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert [LinearDecay(constant=0, decay=0)(n) for n in (0, 1000)] == [1, 1]


def test_schedule_may_grow_with_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 8)
    schedule = LinearDecay(constant=2, decay=4, by_processes=True)
    assert [schedule(n) for n in (0, 4, 9)] == [8, 4, 0]
    assert LinearDecay(decay=0, by_processes=True)(1000) == 8
    assert LinearDecay(constant=2, decay=4)(0) == 1


@pytest.mark.parametrize(
    ("unit", "factors"),
    [
        ("epoch", [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5]),
        # windows of two in epochs of three: the second and third batch end one
        ("step", [1, 1, 1, 0.5, 0.5, 0, 0, 0, 0]),
    ],
)
def test_schedule_counts_epochs_or_updates(
    unit: str, factors: list[float], make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    schedule = {"constant": 1, "decay": 2, "unit": unit}
    module = make_module(Recorder, schedule=schedule, learning_rate=1e-3, accumulate_batches=2)
    adversary = PatchAdversary(WGANGP(), width=4, learning_rate=1e-4)
    make_trainer([adversary], max_epochs=3).fit(module, make_batches(3))
    expected = [[1e-3 * factor, 1e-4 * factor] for factor in factors]
    torch.testing.assert_close(torch.tensor(module.recorded_rates), torch.tensor(expected))


def test_ema_follows_its_equation(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Recorder, ema_decay=0.2)
    make_trainer(max_epochs=2).fit(module, make_batches(2))
    first, *rest = module.weights
    expected = first
    for n, weights in enumerate(rest, start=1):
        decay = min(0.2, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weights
    averages = torch.cat([p.flatten() for p in module.ema.module.parameters()])
    torch.testing.assert_close(averages, expected)
    assert not torch.equal(averages, module.weights[-1])


def test_ema_is_validated_and_saved(
    make_module: Make,
    make_batches: Make,
    make_batch: Make,
    make_trainer: Make,
    save_after: Make,
    tmp_path: Path,
) -> None:
    module = make_module(learning_rate=1e-2)
    trainer = make_trainer([save_after()])
    trainer.fit(module, make_batches(3), make_batches(1))

    batch = make_batch(0)
    averaged, latest = (
        network(batch.image, batch.mask) for network in (module.ema.module, module.generator)
    )
    module.metrics.update(averaged, batch.image, batch.mask)
    expected = module.metrics.compute()["psnr"]
    assert trainer.callback_metrics["val/psnr"] == expected
    assert not torch.equal(averaged.refined, latest.refined)

    loaded = CSAInpainter.load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    assert torch.equal(loaded(batch.image, batch.mask).refined, averaged.refined)


def test_ema_can_be_left_out(make_module: Make, make_batch: Make) -> None:
    module, batch = make_module(ema_decay=None), make_batch(0)
    assert not any(key.startswith("ema") for key in module.state_dict())
    expected = module.generator(batch.image, batch.mask).refined
    assert torch.equal(module(batch.image, batch.mask).refined, expected)


# --- precision and memory format -----------------------------------------------------------------


def test_module_trains_in_bf16(make_module: Make, make_batches: Make, make_trainer: Make) -> None:
    module = make_module(Recorder)
    exact = make_module(Recorder)
    trainer = make_trainer(adversaries(), precision="bf16-mixed")
    trainer.fit(module, make_batches(2), make_batches(1))
    make_trainer(adversaries()).fit(exact, make_batches(2))
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())
    likeness = torch.cosine_similarity(module.updates[0], exact.updates[0], dim=0)
    assert 0.9 < likeness < 1  # the same direction, but not computed in float32


def test_module_channels_last_trains_the_same(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make
) -> None:
    default, last = (make_module(Recorder, channels_last=value) for value in (False, True))
    for module in (default, last):
        make_trainer(adversaries()).fit(module, make_batches(1, batch=2))
    weight = last.generator.rough.down[1][1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert_close(last.updates, default.updates)
    batch = make_batch(7)
    last.load_state_dict(default.state_dict())
    outputs = [module(batch.image, batch.mask).refined for module in (default, last)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


# --- losses that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("place", ["hole", "known"])
def test_module_stops_at_a_loss_that_is_not_finite(
    place: str,
    make_module: Make,
    make_batches: Make,
    make_batch: Make,
    make_trainer: Make,
    save_after: Make,
    tmp_path: Path,
) -> None:
    bad = make_batch(9, 2)
    row, column = (bad.mask[0, 0] == (place == "hole")).nonzero()[0].tolist()
    bad.image[0, 0, row, column] = float("nan")
    batches = make_batches(given=[make_batch(0), make_batch(1), bad])
    trainer = make_trainer([*adversaries(), save_after(batches=(2,))])
    module = make_module()
    with pytest.raises(NonFiniteLossError, match=r"9_0\.jpg, 9_1\.jpg") as caught:
        trainer.fit(module, batches)
    term = "discriminator/patch = nan" if place == "hole" else "the CSA layer's features"
    assert term in str(caught.value)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["batch_2.ckpt"]
    good = CSAInpainter.load_from_checkpoint(tmp_path / "batch_2.ckpt", weights_only=True)
    for name, value in good.generator.named_parameters():
        assert torch.isfinite(value).all()
        assert torch.equal(value, module.generator.get_parameter(name))  # nothing was updated


def test_module_names_the_generator_term_that_is_not_finite(
    make_module: Make, make_batches: Make, make_batch: Make, make_trainer: Make
) -> None:
    bad = make_batch(9)
    bad.image[bad.mask.expand(-1, 3, -1, -1) > 0.5] = float("inf")
    with pytest.raises(NonFiniteLossError) as caught:
        make_trainer().fit(make_module(), make_batches(given=[bad]))
    message = str(caught.value)
    assert "generator/l1_rough = inf, generator/l1_refined = inf" in message
    assert ", in epoch 0, on the batch of 9_0.jpg" in message


def test_module_saves_no_weights_that_are_not_finite(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    module = make_module()
    trainer = make_trainer([save_after()])
    trainer.fit(module, make_batches(1))
    before = (tmp_path / "end.ckpt").read_bytes()
    with torch.no_grad():
        module.generator.refinement.first.weight[0] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"generator\.refinement\.first\.weight"):
        trainer.save_checkpoint(tmp_path / "end.ckpt")
    assert (tmp_path / "end.ckpt").read_bytes() == before


# --- a step that fails, and the next training ---------------------------------------------------


class FailOnce(pl.Callback):
    """Raises between the terms and their backward, for one side's first step."""

    def __init__(self, side: str) -> None:
        self.side, self.failed = side, False

    def fail(self, side: str) -> None:
        if side == self.side and not self.failed:
            self.failed = True
            raise RuntimeError("something else went wrong")


class FailingObserver(FailOnce, TermObserver):
    def on_discriminator_terms(self, *args: Any) -> None:
        self.fail("discriminator")

    def on_generator_terms(self, *args: Any) -> None:
        self.fail("generator")


@pytest.mark.parametrize("side", ["discriminator", "generator"])
def test_module_trains_again_after_a_step_that_failed(
    side: str, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    failed, fresh = make_module(Recorder), make_module(Recorder)
    with pytest.raises(RuntimeError, match="something else"):
        make_trainer([*adversaries(), FailingObserver(side)]).fit(failed, make_batches(2))
    assert all(p.requires_grad for p in failed.generator.parameters())
    assert all(p.requires_grad for p in failed.discriminators.parameters())
    assert not hasattr(failed, "step")  # the step holds the graph
    if side == "discriminator":  # nothing was updated yet
        for module in (failed, fresh):
            make_trainer(adversaries()).fit(module, make_batches(2))
        assert_close(failed.updates, fresh.updates)
    else:
        make_trainer(adversaries()).fit(failed, make_batches(2))
        assert len(failed.updates) == 2


def test_module_keeps_nothing_of_an_earlier_trainings_adversaries(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    module = make_module()
    make_trainer(adversaries()).fit(module, make_batches(1))
    vgg, patch = module.vgg, module.discriminators["patch"]
    assert vgg is not None
    make_trainer([adversaries()[0], save_after()]).fit(module, make_batches(1))
    assert list(module.discriminators) == ["patch"]
    assert module.discriminators["patch"] is patch  # the discriminator keeps what it has learnt
    assert module.vgg is vgg
    state = torch.load(tmp_path / "end.ckpt", weights_only=True)["state_dict"]
    assert not any(key.startswith("discriminators.feature") for key in state)
    make_trainer([PatchAdversary(WGANGP(), width=6)]).fit(module, make_batches(1))
    assert module.discriminators["patch"][0].out_channels == 6
    make_trainer().fit(module, make_batches(1))
    assert len(module.discriminators) == 0


# --- gradient scaling ----------------------------------------------------------------------------


def half(**settings: Any) -> MixedPrecision:
    """Lightning's 16-mixed, which it would not choose for a CPU."""
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", **settings))


def test_module_scales_all_gradients_of_a_window_alike(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    """The scale may grow after every update; the generator's sums must not be divided by a scale
    that grew between the discriminators' step and theirs."""
    updates = []
    for growth_interval in (1, 1000):
        module = make_module(Recorder, accumulate_batches=2, ema_decay=None)
        plugin = half(init_scale=2.0, growth_factor=2.0, growth_interval=growth_interval)
        patch = PatchAdversary(RelativisticAverageLeastSquares(), width=4)
        make_trainer([patch], plugins=[plugin]).fit(module, make_batches(4))
        assert plugin.scaler.get_scale() == (8.0 if growth_interval == 1 else 2.0)
        updates.append(module.updates)
    growing, constant = updates
    likeness = [torch.cosine_similarity(a, b, dim=0) for a, b in zip(*updates, strict=True)]
    assert all(value > 0.99 for value in likeness)
    for one, other in zip(growing[:1], constant[:1], strict=True):
        torch.testing.assert_close(one.norm(), other.norm(), rtol=1e-2, atol=0)


def test_module_scaler_waits_where_no_side_learns(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    plugin = half(init_scale=2.0, growth_factor=2.0, growth_interval=1)
    make_trainer(plugins=[plugin]).fit(make_module(generator_every=2), make_batches(4))
    assert plugin.scaler.get_scale() == 8.0  # two of the four windows were the generator's


def test_module_takes_an_optimizer_option_that_excludes_the_fused_form(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    optimizer = {"_target_": "torch.optim.Adam", "lr": 1e-3, "foreach": True}
    trainer = make_trainer()
    trainer.fit(make_module(optimizer=optimizer), make_batches(1))
    assert trainer.optimizers[0].defaults["foreach"]


# --- compiling -----------------------------------------------------------------------------------


def test_module_compiles_what_can_be_compiled(
    make_module: Make, make_batches: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient penalty differentiates twice, which compiled networks cannot."""
    compiled: list[str] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__)
    )
    module = make_module(compile=True)
    make_trainer(adversaries()).fit(module, make_batches(1))
    assert compiled == ["Generator", "FeaturePatchDiscriminator"]
    compiled.clear()
    make_trainer([PatchAdversary(WGANGP(weight=0), width=4)]).fit(module, make_batches(1))
    assert compiled == ["Generator", "PatchDiscriminator"]


# --- stopping and resuming -----------------------------------------------------------------------


@pytest.fixture
def sigint() -> Iterator[None]:
    """Restores Ctrl-C, which Lightning ignores after a training was interrupted."""
    previous = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, previous)


class PressCtrlC(pl.Callback):
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            signal.raise_signal(signal.SIGINT)


# With three batches in an epoch and windows of two: within a window, at its end, the last batch.
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.usefixtures("sigint")
def test_interrupt_saves_and_resumes_exactly(
    batch: int,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(within_epoch, "rank_zero_info", messages.append)
    last = tmp_path / "stopped" / "last.ckpt"

    def fit(folder: str, *callbacks: pl.Callback, checkpoint: Path | None = None) -> None:
        module = make_module(
            seed=5 if checkpoint else 0,
            accumulate_batches=2,
            schedule={"constant": 0, "decay": 4},
            learning_rate=1e-3,
        )
        make_trainer([*adversaries(), *callbacks, save_after(folder)], max_epochs=2).fit(
            module, make_batches(3), make_batches(1), ckpt_path=checkpoint, weights_only=True
        )

    fit("whole")
    with pytest.raises(SystemExit):
        fit("stopped", PressCtrlC(batch), SaveWithinEpoch(last, "python -m again checkpoint=last"))
    assert torch.load(last, weights_only=True)["window"]["batches"] == 0
    assert "python -m again checkpoint=last" in messages[-1]
    fit("resumed", checkpoint=last)
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")


@pytest.mark.usefixtures("sigint")
def test_interrupt_twice_stops_at_once(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again")
    presses = [PressCtrlC(0), PressCtrlC(0)]
    with pytest.raises(SystemExit):
        make_trainer([*presses, save]).fit(make_module(), make_batches(1))
    assert not save.path.exists()


def test_interrupt_gives_ctrl_c_back_after_training(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    previous = signal.getsignal(signal.SIGINT)
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again")
    make_trainer([save]).fit(make_module(), make_batches(1))
    assert signal.getsignal(signal.SIGINT) is previous
    assert not save.path.exists()


def test_module_resumes_within_an_accumulation_window(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def fit(folder: str, checkpoint: Path | None = None) -> None:
        module = make_module(seed=5 if checkpoint else 0, accumulate_batches=3)
        make_trainer([*adversaries(), save_after(folder, batches=(2,))]).fit(
            module, make_batches(4), ckpt_path=checkpoint, weights_only=True
        )

    fit("whole")
    middle = tmp_path / "whole/batch_2.ckpt"
    window = torch.load(middle, weights_only=True)["window"]
    assert window["batches"] == 2
    assert any(name.startswith("discriminators.patch") for name in window["gradients"])
    fit("resumed", checkpoint=middle)
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")


# --- bad values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate_batches": 0}, "accumulate_batches=0, expected at least 1"),
        ({"ema_decay": 1.0}, r"ema_decay=1\.0, expected a value in \[0, 1\)"),
        ({"ema_decay": -0.1}, r"ema_decay=-0\.1"),
        ({"loss_weights": {"l1": 1.0}}, "unknown loss terms l1; loss_weights has l1_rough"),
        ({"attention_levels": []}, r"consistency=0\.01, but there are no features to compare"),
        (
            {"attention_levels": [2, 5], "depth": 6},
            r"no features at level 5, 1/32 of the image's size.*name feature_levels from 1 to 4",
        ),
        ({"refinement": False}, r"l1_refined=1\.0, but without refinement the rough image is all"),
        (
            {"refinement": False, "loss_weights": {"l1_refined": 0}},
            r"consistency=0\.01, but there are no features",
        ),
        ({"schedule": {"unit": "batch"}}, "schedule.unit='batch', expected epoch or step"),
        ({"schedule": {"constant": -1}}, "constant=-1, decay=100, expected no negatives"),
    ],
)
def test_module_refuses_bad_values(
    settings: dict[str, Any], message: str, make_module: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        make_module(**settings)


def test_module_refuses_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(
        {
            "pytorch-lightning_version": pl.__version__,
            "state_dict": {"encoder.weight": torch.zeros(1)},
            "hyper_parameters": {},
        },
        path,
    )
    with pytest.raises(ValueError, match=r"other\.ckpt is no checkpoint of csa_inpaint"):
        CSAInpainter.load_from_checkpoint(path, width=4, depth=4, weights_only=True)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_module_loads_nothing_from_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.ckpt .*(cannot be read|no file of tensors)"):
        CSAInpainter.load_from_checkpoint(path)


def test_module_can_be_pickled(make_module: Make, make_batch: Make) -> None:
    module, batch = make_module(), make_batch(0)
    copy = pickle.loads(pickle.dumps(module))
    assert torch.equal(
        copy(batch.image, batch.mask).composite, module(batch.image, batch.mask).composite
    )
