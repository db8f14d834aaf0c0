"""Pack a data set into shards: ``python -m csa_inpaint.make_shards data=… output=…``."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("make_shards")  # the imports below take seconds

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from hydra.utils import instantiate
from omegaconf import DictConfig

from csa_inpaint.cli.entry import command
from csa_inpaint.cli.parallel import in_parallel
from csa_inpaint.data import InpaintingDataModule
from csa_inpaint.data.checking import check_image, most_bad, printable
from csa_inpaint.data.datasets.layout import Split
from csa_inpaint.data.datasets.shards import (
    OURS,
    Shard,
    ShardError,
    index_file,
    read_index,
    read_shard,
    write_index,
)
from csa_inpaint.data.images import MAX_PIXELS
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.loading import BadFile


class Job(NamedTuple):
    """One shard to write."""

    files: FileList
    path: Path
    skip_bad_files: bool
    max_pixels: int


class Written(NamedTuple):
    """A shard that was written, and the files that were left out of it."""

    shard: Shard
    left_out: list[BadFile]


def make_shards(
    files: FileList,
    split: Split,
    output: Path,
    images_per_shard: int = 10_000,
    workers: int | None = None,
    skip_bad_files: bool = False,
    max_bad_share: float = 0.01,
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Copy images into shards, byte by byte and in their order, and write the index of them.

    Shards and index get their names once they are whole, so that an interrupted call is continued
    by another: shards that are there are read again and kept.

    Args:
        files: the images.
        split: what they are for, which the shards are named by.
        output: the folder to write to.
        images_per_shard: images in each shard but the last.
        workers: processes; None for one on each core.
        skip_bad_files: leave out images that cannot be read and list them in a file, instead of
            stopping.
        max_bad_share: share of the images that may be left out; one always may, unless it is 0.
        max_pixels: pixels of the largest picture that is decoded.

    Returns:
        the number of images in the shards.

    Raises:
        ValueError: an image cannot be read, or too many cannot; or a setting is out of range.
        ShardError: the output holds a damaged shard, or one of other images.
    """
    if images_per_shard < 1:
        raise ValueError(f"images_per_shard={images_per_shard}: expected 1 or more")
    index = index_file(output, split)
    if index.exists():
        done = read_index(index)
        if not set(done.names()) <= set(files.names()):
            raise ShardError(_others(index))
        return len(done)
    starts = range(0, len(files), images_per_shard)
    jobs = [
        Job(
            files[start : start + images_per_shard],
            output / f"{split}-{number:06}.tar",
            skip_bad_files,
            max_pixels,
        )
        for number, start in enumerate(starts)
    ]
    output.mkdir(parents=True, exist_ok=True)
    shards: list[Shard] = []
    left_out: list[BadFile] = []
    for written in in_parallel(write_shard, jobs, workers, split):
        shards.append(written.shard)
        left_out += written.left_out
        if len(left_out) > most_bad(max_bad_share, len(files)):
            raise ValueError(
                f"{len(left_out)} of {len(files)} {split} images are bad, more than "
                f"data.max_bad_share={max_bad_share:g} allows, the last being: "
                f"{left_out[-1].reason}. python -m csa_inpaint.check_data lists them all"
            )
    if left_out:
        reasons = "".join(f"{printable(bad.reason)}\n" for bad in left_out)
        (output / f"{split}_left_out.txt").write_text(reasons, encoding="utf-8")
    write_index(index, shards)
    return len(files) - len(left_out)


def write_shard(job: Job) -> Written:
    """Write one shard, unless it is there.

    Raises:
        ModuleNotFoundError: WebDataset is not installed.
    """
    try:  # reading shards does without it
        from webdataset import TarWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "shards are written by WebDataset: pip install 'csa-inpaint[shards]'"
        ) from error
    if job.path.exists():
        return _kept(job)
    left_out = []
    part = job.path.with_suffix(".part")
    with part.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for index in range(len(job.files)):
            bad = _bad_file(job, index)
            if bad is not None:
                left_out.append(bad)
                continue
            # What is written is the key, a dot and the suffix: the name as it was.
            key, _, suffix = job.files.name(index).rpartition(".")
            tar.write({"__key__": key, suffix: job.files.read(index)})
    part.replace(job.path)
    return Written(read_shard(job.path), left_out)


def _kept(job: Job) -> Written:
    """A shard of an earlier call, after a look at whether it is the one that would be written."""
    shard = read_shard(job.path)
    there = set(shard.names)
    missing = [index for index, name in enumerate(job.files.names()) if name not in there]
    left_out = [bad for index in missing if (bad := _bad_file(job, index)) is not None]
    in_order = [name for name in job.files.names() if name in there]
    if shard.names != in_order or len(left_out) != len(missing):
        raise ShardError(_others(job.path))
    return Written(shard, left_out)


def _bad_file(job: Job, index: int) -> BadFile | None:
    result = check_image(job.files, index, job.max_pixels)
    if result.problem is None:
        return None
    if not result.skippable:
        raise ValueError(result.problem)
    if not job.skip_bad_files:
        raise ValueError(f"{result.problem}. data.on_bad_file=skip leaves bad files out")
    return BadFile(result.path, result.problem, is_mask=False)


def _others(path: Path) -> str:
    return (
        f"{path} is there and holds other images than it would be given now: choose another "
        "output, delete this one, or use the settings that it was begun with"
    )


def check_output(output: Path, splits: Sequence[Split]) -> None:
    """Refuse a folder that is complete or that holds anything but shards.

    Raises:
        FileExistsError: it does.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"output={output} is a file: name a new folder")
    foreign = [path.name for path in sorted(output.iterdir()) if not OURS.fullmatch(path.name)]
    if foreign:
        raise FileExistsError(
            f"output={output} holds {foreign[0]}, which is no shard: name a new folder"
        )
    if all(index_file(output, split).exists() for split in splits):
        raise FileExistsError(
            f"output={output} already holds finished shards of {', '.join(splits)}: name a new "
            "folder, or delete this one"
        )


@command("make_shards")
def main(cfg: DictConfig) -> None:
    unknown = [split for split in cfg.splits if split not in get_args(Split)]
    if unknown or not cfg.splits:
        raise ValueError(f"splits={cfg.splits}: expected some of {', '.join(get_args(Split))}")
    output = Path(cfg.output).expanduser()
    check_output(output, cfg.splits)
    data: InpaintingDataModule = instantiate(cfg.data, _convert_="all")
    lists = {split: data.layout.files(data.root, split) for split in cfg.splits}
    try:
        for split, files in lists.items():
            count = make_shards(
                files,
                split,
                output,
                cfg.images_per_shard,
                cfg.workers,
                data.on_bad_file == "skip",
                data.max_bad_share,
                data.max_pixels,
            )
            left_out = len(files) - count
            more = f", {left_out} bad ones left out: {split}_left_out.txt" if left_out else ""
            print(f"{split}: {count} images{more}")
    except KeyboardInterrupt:
        print("\nInterrupted: the same command continues with the next shard", file=sys.stderr)
        sys.exit(130)
    print(f"Train on them: python -m csa_inpaint.train data=shards data.root={output}")


if __name__ == "__main__":
    main()
