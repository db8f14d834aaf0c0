"""What a test's own processes run. Not in a conftest: spawned processes import this by its name."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_process(
    rank: int, function: Callable[..., None], port: int, arguments: tuple[Any, ...]
) -> None:
    """Run a function as one of two processes that torchrun would start."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank)
    )
    # torchrun sets these variables; they tell Lightning that the processes run already.
    os.environ.update(
        WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0", TORCHELASTIC_RUN_ID="tests"
    )
    function(*arguments)


def train(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """Run the command that trains in this process; what it prints goes to a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = ["csa_inpaint.train", *arguments]
    from csa_inpaint.train import main  # the tests' server of processes has loaded the library

    main()
