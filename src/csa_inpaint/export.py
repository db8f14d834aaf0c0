"""Export a trained model: ``checkpoint=… format=… output=…``.

``python -m csa_inpaint.export --help`` lists all formats and keys.
"""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("export")  # the imports below take seconds

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hydra.utils import instantiate
from omegaconf import DictConfig

from csa_inpaint.cli.entry import command
from csa_inpaint.training.loading import load_model
from csa_inpaint.training.module import Inpainter


class Format(Protocol):
    """What ``conf/format/NAME.yaml`` makes, by ``_partial_: true`` and its own settings."""

    def __call__(self, model: Inpainter, path: Path) -> Sequence[Path]:
        """Write a model that is in evaluation mode on the CPU; returns the files written."""


def export(cfg: DictConfig) -> list[Path]:
    """Write the model in the chosen format.

    Returns:
        the files that were written.

    Raises:
        FileExistsError: the output is there, and ``overwrite`` is false.
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint is damaged, or the format cannot hold the model.
    """
    output = Path(cfg.output)
    if not cfg.overwrite and (output.is_file() or (output.is_dir() and any(output.iterdir()))):
        raise FileExistsError(f"{output} is there: choose another output or set overwrite=true")
    write: Format = instantiate(cfg.format, _convert_="all")
    model = load_model(cfg.checkpoint, trust=cfg.trust)
    output.parent.mkdir(parents=True, exist_ok=True)
    files = list(write(model, output))
    for file in files:
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return files


@command("export")
def main(cfg: DictConfig) -> None:
    export(cfg)


if __name__ == "__main__":
    main()
