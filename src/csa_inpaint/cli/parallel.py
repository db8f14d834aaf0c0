"""Work on many files: several processes and a progress bar."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    task: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, title: str
) -> Iterator[Result]:
    """The results of a task for every job, in their order.

    Args:
        task: a function that other processes can import.
        jobs: its arguments.
        workers: processes; None for one on each core.
        title: what the progress bar says.
    """
    workers = workers or os.cpu_count() or 1
    # Ctrl-C goes to all processes; one of them answers it and ends the others.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(workers, signal.signal, ignored) as pool, Progress() as progress:
        yield from progress.track(pool.imap(task, jobs), total=len(jobs), description=title)
