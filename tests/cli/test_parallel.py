"""Work in several processes: in order, and with an end whatever happens to them."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from csa_inpaint.cli.parallel import in_parallel


def double(number: int) -> int:
    time.sleep(0.02 if number == 0 else 0)
    return 2 * number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    if number == 3:
        raise ValueError("no third")
    return number


def test_results_come_in_order() -> None:
    assert list(in_parallel(double, range(50), 2, "numbers")) == [2 * n for n in range(50)]
    assert list(in_parallel(double, [], 2, "numbers")) == []


def test_killed_process_ends_the_work_in_words() -> None:
    with pytest.raises(RuntimeError, match=r"numbers: a process .* was killed.*workers=1"):
        list(in_parallel(die, range(50), 2, "numbers"))


def test_error_of_a_task_is_passed_on() -> None:
    with pytest.raises(ValueError, match="no third"):
        list(in_parallel(fail, range(50), 2, "numbers"))


def runs(pid: int | None) -> bool:
    """Whether the system still runs a process, by Linux's word."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_no_process_is_left_when_the_rest_is_not_wanted() -> None:
    before = set(multiprocessing.active_children())
    results = in_parallel(double, range(1000), 2, "numbers")
    assert next(results) == 0
    results.close()
    left = {process.pid for process in set(multiprocessing.active_children()) - before}
    end = time.monotonic() + 10
    while any(runs(pid) for pid in left) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in left)
