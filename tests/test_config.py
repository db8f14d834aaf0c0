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
    # protocol is of make_benchmark, format of export, method of import_released
    if path.parent.name not in ("experiment", "format", "method", "protocol")
)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SWEEPS = ("ablation", "comparison")  # each names the group that it goes through
SETTINGS = [name for name in EXPERIMENTS if name not in SWEEPS]
# What a method's model needs and brings: multiples of its experiments' sizes, and adversaries.
METHODS = {
    "context_encoder": ({2**6, 2**7}, {"context"}),
    "contextual_attention": ({8}, {"local", "global"}),
    "gated_conv": ({8}, {"sn_patch"}),
    "shift_net": ({2**6, 2**8}, {"patch"}),
    "glcic": ({4}, {"joint"}),
    "partial_conv": ({2**6, 2**8}, set()),
    "texture": ({2**6}, {"patch"}),
    "starter": ({2**6}, set()),
    "finetune": ({2**4}, set()),
}
CSA = ({2**8}, {"patch", "feature"})


@pytest.fixture
def run_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    HydraConfig.instance().cfg = None


def small(choice: str) -> tuple[str, ...]:
    """Overrides that make any model quick to build."""
    if choice in ("model=from_weights", "finetune"):
        return ("init_from=pretrained", "model.vgg.width=4", *SMALL)
    other = any(method in choice for method in METHODS) and choice not in ("starter", "texture")
    width = "model.generator.width=4" if other else "model.width=4"
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
    override = f"+{choice}" if group in SWEEPS else choice
    if group == "adversary":
        override = f"adversary=[{name}]"
    config = composed(run_folder, override)
    assert OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    "choice",
    [
        c
        for c in CHOICES
        if c.split("=")[0].split("/")[0] in (*SWEEPS, "callbacks", "logger", "model", "strategy")
    ],
)
def test_choice_makes_its_parts(run_folder: Path, starter: Inpainter, choice: str) -> None:
    override = f"+{choice}" if choice.startswith(SWEEPS) else choice
    made = parts(composed(run_folder, override, *small(choice)))
    assert isinstance(made["trainer"], pl.Trainer)
    assert isinstance(made["model"], Inpainter)


@pytest.mark.parametrize("experiment", [*SETTINGS, "[places2,ablation]"])
def test_experiment_makes_its_parts(
    run_folder: Path, tmp_path: Path, starter: Inpainter, experiment: str
) -> None:
    for name in ("data_large/a/arch/1.jpg", "data_large/b/beach/2.jpg", "val_large/3.jpg"):
        path = tmp_path / "places2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (540, 520), "teal").save(path)
    (tmp_path / "masks").mkdir()
    mask = Image.new("L", (512, 512))
    mask.paste(255, (100, 100, 200, 300))
    mask.save(tmp_path / "masks/1.png")
    config = composed(run_folder, f"+experiment={experiment}", *small(experiment))
    own_photos = config.data.root is None and "Places2" not in config.data.layout._target_
    if not own_photos:
        config.data.root = str(tmp_path / "places2")
    if "root" in config.mask:
        config.mask.root = str(tmp_path / "masks")
    made = parts(config)
    assert isinstance(made["data"], InpaintingDataModule)
    size = 128 if own_photos else config.data.size
    assert next(iter(made["data"].train_dataloader())).image.shape == (1, 3, size, size)
    found = [known for method, known in METHODS.items() if experiment.startswith(method)]
    multiples, names = found[0] if found else CSA
    assert made["model"].multiple in multiples
    assert {adversary.name for adversary in made["adversaries"]} == names


def test_ablation_takes_an_adversary_of_an_experiment_away(run_folder: Path) -> None:
    given = ("+experiment=[places2,ablation]", "ablation=no_feature_adversary")
    assert set(composed(run_folder, *given).adversary) == {"patch"}


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


def test_comparison_goes_through_all_methods(run_folder: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["+experiment=comparison"], return_hydra_config=True)
    methods = config.hydra.sweeper.params.comparison.split(",")
    assert sorted(methods) == sorted(path.stem for path in (CONF / "comparison").glob("*.yaml"))
    seen = {
        method: composed(run_folder, "+experiment=comparison", f"comparison={method}")
        for method in methods
    }
    shared = ("data", "mask", "trainer", "seed")
    for config in seen.values():
        assert all(config[key] == seen["csa"][key] for key in shared)
        assert config.model.schedule == {**config.model.schedule, "constant": 1, "decay": 0}
    assert len({str(config.model) for config in seen.values()}) == len(methods)
