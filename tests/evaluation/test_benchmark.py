"""Frozen benchmarks: the same pictures and masks, or a refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from csa_inpaint.cli.conf import config_directory
from csa_inpaint.data import (
    CenterCrop,
    FreeformMask,
    ImageFolder,
    InpaintingDataModule,
    PairedMask,
)
from csa_inpaint.evaluation.benchmark import (
    Benchmark,
    BenchmarkSource,
    entries,
    in_words,
    pack,
    read_benchmark,
    unpack,
)
from csa_inpaint.evaluation.published import PUBLISHED
from csa_inpaint.make_benchmark import choose_pictures, published_table


@pytest.fixture
def datamodule(pictures: Path) -> InpaintingDataModule:
    return InpaintingDataModule(
        ImageFolder(val_root=pictures), FreeformMask(), pictures, size=[48, 64]
    )


def made(datamodule: InpaintingDataModule, root: Path, seed: int = 0, **settings: Any) -> Benchmark:
    dataset = datamodule.dataset("val")
    ratios = [(0.1, 0.3), (0.3, 0.5)]
    return Benchmark(
        **{
            "name": "small",
            "data": "pictures",
            "masks": "strokes",
            "published": None,
            "size": (48, 64),
            "central": None,
            "resize": True,
            "upscale_small": False,
            "entries": tuple(entries(dataset, root, range(5), ratios, seed)),
            **settings,
        }
    )


def test_manifest_gives_the_same_samples_again(
    datamodule: InpaintingDataModule, pictures: Path, tmp_path: Path
) -> None:
    benchmark = made(datamodule, pictures)
    benchmark.write(tmp_path / "small.json", pictures)
    again, root = read_benchmark(tmp_path / "small.json")
    assert again == benchmark
    assert root == pictures
    source = BenchmarkSource(again, root)
    assert source.names[:2] == ["0_10-30", "0_30-50"]
    truth = datamodule.dataset("val")
    for number in range(10):
        sample = source.sample(number)
        ratio = sample.mask.double().mean()
        assert (0.1, 0.3)[number % 2] < ratio <= (0.3, 0.5)[number % 2]
        picture = CenterCrop()((72, 80), (48, 64), np.random.default_rng())
        with Image.open(truth.files.path(number // 2)) as image:
            shown = image.resize((64, 48), Image.Resampling.BICUBIC, box=picture.box)
        assert np.array_equal(sample.image.permute(1, 2, 0), np.asarray(shown))


def test_benchmark_is_decided_by_its_seed(datamodule: InpaintingDataModule, pictures: Path) -> None:
    assert made(datamodule, pictures) == made(datamodule, pictures)
    assert made(datamodule, pictures).sha256 != made(datamodule, pictures, seed=1).sha256
    # Masks of one picture in bins that overlap are draws of their own.
    overlapping = [(0.01, 0.5), (0.01, 0.51)]
    first, second = entries(datamodule.dataset("val"), pictures, [0], overlapping, 0)
    assert first.mask != second.mask


def test_hash_does_not_depend_on_where_the_pictures_lie(
    datamodule: InpaintingDataModule, pictures: Path, tmp_path: Path
) -> None:
    benchmark = made(datamodule, pictures)
    moved = pictures.rename(tmp_path / "elsewhere")
    other = InpaintingDataModule(ImageFolder(val_root=moved), FreeformMask(), moved, size=[48, 64])
    assert made(other, moved).sha256 == benchmark.sha256
    assert BenchmarkSource(benchmark, moved).sample(0).image.shape == (3, 48, 64)


def test_other_pictures_are_refused(datamodule: InpaintingDataModule, pictures: Path) -> None:
    benchmark = made(datamodule, pictures)
    Image.new("RGB", (80, 72)).save(pictures / "3.png")
    with pytest.raises(ValueError, match=r"1 of 5 pictures .* the first is 3\.png"):
        BenchmarkSource(benchmark, pictures)
    (pictures / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 5 pictures .*3\.png.*\+data\.root=DIR"):
        BenchmarkSource(benchmark, pictures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(size=[48, 48]), "was changed after it was made"),
        (lambda content: content["entries"].pop(), "was changed after it was made"),
        (lambda content: content.update(published="celeba_center"), "was changed after"),
        (lambda content: content.pop("entries"), "is no manifest of a benchmark"),
        (lambda content: content.update(format="2"), "is no manifest of a benchmark"),
        (lambda content: content["entries"][0].update(name="../../x"), "outside its folder"),
        (lambda content: content["entries"][0].update(image="/etc/x.png"), "outside its folder"),
    ],
)
def test_changed_manifest_is_refused(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    datamodule: InpaintingDataModule,
    pictures: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "small.json"
    made(datamodule, pictures).write(path, pictures)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_benchmark(path)


def test_manifest_that_is_not_there_is_told_how_to_make(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make_benchmark"):
        read_benchmark(tmp_path / "street.json")


def test_mask_survives_as_text() -> None:
    mask = np.random.default_rng(0).random((7, 9)) < 0.3
    assert np.array_equal(unpack(pack(mask), (7, 9)), mask)


def test_configuration_is_told_in_words() -> None:
    kinds = {"a": {"_target_": "x.CenterMask", "size": 0.5}, "b": {"_target_": "x.FolderMask"}}
    kinds["b"]["root"] = "/somewhere"
    config = {"_target_": "x.y.MixtureMask", "kinds": kinds, "weights": None}
    words = "MixtureMask(kinds={a=CenterMask(size=0.5), b=FolderMask("
    assert in_words(config) == f"{words}root=/somewhere)}})"
    assert in_words(config, places=False) == f"{words})}})"


def test_pictures_are_chosen_at_random_and_once() -> None:
    assert choose_pictures(3, None, 0) == [0, 1, 2]
    chosen = choose_pictures(1000, 100, 0)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 100
    assert chosen != choose_pictures(1000, 100, 1)
    with pytest.raises(ValueError, match=r"images=4, but the split has 3"):
        choose_pictures(3, 4, 0)


# --- protocols --------------------------------------------------------------------------------

PROTOCOLS = sorted(path.stem for path in (config_directory() / "protocol").glob("*.yaml"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocol_composes(protocol: str, tmp_path: Path) -> None:
    Image.new("1", (8, 8)).save(tmp_path / "00000.png")
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        overrides = [f"protocol={protocol}", f"data.root={tmp_path}"]
        if "irregular" in protocol:
            overrides.append(f"mask.root={tmp_path}")
        cfg = compose("make_benchmark", overrides)
    assert OmegaConf.to_container(cfg, resolve=True)
    assert cfg.name == protocol
    assert cfg.published in (None, protocol)
    if protocol in PUBLISHED:
        assert cfg.published == protocol
        bins = {figure.holes for figure in PUBLISHED[protocol]} - {None}
        assert bins == {f"({low:g}, {high:g}]" for low, high in cfg.ratios or []}
    assert isinstance(instantiate(cfg.data, _convert_="all"), InpaintingDataModule)


def test_published_figures_stand_beside_their_own_protocol_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = OmegaConf.create({"published": "celeba_center"})
    places = ["protocol=celeba_center", "data.root=x", "overwrite=true"]
    assert published_table(cfg, places) == "celeba_center"
    assert published_table(cfg, [*places, "images=100"]) is None
    assert "images=100" in capsys.readouterr().out
    assert published_table(OmegaConf.create({"published": None}), places) is None


def test_benchmark_takes_the_mask_that_belongs_to_a_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "masks").mkdir()
    for number in range(5):
        mask = np.zeros((72, 80), dtype=np.uint8)
        mask[:, : 8 * (number + 1)] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    monkeypatch.chdir(tmp_path)  # the folder of the pictures is given relative to where one stands
    data = InpaintingDataModule(
        ImageFolder(val_root=pictures.name), PairedMask("masks"), pictures.name, size=[72, 80]
    )
    frozen = entries(data.dataset("val"), pictures.absolute(), range(5), None, seed=0)
    shares = [unpack(entry.mask, (72, 80)).mean() for entry in frozen]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
