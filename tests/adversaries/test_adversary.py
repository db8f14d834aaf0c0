"""One table of all adversaries: each entry trains, resumes bit-exactly, reaches the generator and
leaves the discriminator alone in the generator's step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import (
    WGANGP,
    Adversary,
    FeatureAdversary,
    Hinge,
    LeastSquares,
    NonSaturating,
    Objective,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.adversaries.discriminators import FeaturePatchDiscriminator
from csa_inpaint.losses.terms import Term
from csa_inpaint.types import Batch, Inpainting

Make = Callable[..., Any]

OBJECTIVES = (RelativisticAverageLeastSquares, LeastSquares, Hinge, NonSaturating, WGANGP)


def patch(objective: Objective, **settings: Any) -> PatchAdversary:
    return PatchAdversary(objective, width=4, **settings)


def feature(objective: Objective, **settings: Any) -> FeatureAdversary:
    return FeatureAdversary(objective, width=8, **settings)


# name → callbacks, made afresh for every run
ADVERSARIES: dict[str, Callable[[], list[Adversary]]] = {
    f"{kind.__name__}-{objective.__name__}": lambda kind=kind, objective=objective: [
        kind(objective())
    ]
    for kind in (patch, feature)
    for objective in OBJECTIVES
}
ADVERSARIES["both"] = lambda: [patch(WGANGP()), feature(RelativisticAverageLeastSquares())]

each_adversary = pytest.mark.parametrize("adversaries", ADVERSARIES.values(), ids=ADVERSARIES)


def parameters(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    return {
        name: None if value.grad is None else value.grad.clone()
        for name, value in module.named_parameters()
    }


class Watched(CSAInpainter):
    """Looks at both sides' weights and gradients between the two optimizers' steps."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.steps = 0
        self.reached: list[dict[str, float]] = []  # gradient norms of each step's terms

    def discriminator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        assert not any(value.requires_grad for value in (*out[:3], *out.features[3]))
        self.generator_gradients = gradients(self.generator)
        self.discriminators_before = parameters(self.discriminators)
        return super().discriminator_terms(batch, out)

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        assert_equal(gradients(self.generator), self.generator_gradients)
        self.discriminator_weights = parameters(self.discriminators)
        self.discriminator_gradients = gradients(self.discriminators)
        terms = super().generator_terms(batch, out)
        norms = {}
        for term in terms:
            for stage in ("rough", "refinement"):
                weights = list(getattr(self.generator, stage).parameters())
                found = torch.autograd.grad(
                    term.loss, weights, retain_graph=True, allow_unused=True
                )
                norm = sum(float(g.norm()) for g in found if g is not None)
                norms[f"{term.name} {stage}"] = norm
        self.reached.append(norms)
        return terms

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.steps += 1
        assert_equal(parameters(self.discriminators), self.discriminator_weights)
        assert_equal(gradients(self.discriminators), self.discriminator_gradients)


def assert_equal(
    one: dict[str, torch.Tensor | None], other: dict[str, torch.Tensor | None]
) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        expected = other[name]
        if value is None or expected is None:
            assert value is expected, name
        else:
            assert torch.equal(value, expected), name


@each_adversary
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_adversary_trains_and_keeps_to_its_side(
    adversaries: Make, precision: str, make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Watched)
    callbacks = adversaries()
    trainer = make_trainer(callbacks, precision=precision)
    trainer.fit(module, make_batches(2))

    assert module.steps == 2
    names = {adversary.name for adversary in callbacks}
    assert set(module.discriminators) == names
    for name in names:
        assert torch.isfinite(trainer.callback_metrics[f"generator/{name}"])
        assert torch.isfinite(trainer.callback_metrics[f"discriminator/{name}"])
        # the last step moved every discriminator
        for key, value in module.discriminators[name].named_parameters():
            if key.endswith("weight"):
                assert not torch.equal(value, module.discriminators_before[f"{name}.{key}"]), key
        for norms in module.reached:
            assert norms[f"generator/{name} refinement"] > 0
            assert norms[f"generator/{name} rough"] > 0


def test_adversary_gradients_wait_for_the_window(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Watched, accumulate_batches=2)
    make_trainer(ADVERSARIES["both"](), precision="bf16-mixed").fit(module, make_batches(3))
    assert module.steps == 3


@each_adversary
def test_adversary_resumes_bit_exactly(
    adversaries: Make,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    settings = {"schedule": {"constant": 0, "decay": 3}, "learning_rate": 1e-3}

    def run(folder: str, checkpoint: str | None = None) -> None:
        # The weights start from another seed, so that state that is not restored shows.
        module = make_module(seed=0 if checkpoint is None else 5, **settings)
        callbacks = [*adversaries(), save_after(folder, batches=(1,))]
        make_trainer(callbacks, max_epochs=2).fit(
            module,
            make_batches(2),
            ckpt_path=checkpoint and tmp_path / "whole" / checkpoint,
            weights_only=True,
        )

    run("whole")
    for checkpoint in ("batch_1.ckpt", "epoch_0.ckpt"):
        run(checkpoint, checkpoint)
        assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / checkpoint / "end.ckpt")


@pytest.fixture
def saved(
    make_module: Make, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> Path:
    """A checkpoint of a training with the patch adversary."""
    make_trainer([patch(Hinge()), save_after()]).fit(make_module(), make_batches(1))
    return tmp_path / "end.ckpt"


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "patch is missing here"),
        (["patch", "feature"], "feature is not in the checkpoint"),
        (["feature"], "patch is missing here; feature is not in the checkpoint"),
    ],
)
def test_adversary_missing_or_surplus_on_resume_is_named(
    present: list[str],
    message: str,
    saved: Path,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
) -> None:
    callbacks = [{"patch": patch, "feature": feature}[name](Hinge()) for name in present]
    trainer = make_trainer(callbacks, max_epochs=2)
    with pytest.raises(ValueError, match=message) as caught:
        trainer.fit(make_module(), make_batches(1), ckpt_path=saved, weights_only=True)
    assert "adversary=[patch]" in str(caught.value)


def test_adversary_names_must_differ(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    trainer = make_trainer([patch(Hinge()), patch(LeastSquares())])
    with pytest.raises(ValueError, match="different names, got patch, patch"):
        trainer.fit(make_module(), make_batches(1))


def test_adversary_may_come_twice_under_two_names(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module()
    callbacks = [patch(Hinge(), name="second", judges="rough"), patch(Hinge(), name="first")]
    trainer = make_trainer(callbacks)
    trainer.fit(module, make_batches(1))
    groups = trainer.optimizers[1].param_groups
    assert [group["name"] for group in groups] == ["first", "second"]


def test_adversary_order_in_the_config_does_not_matter(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def run(folder: str, swapped: bool, checkpoint: Path | None = None) -> None:
        callbacks = [patch(Hinge()), feature(Hinge())][:: -1 if swapped else 1]
        make_trainer([*callbacks, save_after(folder)], max_epochs=2).fit(
            make_module(), make_batches(1), ckpt_path=checkpoint, weights_only=True
        )

    run("whole", swapped=False)
    run("swapped", swapped=True, checkpoint=tmp_path / "whole/epoch_0.ckpt")
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "swapped/end.ckpt")


def test_discriminators_start_alike_in_any_order_and_company(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    class Start(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.state = {k: v.clone() for k, v in pl_module.discriminators.state_dict().items()}
            self.draw = torch.rand(1)

    def start(*callbacks: Adversary) -> Start:
        watch = Start()
        make_trainer([*callbacks, watch]).fit(make_module(), make_batches(1))
        return watch

    one, other = start(patch(Hinge()), feature(Hinge())), start(feature(Hinge()), patch(Hinge()))
    alone, second = start(patch(Hinge())), start(patch(Hinge(), name="second"))
    assert list(one.state) == list(other.state)
    assert_equal(one.state, other.state)
    assert_equal(alone.state, {k: v for k, v in one.state.items() if k in alone.state})
    assert torch.equal(one.draw, other.draw)
    assert torch.equal(one.draw, alone.draw)
    weight = "0.weight"
    assert not torch.equal(alone.state[f"patch.{weight}"], second.state[f"second.{weight}"])


class Joined(Adversary):
    """Judges an image and its hole, with a discriminator of two arguments."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(4, 1, 4, stride=4)

        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.cat([image, mask], dim=1))

    def build_discriminator(self, pl_module: Any) -> torch.nn.Module:
        return self.Network()

    def pair(self, pl_module: Any, batch: Batch, out: Inpainting) -> Any:
        return (batch.image, batch.mask), (out.composite, batch.mask)


def test_adversary_may_judge_several_tensors_together(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module = make_module(Watched)
    make_trainer([Joined("joined", Hinge())]).fit(module, make_batches(1))
    assert module.reached[0]["generator/joined refinement"] > 0


@pytest.mark.parametrize(
    ("adversary", "size", "message"),
    [
        (feature, 32, r"feature-patch.* images of 48×48, not of 32×32: choose a larger data\.size"),
        (patch, 16, r"the patch discriminator judges images of at least 24×24, not 16×16"),
    ],
)
def test_adversary_says_which_size_it_needs(
    adversary: Make,
    size: int,
    message: str,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
) -> None:
    image = torch.zeros(1, 3, size, size)
    batches = make_batches(given=[Batch(image, image[:, :1] + 1, ["a.jpg"])])
    weights = {"consistency": 0.0}
    with pytest.raises(ValueError, match=message):
        make_trainer([adversary(Hinge())]).fit(make_module(loss_weights=weights), batches)


@pytest.mark.parametrize("strides", [(2, 1, 1), (2, 2, 2), (1, 1, 1)])
def test_feature_discriminator_knows_its_smallest_input(strides: tuple[int, int, int]) -> None:
    network = FeaturePatchDiscriminator(4, 4, strides)
    smallest = network.smallest
    assert network(torch.rand(1, 4, smallest, smallest)).numel()
    with pytest.raises(ValueError, match="choose a larger data"):
        network(torch.rand(1, 4, smallest - 1, smallest))
    super_forward = torch.nn.Sequential.forward
    with pytest.raises((ValueError, RuntimeError)):  # the layers themselves refuse this size
        super_forward(network, torch.rand(1, 4, smallest - 1, smallest - 1))


def test_adversary_is_not_needed_to_load_or_validate(
    saved: Path, make_batches: Make, make_module: Make, make_trainer: Make
) -> None:
    loaded = CSAInpainter.load_from_checkpoint(saved, weights_only=True)
    assert len(loaded.discriminators) == 0
    state = torch.load(saved, weights_only=True)["state_dict"]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[name]), name

    (scores,) = make_trainer().validate(loaded, make_batches(1), verbose=False)
    (again,) = make_trainer().validate(
        make_module(seed=3), make_batches(1), ckpt_path=saved, weights_only=True, verbose=False
    )
    assert scores == again


def test_adversary_learning_rate_is_its_own(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    trainer = make_trainer([patch(Hinge(), learning_rate=1e-5)])
    trainer.fit(make_module(learning_rate=1e-3), make_batches(1))
    assert [o.param_groups[0]["initial_lr"] for o in trainer.optimizers] == [1e-3, 1e-5]


@pytest.mark.parametrize("judged", ["rough", "refined", "composite"])
def test_adversary_judges_the_image_it_names(
    judged: str, make_module: Make, make_batch: Make
) -> None:
    module, batch = make_module(), make_batch(0)
    out = module(batch.image, batch.mask)
    real, fake = patch(Hinge(), judges=judged).pair(module, batch, out)
    assert real is batch.image
    assert fake is getattr(out, judged)


def test_adversary_refuses_an_unknown_image() -> None:
    with pytest.raises(ValueError, match="judges='coarse', expected refined, composite or rough"):
        patch(Hinge(), judges="coarse")
