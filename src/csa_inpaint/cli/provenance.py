"""What a run was made with: versions, commit and command line."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from csa_inpaint.cli.conf import PACKAGE, config_directory

DISTRIBUTIONS = (
    "csa-inpaint",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
)


def command_line(command: str) -> str:
    """The command that started this process: ``python -m csa_inpaint.train mask=center``."""
    return shlex.join(["python", "-m", command, *sys.argv[1:]])


def provenance(command: str) -> dict[str, Any]:
    """The command line, the working directory, the commit of the library and the versions.

    Only a library that runs from a git checkout has ``commit`` and ``dirty``; ``dirty`` says that
    the library or its configuration has changes on top of the commit.
    """
    return {
        "command": command_line(command),
        "directory": str(Path.cwd()),
        **(commit(PACKAGE) or {}),
        "versions": versions(),
    }


def repeatable(cfg: DictConfig, run_folder: Path) -> dict[str, Any]:
    """The resolved configuration, from which another run starts in a folder of its own.

    ``--config-path RUN --config-name config`` reads the configuration. A path below this run's
    folder becomes the same path below the folder of the run that reads the configuration. Hydra's
    own settings are included.
    """
    folder = str(run_folder)

    def own(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: own(_absolute(key, value)) for key, value in node.items()}
        if isinstance(node, list):
            return [own(value) for value in node]
        if isinstance(node, str) and (node == folder or node.startswith(f"{folder}/")):
            return "${hydra:runtime.output_dir}" + node.removeprefix(folder)
        return node

    hydra = OmegaConf.load(config_directory() / "train.yaml").hydra
    settings = {key: OmegaConf.to_container(hydra[key]) for key in ("run", "sweep", "job")}
    return {**own(OmegaConf.to_container(cfg, resolve=True)), "hydra": settings}


def _absolute(key: Any, value: Any) -> Any:
    """Make an existing path of the user's absolute, so that it is valid in any directory."""
    is_path = key in ("root", "checkpoint", "init_from", "weights") and isinstance(value, str)
    return str(Path(value).absolute()) if is_path and Path(value).exists() else value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change results."""
    return {
        "python": platform.python_version(),
        # The distribution's version does not say for which CUDA torch was built.
        "torch": str(torch.__version__),
        **{name: _version(name) for name in DISTRIBUTIONS},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a checkout on the path needs no installation
        return "not installed"


def commit(package: Path) -> dict[str, Any] | None:
    """Commit of the checkout that tracks the package, and whether its files have changed since.

    None without git, and for an installed package, even one that lies below another repository.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=package, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--", str(package), str(config_directory()))
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
