"""Accumulation windows: counting, stopping within one, and several processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import LeastSquares, PatchAdversary
from csa_inpaint.training.window import Window

Make = Callable[..., Any]


def test_window_ends_after_its_batches_or_the_last_one() -> None:
    window = Window(size=3)
    ends = []
    for last in (False, False, False, False, True, False):
        ends.append(window.add(last))
        if ends[-1]:
            window.close()
    assert ends == [False, False, True, False, True, False]
    assert (window.closed, window.batches) == (2, 1)


def test_window_gives_the_generator_every_nth() -> None:
    window = Window(generator_every=3)
    learns = []
    for _ in range(7):
        window.add(last=False)
        learns.append(window.generator_learns)
        window.close()
    assert learns == [False, False, True, False, False, True, False]
    assert window.updates == 2


@pytest.mark.parametrize("name", ["accumulate_batches", "generator_every"])
def test_window_refuses_sizes_below_one(name: str, make_module: Make) -> None:
    with pytest.raises(ValueError, match=f"{name}=0, expected at least 1"):
        make_module(**{name: 0})


class Moves(pl.Callback):
    """Records which side's weights each batch moved."""

    def __init__(self) -> None:
        self.moved: list[tuple[bool, bool]] = []

    def _weights(self, module: CSAInpainter) -> list[Tensor]:
        sides = (module.generator, module.discriminators)
        return [torch.cat([p.detach().flatten() for p in side.parameters()]) for side in sides]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        self.before = self._weights(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        after = self._weights(pl_module)
        self.moved.append(
            tuple(not torch.equal(a, b) for a, b in zip(self.before, after, strict=True))
        )


def test_discriminators_learn_alone_between_the_generators_windows(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    module, moves = make_module(generator_every=2, accumulate_batches=2), Moves()
    module.schedule.unit = "step"
    trainer = make_trainer([PatchAdversary(LeastSquares(), width=4), moves])
    trainer.fit(module, make_batches(8))
    wait, discriminators, both = (False, False), (False, True), (True, True)
    assert moves.moved == [wait, discriminators, wait, both] * 2
    assert module.ema is not None
    assert int(module.ema.n_averaged) == 2
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


def test_run_resumes_where_the_generator_waits(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def fit(folder: str, checkpoint: Path | None = None) -> None:
        module = make_module(seed=5 if checkpoint else 0, generator_every=3)
        callbacks = [PatchAdversary(LeastSquares(), width=4), save_after(folder, (2,))]
        make_trainer(callbacks, max_epochs=2).fit(
            module, make_batches(4), ckpt_path=checkpoint, weights_only=True
        )

    fit("whole")
    fit("resumed", tmp_path / "whole/batch_2.ckpt")
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")


class Stop(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        raise RuntimeError("stopped")


class FirstUpdate(pl.Callback):
    """Keeps the gradient of the first update as the optimizer gets it."""

    gradient: Tensor | None = None

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if self.gradient is None:
            gradients = [p.grad for p in pl_module.generator.parameters() if p.grad is not None]
            self.gradient = torch.cat([gradient.flatten() for gradient in gradients])


def test_window_does_not_outlive_a_stopped_training(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    stopped, fresh = (make_module(accumulate_batches=2) for _ in range(2))
    with pytest.raises(RuntimeError, match="stopped"):
        make_trainer([Stop()]).fit(stopped, make_batches(4))
    assert stopped.window.batches == 1
    updates = []
    for module in (stopped, fresh):
        first = FirstUpdate()
        make_trainer([first]).fit(module, make_batches(4))
        updates.append(first.gradient)
    assert torch.equal(*updates)


# --- several processes ---------------------------------------------------------------------------


def average_over_processes(folder: Path) -> None:
    """A window of two batches on each of two processes, saved after the first batch."""
    dist.init_process_group("gloo")
    parameter = nn.Parameter(torch.zeros(2))
    gradients = torch.tensor([[1.0, 10.0], [3.0, 50.0]])[dist.get_rank()]
    window = Window(size=2)
    window.add(last=False)
    parameter.grad = gradients.clone()
    state = window.state_dict([("parameter", parameter)])
    if dist.get_rank() == 0:  # one process writes, and all read what it wrote
        torch.save(state, folder / "state.pt")
    dist.barrier()
    # The process that goes on and the resumed process hold the same gradients.
    resumed, other = Window(size=2), nn.Parameter(torch.zeros(2))
    resumed.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    resumed.restore([("parameter", other)])
    assert torch.equal(other.grad, parameter.grad)
    # DDP averages the sums after the second batch over the processes.
    for each in (parameter, other):
        each.grad = each.grad + gradients
        dist.all_reduce(each.grad)
        each.grad /= 2
    if dist.get_rank() == 0:
        torch.save((parameter.grad, other.grad), folder / "gradients.pt")
    dist.destroy_process_group()


def test_window_saved_in_two_processes_holds_their_mean(
    in_two_processes: Make, tmp_path: Path
) -> None:
    in_two_processes(average_over_processes, tmp_path)
    for gradient in torch.load(tmp_path / "gradients.pt", weights_only=True):
        assert torch.equal(gradient, torch.tensor([4.0, 60.0]))
