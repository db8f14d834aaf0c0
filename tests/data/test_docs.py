"""Every command on the pages about data composes."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^python -m csa_inpaint\.(\w+) ((?:.*\\\n)*.*)$", re.MULTILINE)
COMMANDS = [
    pytest.param(name, arguments.replace("\\\n", " "), id=f"{page.stem}-{number}")
    for page in sorted((ROOT / "docs/data").glob("*.md"))
    for number, (name, arguments) in enumerate(COMMAND.findall(page.read_text("utf-8")))
]


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_documented_command_composes(name: str, arguments: str) -> None:
    overrides = shlex.split(arguments, comments=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(name, overrides)
    where = {"data.urls", "data.layout.roots"} & {part.partition("=")[0] for part in overrides}
    assert config.data.root is not None or where


def test_every_data_set_has_a_page() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs/data").glob("*.md"))
    names = {path.stem for path in (ROOT / "conf/data").glob("[!_]*.yaml")}
    assert {name for name in names if f"data={name}" not in pages} == set()
