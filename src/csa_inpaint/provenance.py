"""What a run was made with: versions, commit and command line."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from csa_inpaint._conf import PACKAGE, config_directory

DISTRIBUTIONS = (
    "csa-inpaint",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
)


def provenance(command: str) -> dict[str, Any]:
    """The command line as typed, where, the commit of the library and the versions.

    ``commit`` and ``dirty`` (the library or its configuration has changes on top of the commit) are
    there only where the library runs from a git checkout.
    """
    return {
        "command": shlex.join(["python", "-m", command, *sys.argv[1:]]),
        "directory": str(Path.cwd()),
        **(commit(PACKAGE) or {}),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of what decides the numbers."""
    return {"python": platform.python_version(), **{name: _version(name) for name in DISTRIBUTIONS}}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a checkout on the path needs no installation
        return "not installed"


def commit(package: Path) -> dict[str, Any] | None:
    """Commit of the checkout that tracks the package, and whether files were changed since.

    None without git, and for an installed package, also below somebody else's repository.
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
