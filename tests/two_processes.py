"""What a test's own processes run. Not in a conftest: spawned processes import this by its name."""

import os
from collections.abc import Callable
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
