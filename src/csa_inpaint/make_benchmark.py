"""Freeze a benchmark: ``python -m csa_inpaint.make_benchmark``; ``--help`` tells more."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("make_benchmark")  # the imports below take seconds

from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from csa_inpaint.cli.entry import command
from csa_inpaint.data import CenterCrop, InpaintingDataModule
from csa_inpaint.data.loading import InpaintingDataset
from csa_inpaint.evaluation.benchmark import Benchmark, entries, in_words, masks_in_words
from csa_inpaint.evaluation.records import bin_name

# What may be set without leaving a protocol: where things lie.
_PLACES = (
    "protocol", "data.root", "mask.root", "mask.polarity", "output", "output_root", "overwrite",
)  # fmt: skip


def make_benchmark(cfg: DictConfig, published: str | None) -> tuple[Benchmark, Path]:
    """Choose pictures, draw their masks and write both as a manifest to ``cfg.output``.

    Args:
        cfg: ``conf/make_benchmark.yaml``.
        published: the table of published figures that this protocol belongs to, None for none.

    Returns:
        The benchmark, and the folder that its pictures lie in.

    Raises:
        FileExistsError: the manifest is there and ``overwrite`` is False.
        ValueError: the data set has too few pictures, holds no image files, or shows them in
            another way than their middle.
    """
    output = Path(cfg.output)
    if output.exists() and not cfg.overwrite:
        raise FileExistsError(
            f"{output} is there: a benchmark is made once. Choose another name, or replace it with "
            "overwrite=true"
        )
    datamodule: InpaintingDataModule = instantiate(cfg.data, _convert_="all")
    view = datamodule.val_transform
    if not isinstance(view, CenterCrop):
        raise ValueError(
            f"data.val_transform is {type(view).__name__}: a benchmark shows the middle of its "
            "pictures, by csa_inpaint.data.CenterCrop"
        )
    split = datamodule.test_split
    dataset = datamodule.dataset(split)
    root = _root(datamodule, dataset)
    ratios = None if cfg.ratios is None else [(float(low), float(high)) for low, high in cfg.ratios]
    numbers = choose_pictures(len(dataset.files), cfg.images, cfg.seed)
    made = entries(dataset, root, numbers, ratios, cfg.seed)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    bins = "" if ratios is None else f", one of each ratio {' '.join(bin_name(*r) for r in ratios)}"
    benchmark = Benchmark(
        name=cfg.name,
        data=f"{in_words(plain['data']['layout'], places=False)}, {split} split",
        masks=masks_in_words(plain["data"], places=False) + bins,
        published=published,
        size=dataset.size,
        central=view.central,
        resize=view.resize,
        upscale_small=dataset.upscale_small,
        entries=tuple(track(made, "Masks and hashes", len(numbers) * len(ratios or [None]))),
    )
    benchmark.write(output, root)
    return benchmark, root


def choose_pictures(count: int, wanted: int | None, seed: int) -> list[int]:
    """Random numbers below ``count`` in rising order, each at most once; None takes all.

    Raises:
        ValueError: there are fewer than are wanted.
    """
    if wanted is None:
        return list(range(count))
    if wanted > count:
        raise ValueError(f"images={wanted}, but the split has {count}: choose fewer, or null")
    return sorted(np.random.default_rng(seed).permutation(count)[:wanted].tolist())


def _root(datamodule: InpaintingDataModule, dataset: InpaintingDataset) -> Path:
    """The folder that the pictures' names start from: ``data.root`` where they are below it."""
    path = dataset.files.path(0).absolute()
    if not path.is_file():
        raise ValueError(
            f"{path} is no file of its own: benchmarks are made of image files, name the data set "
            "before it was packed"
        )
    root = datamodule.root
    inside = root is not None and path.is_relative_to(root.absolute())
    return root.absolute() if inside and root is not None else dataset.files.root.absolute()


def published_table(cfg: DictConfig, overrides: list[str]) -> str | None:
    """The protocol's published table, where nothing but places was set beside the protocol."""
    changed = [o for o in overrides if o.split("=")[0].lstrip("+") not in _PLACES]
    if cfg.published is None:
        return None
    if changed:
        print(f"Not beside the published figures, whose protocol has no {', '.join(changed)}")
        return None
    return str(cfg.published)


@command("make_benchmark")
def main(cfg: DictConfig) -> None:
    published = published_table(cfg, list(HydraConfig.get().overrides.task))
    benchmark, root = make_benchmark(cfg, published)
    print(f"{len(benchmark.entries)} samples of {root}: {cfg.output}\nSHA-256 {benchmark.sha256}")


if __name__ == "__main__":
    main()
