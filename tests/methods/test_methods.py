"""One table of methods: each trains, resumes bit-exactly, evaluates, predicts and runs in two
processes, through the same module, commands and files."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from csa_inpaint import CSALayer, Inpainter, inpaint, load_model
from csa_inpaint.cli.conf import config_directory

Make = Callable[..., Any]


class Method(NamedTuple):
    choices: list[str]  # of the command line, so small that a step takes milliseconds
    stages: int
    terms: set[str]  # of the generator
    callbacks: tuple[str, ...] = ()  # of the method itself, by their names in the configuration


PAPER = ("model=small", "adversary=[patch,feature]")
METHODS = {
    "csa": Method(
        [*PAPER, "model.width=4", "model.depth=4", "model.vgg.width=4"],
        2,
        {"l1_rough", "l1_refined", "consistency", "patch", "feature"},
    ),
    "csa, first stage": Method(
        [*PAPER, "+ablation=rough_only", "model.width=4", "model.depth=4", "model.vgg.width=4"],
        1,
        {"l1_rough", "patch", "feature"},
    ),
    "csa, practical": Method(
        ["model.width=4", "model.depth=4"],
        2,
        {"l1_rough", "l1_refined", "patch"},
    ),
    "gated_conv": Method(
        ["+experiment=gated_conv", "model.generator.width=2", "adversary.sn_patch.width=4"],
        2,
        {"l1_rough", "l1_refined", "sn_patch"},
    ),
    "partial_conv": Method(
        [
            "+experiment=partial_conv",
            "model.generator.width=4",
            "model.generator.depth=4",
            "model.vgg.width=4",
        ],
        1,
        {"valid", "hole", "perceptual", "style", "tv"},
    ),
    "context_encoder": Method(
        [
            "+experiment=context_encoder",
            "model.generator.width=4",
            "model.generator.depth=3",
            "model.generator.bottleneck=8",
            "adversary.context.width=4",
        ],
        1,
        {"l2", "context"},
    ),
    "shift_net": Method(
        ["+experiment=shift_net", "model.generator.width=4", "model.generator.depth=4"],
        1,
        {"l1", "guidance", "patch"},
    ),
    "contextual_attention": Method(
        [
            "+experiment=contextual_attention",
            "model.generator.width=2",
            "model.generator_every=2",
            "box=32",
            "adversary.local.width=2",
            "adversary.global.width=2",
            "adversary.global.size=64",
        ],
        2,
        {"l1_rough", "l1_refined", "known_rough", "known_refined", "local", "global"},
    ),
    "glcic": Method(
        [
            "+experiment=glcic",
            "model.generator.width=4",
            "adversary.joint.width=2",
            "adversary.joint.features=4",
            "adversary.joint.size=64",
            "adversary.joint.local_size=32",
            "callbacks.phases.phases="
            "[{windows:1,discriminators:false},{windows:1,generator:false},{}]",
        ],
        1,
        {"l2", "joint"},
        ("phases",),
    ),
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def parts(method: Method, seed: int = 0, **settings: Any) -> tuple[Inpainter, list[pl.Callback]]:
    """The module, its adversaries and its own callbacks, as the command line makes them."""
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = compose("train", method.choices)
    torch.manual_seed(seed)
    module = instantiate(config.model, **settings, _convert_="all")
    adversaries = config.get("adversary", {}).values()  # a method may have none
    own = [config.callbacks[name] for name in method.callbacks]
    return module, [instantiate(node, _convert_="all") for node in [*adversaries, *own]]


@each_method
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_method_trains_and_validates(
    method: Method, precision: str, make_batches: Make, make_trainer: Make
) -> None:
    module, adversaries = parts(method, accumulate_batches=2)
    before = [p.detach().clone() for p in module.generator.parameters()]
    trainer = make_trainer(adversaries, precision=precision)
    trainer.fit(module, make_batches(3, batch=2), make_batches(1))
    metrics = trainer.callback_metrics
    logged = {k.split("/")[1] for k in metrics if k.startswith("generator/")}
    assert logged == method.terms
    assert all(torch.isfinite(value) for value in metrics.values())
    equal = metrics["val/rough_psnr"] == metrics["val/refined_psnr"]
    assert bool(equal) is (method.stages == 1)
    after = module.generator.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.dim() == 4)


@each_method
def test_method_resumes_bit_exactly(
    method: Method,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def run(folder: str, checkpoint: str | None = None) -> None:
        module, adversaries = parts(method, seed=0 if checkpoint is None else 5)
        make_trainer([*adversaries, save_after(folder, batches=(1,))], max_epochs=2).fit(
            module,
            make_batches(2),
            ckpt_path=checkpoint and tmp_path / "whole" / checkpoint,
            weights_only=True,
        )

    run("whole")
    for checkpoint in ("batch_1.ckpt", "epoch_0.ckpt"):
        run(checkpoint, checkpoint)
        assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / checkpoint / "end.ckpt")


@each_method
def test_method_never_sees_what_the_hole_hides(method: Method, make_batch: Make) -> None:
    module, _ = parts(method)
    batch = make_batch(0, 2)
    hole = batch.mask.expand_as(batch.image) > 0.5
    expected = module(batch.image, batch.mask)
    for hidden in (float("nan"), 100.0):
        out = module(batch.image.masked_fill(hole, hidden), batch.mask)
        for name in ("rough", "refined", "composite"):
            assert torch.equal(getattr(out, name), getattr(expected, name)), name
    assert torch.equal(expected.composite[~hole], batch.image[~hole])
    assert torch.equal(expected.composite[hole], expected.refined[hole])


@each_method
def test_method_loads_and_fills_pictures_of_odd_sizes(
    method: Method, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    module, adversaries = parts(method)
    make_trainer([*adversaries, save_after()]).fit(module, make_batches(1))
    loaded = load_model(tmp_path / "end.ckpt")
    assert type(loaded.generator) is type(module.generator)
    for height, width in ((61, 75), (90, 33)):
        image = torch.rand(3, height, width) * 2 - 1
        mask = torch.zeros(1, height, width)
        mask[:, height // 3 : height // 2, 5:20] = 1
        filled = inpaint(loaded, image, mask[0])
        assert filled.shape == image.shape
        assert torch.equal(filled[:, mask[0] == 0], image[:, mask[0] == 0])
        assert not torch.equal(filled, image)


@pytest.mark.parametrize("attention", ["shift", "contextual"])
def test_attention_of_another_method_trains_and_loads_in_the_csa_generator(
    attention: str, make_batches: Make, make_trainer: Make, save_after: Make, tmp_path: Path
) -> None:
    small = ["model=small", "model.width=4", "model.depth=4", "adversary=[]"]
    choices = [f"model/attention={attention}", "model.loss_weights.consistency=0", *small]
    module, _ = parts(Method(choices, 2, set()))
    before = [p.detach().clone() for p in module.generator.parameters()]
    make_trainer([save_after()]).fit(module, make_batches(1), make_batches(1))
    after = module.generator.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.dim() == 4)
    loaded = load_model(tmp_path / "end.ckpt").generator.refinement.attention
    assert type(loaded) is type(module.generator.refinement.attention)
    assert type(loaded) is not CSALayer


@pytest.mark.slow
@each_method
def test_method_runs_by_its_commands_in_two_processes(method: Method, tmp_path: Path) -> None:
    def run(module: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", f"csa_inpaint.{module}", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    small = ["data.size=64", "data.num_workers=0", "data.batch_size=1", "trainer.max_epochs=1"]
    limits = ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    devices = ["trainer.accelerator=cpu", "trainer.devices=2"]
    folder = f"output_root={tmp_path / 'runs'}"
    run("train", *method.choices, *small, *limits, *devices, folder)
    (checkpoint,) = (tmp_path / "runs").rglob("last.ckpt")
    run("evaluate", f"checkpoint={checkpoint}", folder, "trainer.accelerator=cpu")
    Image.new("RGB", (71, 53), "teal").save(tmp_path / "photo.png")
    hole = Image.new("L", (71, 53))
    hole.paste(255, (20, 10, 40, 30))
    hole.save(tmp_path / "hole.png")
    files = [f"{name}={tmp_path / file}.png" for name, file in
             (("images", "photo"), ("masks", "hole"), ("output", "filled"))]  # fmt: skip
    run("predict", f"checkpoint={checkpoint}", *files)
    with Image.open(tmp_path / "filled.png") as filled:
        assert filled.size == (71, 53)
