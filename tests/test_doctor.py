"""The doctor: what it finds, and that each fault which would stop a training is a failure."""

import contextlib
import hashlib
import io
import json
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from csa_inpaint import doctor
from csa_inpaint.csa import choice
from csa_inpaint.doctor import Place, Row

CPU = torch.device("cpu")


def failures(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.status == "failure"]


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output of ``python -m csa_inpaint.doctor``, run in this process."""
    out, status = io.StringIO(), 0
    argv, sys.argv = sys.argv, ["csa_inpaint.doctor", *arguments]
    try:
        with contextlib.redirect_stdout(out):
            doctor.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
    return status, out.getvalue()


# --- the command --------------------------------------------------------------------------------


def test_machine_that_can_train_has_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out = run("seconds=0.1", "free_gb=0", "output_root=out", "data.size=32")
    assert status == 0, out
    for part in ("ok       versions: python", "images/s", "MB/s", "VGG-16: this model needs no"):
        assert part in out
    assert out.endswith("nothing that would stop a training\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").iterdir())


def test_every_failure_is_named_and_the_other_checks_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, out = run(
        "json=true",
        f"output_root={tmp_path}/file/runs",
        "data=folder",
        f"data.root={tmp_path}/nowhere",
        f"model.vgg.weights={tmp_path}/vgg16.pth",
        "model.width=64",
    )
    assert status == 1
    report = json.loads(out)
    assert report["fails"] is True
    failed = {row["check"]: row for row in report["rows"] if row["status"] == "failure"}
    assert failed.keys() == {"data", "output_root", "VGG-16"}
    assert "nowhere" in failed["data"]["found"]
    assert "output_root=DIR" in failed["output_root"]["remedy"]
    assert "vgg16.pth" in failed["VGG-16"]["found"]
    assert all(row["remedy"] for row in failed.values())
    assert {"versions", "GPU", "precision"} <= {row["check"] for row in report["rows"]}


def test_table_is_shown_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    doctor.show([Row("disk", "failure", "[red] 2 GB free", "make room")], as_json=False)
    out = capsys.readouterr().out
    assert "│" in out
    assert "[red] 2 GB free" in out
    assert "→ make room" in out
    assert "a training would fail" in out


# --- software -----------------------------------------------------------------------------------


def test_old_and_missing_packages_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "hydra-core":
            raise metadata.PackageNotFoundError(name)
        return "2.1.0" if name == "torch" else real(name)

    before = failures(list(doctor.check_versions()))
    monkeypatch.setattr(metadata, "version", version)
    failed = [row for row in failures(list(doctor.check_versions())) if row not in before]
    found = {row.found.split()[0]: row for row in failed}
    assert found.keys() == {"torch", "hydra-core"}
    assert "torch 2.1.0, needed is torch>=" in found["torch"].found
    assert found["hydra-core"].remedy.startswith("pip install -U 'hydra-core>=")


def test_unsupported_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    rows = failures(list(doctor.check_versions()))
    assert any("python 3.9.1, needed is python" in row.found for row in rows)


# --- devices ------------------------------------------------------------------------------------


def test_gpu_that_torch_cannot_use_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA A100, 470.1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = doctor.check_gpus()
    assert row.status == "failure"
    assert "NVIDIA A100, 470.1" in row.found
    assert "update the driver" in row.remedy


@pytest.mark.parametrize(
    ("precision", "status"), [("32-true", "ok"), ("16-mixed", "ok"), ("bf16-mixed", "failure")]
)
def test_device_that_computes_wrongly_is_a_failure_where_its_precision_is_used(
    precision: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = torch.Tensor.__matmul__

    def wrong(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a, b) * (1.2 if a.dtype == torch.bfloat16 else 1)

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    (row,) = doctor.check_precision(CPU, precision)
    assert row.status == status


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_cpu_computes_rightly(precision: str) -> None:
    (row,) = doctor.check_precision(CPU, precision)
    assert row.status == "ok"


def test_kernels_are_not_used_on_the_cpu() -> None:
    (row,) = doctor.check_kernels(CPU)
    assert row.status == "ok"
    assert "not used on the cpu; PyTorch form" in row.found


@pytest.mark.parametrize(("forced", "status"), [("auto", "warning"), ("triton", "failure")])
def test_kernels_that_fail_are_named_for_each_dtype(
    forced: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(case: choice.Case) -> str | None:
        return "OSError: no compiler" if case.dtype == torch.bfloat16 else None

    monkeypatch.setenv(choice.VARIABLE, forced)
    used = []
    monkeypatch.setattr(
        doctor, "_layer_seconds", lambda *_: used.append(os.environ[choice.VARIABLE]) or 0.001
    )
    monkeypatch.setattr(choice, "kernel_fault", fault)
    monkeypatch.setattr(choice, "load_kernels", lambda: None)
    monkeypatch.setattr(choice, "kernel_errors", lambda *_: {"match": 0.0, "weights": 1e-7})
    rows = {row.check: row for row in doctor.check_kernels(torch.device("cuda"))}
    assert rows["kernels float32"].status == rows["kernels float16"].status == "ok"
    assert "largest error 1e-07, Triton 1.00 ms" in rows["kernels float32"].found
    assert rows["kernels bfloat16"].status == status
    assert "OSError: no compiler" in rows["kernels bfloat16"].found
    assert used == ["pytorch", "triton", "pytorch", "triton", "pytorch"]
    assert os.environ[choice.VARIABLE] == forced


# --- processes ----------------------------------------------------------------------------------


def test_process_that_waits_alone_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in {**launched, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    environment = doctor._launched_by()
    assert environment is not None
    (row,) = doctor.join_processes(environment, Place(0, 2, CPU), timeout=1)
    assert row.status == "failure"
    assert f"2 processes did not meet at 127.0.0.1:{port} within 1 s" in row.found
    assert "GLOO_SOCKET_IFNAME" in row.remedy


@pytest.mark.slow
def test_two_processes_measure_an_all_reduce_and_report_together(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    options = ["json=true", "seconds=0.1", "data.size=32", f"output_root={tmp_path}/file/runs"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "csa_inpaint.doctor", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    (line,) = done.stdout.splitlines()  # one process prints
    rows: dict[str, Any] = {row["check"]: row for row in json.loads(line)["rows"]}
    assert rows["processes"]["status"] == rows["all-reduce"]["status"] == "ok"
    assert "gloo, 2 processes: 64 MiB in" in rows["all-reduce"]["found"]
    other = f"output_root (rank 1 on {socket.gethostname()})"
    assert rows["output_root"]["status"] == rows[other]["status"] == "failure"


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step_seconds", "status"), [(1e-6, "warning"), (1e6, "ok")])
def test_loading_is_compared_with_a_training_step(step_seconds: float, status: str) -> None:
    data = {
        "_target_": "csa_inpaint.data.InpaintingDataModule",
        "layout": {"_target_": "csa_inpaint.data.ShippedPhotos"},
        "mask": {"_target_": "csa_inpaint.data.CenterMask"},
        "size": 32,
        "batch_size": 4,
    }
    cfg = OmegaConf.create({"data": data, "seconds": 0.05, "step_seconds": step_seconds})
    (row,) = doctor.check_data(cfg)
    assert row.status == status
    assert ("raise data.num_workers" in row.remedy) == (status == "warning")


def test_full_disk_is_a_failure(tmp_path: Path) -> None:
    (row,) = doctor.check_output(tmp_path, free_gb=1e9)
    assert row.status == "failure"
    assert "needs 1e+09 GB: make room" in row.remedy
    assert not list(tmp_path.iterdir())


def test_weights_of_vgg_are_looked_for_where_torchvision_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    vgg = OmegaConf.create({"weights": "imagenet", "width": 64})
    (row,) = doctor.check_vgg(vgg)
    path = tmp_path / "hub/checkpoints" / doctor.VGG_URL.rpartition("/")[2]
    assert row.status == "warning"
    assert f"to {path}, or name a file: model.vgg.weights=PATH" in row.remedy

    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    (row,) = doctor.check_vgg(vgg)
    assert row.status == "failure"
    assert "is damaged" in row.found

    digest = hashlib.sha256(b"half a download").hexdigest()
    whole = f"https://example.org/vgg16-{digest[:8]}.pth"
    monkeypatch.setattr(doctor, "VGG_URL", whole)
    path.rename(path.with_name(whole.rpartition("/")[2]))
    (row,) = doctor.check_vgg(vgg)
    assert row.status == "ok"


def test_model_without_a_file_of_vgg_needs_none() -> None:
    for vgg in (None, OmegaConf.create({"weights": "random", "width": 16})):
        (row,) = doctor.check_vgg(vgg)
        assert row.status == "ok"
