"""The folder of the Hydra configuration."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # csa_inpaint


def config_directory() -> Path:
    """``conf/`` inside an installed wheel, or at the top of a checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"
