"""The model of docs/scaling.md: closed-form values, and the tables of the page."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/scaling.md"


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scaling

    return scaling


def test_one_device_exchanges_nothing(scaling: ModuleType) -> None:
    step = scaling.predict(scaling.Setting(seconds=0.3, batch=8), 1)
    assert (step.exchange, step.exposed, step.whole) == (0, 0, 0.3)
    assert step.bound == "compute"


def test_exchange_is_that_of_a_ring_over_the_slowest_link(scaling: ModuleType) -> None:
    setting = scaling.Setting(
        seconds=0.1, batch=8, generator=90e6, discriminators=10e6, per_node=4,
        device_link=100, node_link=10, latency=0, overlap=0.5,
    )  # fmt: skip
    inside, between = scaling.predict(setting, 4), scaling.predict(setting, 8)
    assert inside.exchange == pytest.approx(1.5 * 0.4 / 100)
    assert between.exchange == pytest.approx(1.75 * 0.4 / 10)
    # Sixteen buckets of 25 MiB: the last one is waited for although the rest is hidden.
    assert inside.exposed == pytest.approx(inside.exchange / 16)
    assert between.exposed == pytest.approx(between.exchange - 0.05)
    assert between.bound == "network"


def test_gradients_of_two_bytes_take_half_the_time(scaling: ModuleType) -> None:
    four, two = (
        scaling.predict(scaling.Setting(0.1, 8, gradient_bytes=size, latency=0), 16).exchange
        for size in (4, 2)
    )
    assert two == pytest.approx(four / 2)


def test_step_waits_for_the_loading_of_the_whole_node(scaling: ModuleType) -> None:
    setting = scaling.Setting(seconds=0.01, batch=8, per_node=4, loader=100)
    assert scaling.predict(setting, 1).whole == pytest.approx(0.08)
    for devices in (4, 16):  # Each node loads for its own devices.
        step = scaling.predict(setting, devices)
        assert step.data == pytest.approx(0.32)
        assert step.bound == "data"


def test_epochs_a_day_are_those_of_the_rate(scaling: ModuleType) -> None:
    (row,) = scaling.rows(scaling.Setting(seconds=0.5, batch=10), [1])
    named = dict(zip(scaling.HEAD, row, strict=True))
    assert named["images/s"] == "20"
    assert named["Places2: epochs a day"] == f"{20 * 86_400 / 1_803_460:.1f}"
    assert named["CelebA: epochs a day"] == f"{20 * 86_400 / 162_770:.1f}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --seconds"),
        (["--seconds", "0"], "--seconds 0: expected more than 0"),
        (["--seconds", "1", "--overlap", "1"], "--overlap 1: expected a share"),
    ],
)
def test_bad_numbers_are_refused(
    scaling: ModuleType,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling.py", *arguments])
    with pytest.raises(SystemExit):
        scaling.main()
    assert message in capsys.readouterr().err


def test_tables_of_the_page_are_those_of_the_script(
    scaling: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.findall(
        r"^`python benchmarks/(scaling.py .*)`\n\n((?:\|.*\n)+)", PAGE.read_text(), re.M
    )
    assert len(shown) >= 4
    for command, table in shown:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        scaling.main()
        assert capsys.readouterr().out.partition("\n\n")[2].strip() == table.strip(), command
