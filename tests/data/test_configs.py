"""Every file of conf/data and conf/mask composes, instantiates and gives a batch."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from PIL import Image

from csa_inpaint.data import ListFiles, ShippedPhotos
from csa_inpaint.make_shards import make_shards
from csa_inpaint.types import Batch

CONF = Path(__file__).parents[2] / "conf"
MakeImages = Callable[..., list[Path]]


def batch_of(tmp_path: Path, *overrides: str) -> Batch:
    (tmp_path / "top.yaml").write_text(
        f"defaults:\n  - data: photos\n  - mask: center\n  - _self_\nseed: 3\n"
        f"hydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("top", ["data.num_workers=0", *overrides])
    module = instantiate(config.data, _convert_="all")
    module.setup("fit")
    assert module.seed == 3
    next(iter(module.val_dataloader()))
    return next(iter(module.train_dataloader()))


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


@pytest.fixture
def datasets(tmp_path: Path, make_images: MakeImages) -> dict[str, list[str]]:
    """The overrides that each dataset needs, its files made in miniature."""
    make_images(tmp_path / "folder", [f"{index}.jpg" for index in range(4)], (80, 70))
    make_images(tmp_path / "places2/data_large/a/arch", ["1.jpg", "2.jpg"], (80, 70))
    make_images(tmp_path / "places2/val_large", ["1.jpg"], (80, 70))
    make_images(tmp_path / "celeba/img_align_celeba", ["1.jpg", "2.jpg", "3.jpg"], (218, 178))
    (tmp_path / "celeba/list_eval_partition.txt").write_text("1.jpg 0\n2.jpg 0\n3.jpg 1\n")
    make_images(tmp_path / "celebahq", ["train_256/1.jpg", "train_256/2.jpg", "val_256/3.jpg"])
    make_images(tmp_path / "paris_streetview/paris_train_original", ["1.JPG", "2.JPG"], (80, 120))
    make_images(tmp_path / "paris_streetview/paris_eval_gt", ["1.png"])
    make_images(tmp_path / "list", ["1.jpg", "2.jpg", "3.jpg"], (80, 70))
    (tmp_path / "list/train.txt").write_text("1.jpg\n2.jpg\n")
    (tmp_path / "list/val.txt").write_text("3.jpg\n")
    for split in ("train", "val"):
        for name in ("shards", "places2_shards"):
            files = ListFiles("train.txt", "val.txt").files(tmp_path / "list", split)
            make_shards(files, split, tmp_path / name, workers=1)
    own = {name: [f"data.root={tmp_path / name}"] for name in names("data")}
    own["several"] = [f"data.layout.roots=[{tmp_path / 'folder'},{tmp_path / 'list'}]"]
    own["webdataset"] = [f"data.urls={tmp_path}/shards/*.tar"]
    own["celebahq"].append("data.upscale_small=true")
    own["list"] += ["data.layout.train_list=train.txt", "data.layout.val_list=val.txt"]
    return own | {"photos": []}


@pytest.mark.parametrize("name", names("data"))
def test_dataset_composes_and_loads(
    tmp_path: Path, datasets: dict[str, list[str]], name: str
) -> None:
    overrides = ["data.size=64", "data.batch_size=2", *datasets[name]]
    batch = batch_of(tmp_path, f"data={name}", *overrides)
    assert batch.image.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", names("mask"))
def test_mask_composes_and_draws(tmp_path: Path, make_images: MakeImages, name: str) -> None:
    photos = (ShippedPhotos().files(None, split).names() for split in ("train", "val"))
    for photo in chain(*photos):  # the masks are paired with the photographs, or with none
        (mask,) = make_images(tmp_path, [f"masks/{Path(photo).stem}.png"], (256, 256))
        Image.open(mask).convert("1").save(mask)
    overrides = (
        [f"mask.root={tmp_path / 'masks'}"]
        if "root" in (CONF / f"mask/{name}.yaml").read_text()
        else []
    )
    batch = batch_of(tmp_path, f"mask={name}", "data.batch_size=8", *overrides)
    assert batch.mask.shape == (8, 1, 128, 128)
    assert 0 < batch.mask.float().mean() < 1


def test_hole_ratio_applies_to_any_mask(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, "mask=rectangle", "data.hole_ratio=[0.1, 0.12]")
    ratios = batch.mask.float().mean((1, 2, 3))
    assert ((ratios >= 0.1) & (ratios <= 0.12)).all()


def test_validation_mask_is_a_group_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "top.yaml").write_text(
        f"defaults:\n  - data: photos\n  - mask: freeform\n  - _self_\nseed: 3\n"
        f"hydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("top", ["+mask@data.val_mask=center", "data.num_workers=0"])
    module = instantiate(config.data, _convert_="all")
    assert (next(iter(module.val_dataloader())).mask.sum((1, 2, 3)) == 64 * 64).all()


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "photos"),
        (["data=celeba"], "celeba"),
        (["data=celeba", "name=mine"], "mine"),
        (["+experiment=places2"], "places2"),
    ],
)
def test_runs_are_named_after_their_data(overrides: list[str], name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        assert config.name == name
        assert f"/{name}/" in config.hydra.run.dir
    finally:
        HydraConfig.instance().cfg = None
