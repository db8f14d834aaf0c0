"""Every file below conf/ composes, and the objects that it names can be made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from csa_inpaint import Inpainter
from csa_inpaint.adversaries import Hinge, PatchAdversary
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.cli.launch import following_launcher
from csa_inpaint.data import InpaintingDataModule

CONF = config_directory()
SMALL = ("model.vgg.weights=random", "data.num_workers=0", "data.batch_size=1")
CHOICES = sorted(
    f"{path.parent.relative_to(CONF).as_posix()}={path.stem}"
    for path in CONF.glob("*/**/[!_]*.yaml")
    if path.parent.name not in ("experiment", "protocol")  # the latter is of make_benchmark
)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SETTINGS = [name for name in EXPERIMENTS if name != "ablation"]  # ablation is a sweep


@pytest.fixture
def run_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    HydraConfig.instance().cfg = None


def small(choice: str) -> tuple[str, ...]:
    """Overrides that make any model quick to build."""
    width = "model.generator.width=4" if "gated_conv" in choice else "model.width=4"
    nodes = ["trainer.num_nodes=2"] if "multinode" in choice else []  # a launcher knows otherwise
    return (width, *SMALL, *nodes)


def composed(run_folder: Path, *overrides: str) -> DictConfig:
    """The training's configuration, resolvable as in a run whose results go to `run_folder`."""
    own = [f"hydra.runtime.output_dir={run_folder}", "hydra.job.num=0", "hydra.job.id=0"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*overrides, *own], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config


def parts(config: DictConfig) -> dict[str, Any]:
    """All parts of a training."""
    adversaries = [instantiate(c, _convert_="all") for c in config.get("adversary", {}).values()]
    callbacks = [instantiate(c, _convert_="all") for c in config.callbacks.values()]
    loggers = [instantiate(c, _convert_="all") for c in config.logger.values()]
    return {
        "data": instantiate(config.data, _convert_="all"),
        "model": instantiate(config.model, _convert_="all"),
        "adversaries": adversaries,
        "trainer": instantiate(
            following_launcher(config.trainer),
            callbacks=callbacks + adversaries,
            logger=loggers,
            _convert_="all",
        ),
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_composes_and_resolves(run_folder: Path, choice: str) -> None:
    group, name = choice.split("=")
    if group == "hydra/launcher":
        pytest.importorskip("submitit", reason="pip install 'csa-inpaint[slurm]'")
    override = {"adversary": f"adversary=[{name}]", "ablation": f"+{choice}"}.get(group, choice)
    config = composed(run_folder, override)
    assert OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    "choice",
    [
        c
        for c in CHOICES
        if c.split("=")[0].split("/")[0] in ("ablation", "callbacks", "logger", "model", "strategy")
    ],
)
def test_choice_makes_its_parts(run_folder: Path, choice: str) -> None:
    override = f"+{choice}" if choice.startswith("ablation=") else choice
    made = parts(composed(run_folder, override, *small(choice)))
    assert isinstance(made["trainer"], pl.Trainer)
    assert isinstance(made["model"], Inpainter)


@pytest.mark.parametrize("experiment", [*SETTINGS, "[places2,ablation]"])
def test_experiment_makes_its_parts(run_folder: Path, tmp_path: Path, experiment: str) -> None:
    for name in ("data_large/a/arch/1.jpg", "data_large/b/beach/2.jpg", "val_large/3.jpg"):
        path = tmp_path / "places2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 280), "teal").save(path)
    own_photos = "places2" not in experiment
    root = [] if own_photos else [f"data.root={tmp_path / 'places2'}"]
    made = parts(composed(run_folder, f"+experiment={experiment}", *root, *small(experiment)))
    assert isinstance(made["data"], InpaintingDataModule)
    size = 128 if own_photos else 256
    assert next(iter(made["data"].train_dataloader())).image.shape == (1, 3, size, size)
    gated = "gated_conv" in experiment
    assert made["model"].multiple == (8 if gated else 2**8)
    names = {"sn_patch"} if gated else {"patch", "feature"}
    assert {adversary.name for adversary in made["adversaries"]} == names


def test_no_adversary_is_a_choice(run_folder: Path) -> None:
    assert parts(composed(run_folder, "adversary=[]", *SMALL))["adversaries"] == []


def test_objective_reaches_the_adversary(run_folder: Path) -> None:
    config = composed(run_folder, "adversary=[patch]", "objective=hinge", *SMALL)
    (adversary,) = parts(config)["adversaries"]
    assert isinstance(adversary, PatchAdversary)
    assert isinstance(adversary.objective, Hinge)


def test_logger_always_includes_csv(run_folder: Path) -> None:
    for name in ("csv", "tensorboard", "wandb"):
        assert "csv" in composed(run_folder, f"logger={name}").logger
