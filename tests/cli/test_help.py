"""Help and shell completion: light, and about the command's own configuration."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import csa_inpaint
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.cli.entry import config_groups

PACKAGE = Path(csa_inpaint.__file__).parent
COMMANDS = sorted(p.stem for p in PACKAGE.glob("*.py") if "@command(" in p.read_text("utf-8"))
# Runs every command with --help in one process, then tells which modules are loaded.
HELP = """
import contextlib, runpy, sys
from csa_inpaint.cli import entry, help
before = set(sys.modules)
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    print("=====", name)
    with contextlib.suppress(SystemExit):
        runpy.run_module(f"csa_inpaint.{name}", run_name="__main__")
print("===== loaded")
print(*sorted({name.split(".")[0] for name in set(sys.modules)}))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What ``--help`` of each command prints, and under ``loaded`` the modules that it took."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=True
    )
    parts = done.stdout.split("===== ")[1:]
    return dict(part.split("\n", 1) for part in parts)


def groups_of(text: str) -> dict[str, list[str]]:
    """The groups and choices that a help lists."""
    listed = text.partition("Choices (GROUP=NAME)")[2].partition("Keys (KEY=VALUE)")[0]
    pairs = (line.split(": ") for line in listed.split("\n") if line.strip())
    return {name: choices.split(", ") for name, choices in pairs}


def test_help_loads_hydra_and_nothing_heavy(helps: dict[str, str]) -> None:
    loaded = set(helps.pop("loaded").split())
    assert {"train", "predict", "evaluate"} <= helps.keys()
    assert all("Keys (KEY=VALUE)" in text for text in helps.values())
    assert "hydra" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "rich", "pytorch_lightning", "torchvision"}


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("check_data", {"data", "mask"}),
        ("evaluate", {"data", "mask"}),
        (
            "import_released",
            {"data", "mask", "method", "model", "model/attention", "model/fidelity"},
        ),
        ("make_benchmark", {"data", "mask", "protocol"}),
        ("make_shards", {"data", "mask"}),
        ("predict", set()),
    ],
)
def test_help_lists_the_groups_of_the_command(
    helps: dict[str, str], command: str, groups: set[str]
) -> None:
    listed = groups_of(helps[command])
    assert listed.keys() == groups
    known = config_groups(config_directory())
    assert listed == {name: known[name] for name in groups}


def test_help_of_training_lists_all_groups_but_those_of_other_commands(
    helps: dict[str, str],
) -> None:
    known = {name for name in config_groups(config_directory()) if not name.startswith("hydra/")}
    assert groups_of(helps["train"]).keys() == known - {"protocol", "format", "method"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_a_command() -> None:
    script = """
        eval "$(python -m csa_inpaint.train -sc install=bash)"
        complete -p python
        COMP_LINE="python -m csa_inpaint.train data=folder mask=fr"
        COMP_WORDS=($COMP_LINE)
        COMP_CWORD=4
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "complete -o default -o nospace -F hydra_bash_completion python",
        "mask=freeform",
    ]


def test_job_keeps_the_name_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "csa_inpaint.train", "--cfg", "hydra", "-p", "hydra.job.name"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "train"
