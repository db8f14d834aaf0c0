"""Look over a machine before a long training: ``python -m csa_inpaint.doctor``; see ``--help``."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("doctor")  # the imports below take seconds

import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import distributed
from torchvision.models import VGG16_Weights

from csa_inpaint.cli.entry import command, describe
from csa_inpaint.cli.provenance import versions
from csa_inpaint.csa import CSALayer, choice
from csa_inpaint.data import InpaintingDataModule
from csa_inpaint.networks.vgg import read_weights, vgg16_layers

Status = Literal["ok", "warning", "failure"]
COLOURS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failure": "red"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The CSA layer of the paper's networks on a 256x256 picture.
CHANNELS, SIDE = 512, 32
EXCHANGED = 16 * 2**20  # values of the measured all-reduce, 64 MiB
VGG_URL = VGG16_Weights.IMAGENET1K_V1.url  # its name ends with the first digits of its SHA-256
WRITTEN = 64 * 2**20  # bytes of the file that is written


class Row(NamedTuple):
    """What one check found. A failure stops a training; a warning makes it slower or riskier."""

    check: str
    status: Status
    found: str
    remedy: str = ""


class Place(NamedTuple):
    """Which of the processes this is, and its device."""

    rank: int
    world_size: int
    device: torch.device


def diagnose(cfg: DictConfig) -> list[Row]:
    """Run all checks in this process, beside those of the processes it was launched with.

    Returns:
        This process's rows, and those of the other processes that are not ``ok``.
    """
    environment = _launched_by()
    rows = _caught("versions", check_versions)
    rows += _caught("GPU", check_gpus)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", environment.local_rank() if environment else 0)
    place = Place(0, 1, device)
    if environment is not None:
        place = Place(environment.global_rank(), environment.world_size(), device)

    joined = _caught("processes", lambda: join_processes(environment, place, cfg.timeout))
    rows += joined
    together = place.world_size > 1 and not any(row.status == "failure" for row in joined)
    rows += _caught("precision", lambda: check_precision(device, cfg.precision))
    rows += _caught("kernels", lambda: check_kernels(device))
    rows += _caught("data", lambda: check_data(cfg))
    rows += _caught("output_root", lambda: check_output(Path(cfg.output_root), cfg.free_gb))
    rows += _caught("VGG-16", lambda: check_vgg(cfg.model.get("vgg")))
    if together:
        rows += _caught("all-reduce", lambda: check_all_reduce(place))
        rows += _caught("processes", lambda: others(rows, place))
        distributed.destroy_process_group()
    return rows


def _caught(check: str, run: Callable[[], Iterable[Row]]) -> list[Row]:
    """The rows of a check. An error becomes a failure of the check, and the other checks go on."""
    rows: list[Row] = []
    try:
        rows.extend(run())
    except Exception as error:
        rows.append(Row(check, "failure", describe(error), "mend that, and run the doctor again"))
    return rows


def _launched_by() -> ClusterEnvironment | None:
    """Torchrun or srun, which a training would find as well; None for a single process."""
    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect():
            return environment()
    return None


# --- software -----------------------------------------------------------------------------------


def check_versions() -> Iterator[Row]:
    """Versions, and the requirements of this library that they do not meet."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found = {**versions(), "triton": _version("triton"), "CUDA": torch.version.cuda, "cuDNN": cudnn}
    if torch.cuda.is_available() and distributed.is_nccl_available():
        nccl = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        found["NCCL"] = ".".join(map(str, nccl))
    yield Row("versions", "ok", ", ".join(f"{name} {value}" for name, value in found.items()))
    try:
        own = metadata.metadata("csa-inpaint")
    except metadata.PackageNotFoundError:
        remedy = "pip install -e . in the checkout"
        yield Row("requirements", "warning", "csa-inpaint is not installed: none known", remedy)
        return
    python = Requirement(f"python{own['Requires-Python']}")
    wanted = [python, *map(Requirement, own.get_all("Requires-Dist") or [])]
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        is_python = requirement is python
        has = platform.python_version() if is_python else _version(requirement.name)
        if has == "none" or not requirement.specifier.contains(has, prereleases=True):
            yield Row(
                "requirements",
                "failure",
                f"{requirement.name} {has}, needed is {requirement}",
                f"use Python {requirement.specifier}"
                if is_python
                else f"pip install -U '{requirement}'",
            )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


# --- devices ------------------------------------------------------------------------------------


def check_gpus() -> Iterator[Row]:
    """GPUs, their memory and the driver."""
    listed = _nvidia_smi()
    if not torch.cuda.is_available():
        if listed:
            yield Row(
                "GPU",
                "failure",
                f"nvidia-smi lists {'; '.join(listed)}, but torch {torch.__version__} cannot use "
                "it: training would run on the CPU",
                "install a torch for the CUDA version of this driver or update the driver, and "
                f"see that CUDA_VISIBLE_DEVICES ({os.environ.get('CUDA_VISIBLE_DEVICES')!r}) "
                "names a GPU",
            )
        else:
            cores = len(os.sched_getaffinity(0))
            yield Row(
                "GPU",
                "warning",
                f"none: training runs on the CPU ({cores} cores)",
                "enough for the shipped photographs; a real data set needs a GPU",
            )
        return
    for index in range(torch.cuda.device_count()):
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(index))
        major, minor = torch.cuda.get_device_capability(index)
        found = (
            f"{torch.cuda.get_device_name(index)}, compute capability {major}.{minor}, "
            f"{free:.1f} of {total:.1f} GiB free, driver {_driver(listed, index)}"
        )
        if free < 0.8 * total:
            remedy = "another process holds memory of this GPU: end the process or choose a GPU"
            yield Row(f"GPU {index}", "warning", found, remedy)
        else:
            yield Row(f"GPU {index}", "ok", found)


def _nvidia_smi() -> list[str]:
    """Name and driver of each GPU as the driver's own tool lists them; empty without the tool."""
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout.splitlines() if done.returncode == 0 else []


def _driver(listed: list[str], index: int) -> str:
    return listed[index].rpartition(", ")[2] if index < len(listed) else "unknown"


def check_precision(device: torch.device, precision: str) -> Iterator[Row]:
    """Errors of a matrix product in each precision, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator, dtype=torch.float64)
    errors = {}
    for dtype in DTYPES:
        product = (a.to(device, dtype) @ b.to(device, dtype)).cpu().double()
        errors[dtype] = float((product - a @ b).abs().max() / (a @ b).abs().max())
    names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    found = ", ".join(f"{names[dtype]} {error:.1g}" for dtype, error in errors.items())
    found = f"largest error of a product: {found}"
    native = True
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        tf32 = torch.backends.cuda.matmul.allow_tf32
        found += f"; bf16 {'native' if native else 'emulated'}, TF32 {'on' if tf32 else 'off'}"
    wrong = [dtype for dtype in DTYPES if not errors[dtype] <= 8 * torch.finfo(dtype).eps ** 0.9]
    needed = {"b": torch.bfloat16, "1": torch.float16}.get(precision[:1], torch.float32)
    if needed in wrong:
        remedy = f"the device computes {names[needed]} wrongly: choose another precision or device"
        yield Row("precision", "failure", found, remedy)
    elif needed == torch.bfloat16 and not native:
        remedy = "this GPU emulates bf16, which is slow: trainer.precision=16-mixed or 32-true"
        yield Row("precision", "warning", found, remedy)
    else:
        yield Row("precision", "ok", found)


def check_kernels(device: torch.device) -> Iterator[Row]:
    """The CSA layer's Triton kernels against the PyTorch form: errors, and speed of both."""
    forced = os.environ.get(choice.VARIABLE, "auto")
    where = f"{CHANNELS}x{SIDE}x{SIDE}, forward and backward"
    for dtype in DTYPES if device.type == "cuda" else DTYPES[:1]:
        name = f"kernels {str(dtype).removeprefix('torch.')}"
        with _environment(choice.VARIABLE, "pytorch"):
            pytorch = f"PyTorch form {1000 * _layer_seconds(device, dtype):.1f} ms ({where})"
        if device.type != "cuda":
            yield Row("kernels", "ok", f"not used on the {device.type}; {pytorch}")
            return
        fault = choice.kernel_fault(choice.Case(device, dtype, CHANNELS))
        if fault is not None:
            yield Row(
                name,
                "failure" if forced == "triton" else "warning",
                f"{fault}; {pytorch}",
                f"training takes the slower PyTorch form, unless {choice.VARIABLE}=triton; "
                "the kernels need Triton, a C compiler and a driver that Triton supports",
            )
            continue
        errors = choice.kernel_errors(choice.load_kernels(), choice.Case(device, dtype, CHANNELS))
        with _environment(choice.VARIABLE, "triton"):
            triton = f"Triton {1000 * _layer_seconds(device, dtype):.2f} ms"
        used = f"; not used: {choice.VARIABLE}=pytorch" if forced == "pytorch" else ""
        found = f"largest error {max(errors.values()):.1g}, {triton}, {pytorch}{used}"
        yield Row(name, "ok", found)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _layer_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Median time of the layer's forward and backward pass."""
    features = torch.randn(1, CHANNELS, SIDE, SIDE, device=device, dtype=dtype, requires_grad=True)
    mask = torch.zeros(1, 1, SIDE, SIDE, device=device)
    mask[..., SIDE // 4 : 3 * SIDE // 4, SIDE // 4 : 3 * SIDE // 4] = 1
    layer, seconds = CSALayer(), []
    for _ in range(6):
        _wait_for(device)
        start = time.perf_counter()
        layer(features, mask).sum().backward()
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- processes ----------------------------------------------------------------------------------


def join_processes(
    environment: ClusterEnvironment | None, place: Place, timeout: float
) -> Iterator[Row]:
    """Join the processes that this one was launched with."""
    if environment is None or place.world_size == 1:
        yield Row("processes", "ok", "one; launch with torchrun or srun to measure an all-reduce")
        return
    address, port = environment.main_address, environment.main_port
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    on_gpu = place.device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place.device)
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=timeout),
        )
    except (RuntimeError, ValueError) as error:
        yield Row(
            "processes",
            "failure",
            f"{place.world_size} processes did not meet at {address}:{port} within {timeout:g} s: "
            f"{str(error).splitlines()[0]}",
            "see that all of them were started, that the nodes reach that address and port, and "
            "that GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, if set, name the right network",
        )
        return
    yield Row("processes", "ok", f"{place.world_size} met at {address}:{port}")


def check_all_reduce(place: Place) -> Iterator[Row]:
    """Sum of a tensor over the processes: the value, and the bandwidth."""
    seconds = []
    for _ in range(4):  # The first one opens the connections.
        values = torch.full((EXCHANGED,), place.rank + 1.0, device=place.device)
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(values)
        _wait_for(place.device)
        seconds.append(time.perf_counter() - start)
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    size, took = 4 * EXCHANGED, statistics.median(seconds[1:])
    # What each process sends and receives in a ring, as benchmarks of NCCL count it.
    bandwidth = 2 * (place.world_size - 1) / place.world_size * size / took / 1e9
    found = (
        f"{backend}, {place.world_size} processes: {size / 2**20:.0f} MiB in {1000 * took:.0f} ms, "
        f"bus bandwidth {bandwidth:.2f} GB/s"
    )
    expected = place.world_size * (place.world_size + 1) / 2
    if not bool((values == expected).all()):
        remedy = f"the sum of the ranks is not {expected:g}: try another {backend} or network card"
        yield Row("all-reduce", "failure", found, remedy)
    else:
        yield Row("all-reduce", "ok", found)


def others(rows: list[Row], place: Place) -> Iterator[Row]:
    """What went wrong in the other processes; their rows of success would say the same again."""
    gathered: list[Any] = [None] * place.world_size
    distributed.all_gather_object(gathered, (socket.gethostname(), rows))
    for rank, (host, found) in enumerate(gathered):
        if rank != place.rank:
            for row in found:
                if row.status != "ok":
                    yield row._replace(check=f"{row.check} (rank {rank} on {host})")


# --- files --------------------------------------------------------------------------------------


def check_data(cfg: DictConfig) -> Iterator[Row]:
    """Prepare the data as a training does, and count the images that load in a second."""
    data: InpaintingDataModule = instantiate(cfg.data, _convert_="all")
    data.setup("fit")
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches)  # The loading processes have started.
    images, start = 0, time.perf_counter()
    for batch in batches:
        images += len(batch.image)
        if time.perf_counter() - start > cfg.seconds:
            break
    took = time.perf_counter() - start
    split = f"{len(data.dataset('train').files)} training images"
    if images == 0:
        found = f"{split}, one batch an epoch: too few to measure a rate"
        yield Row("data", "ok", found)
        return
    rate = images / took
    found = f"{split}; {rate:.0f} images/s in batches of {data.batch_size}, "
    found += f"{data.num_workers} loading processes"
    if cfg.step_seconds is None:
        yield Row("data", "ok", f"{found} (step_seconds=… compares with a training step)")
        return
    needed = data.batch_size / cfg.step_seconds
    found += f"; a step of {cfg.step_seconds:g} s needs {needed:.0f}"
    if rate < needed:
        remedy = (
            f"training waits for data: raise data.num_workers ({data.num_workers} now, "
            f"{len(os.sched_getaffinity(0))} cores), copy the data to a local disk, or pack it "
            "with csa_inpaint.make_shards"
        )
        yield Row("data", "warning", found, remedy)
    else:
        yield Row("data", "ok", found)


def check_output(folder: Path, free_gb: float) -> Iterator[Row]:
    """Write a file below the folder, and look at the space that is left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor_") as file:
            block = os.urandom(2**20)
            start = time.perf_counter()
            for _ in range(WRITTEN // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            speed = WRITTEN / (time.perf_counter() - start) / 1e6
    except OSError as error:
        remedy = "name a folder that you may write: output_root=DIR"
        yield Row("output_root", "failure", f"{folder.absolute()}: {error}", remedy)
        return
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{folder.absolute()}: writes {speed:.0f} MB/s, {free:.1f} GB free"
    if free < free_gb:
        remedy = (
            f"a training needs {free_gb:g} GB: make room, name another folder with output_root=DIR,"
            " or set free_gb to what your checkpoints take"
        )
        yield Row("output_root", "failure", found, remedy)
    else:
        yield Row("output_root", "ok", found)


def check_vgg(vgg: DictConfig | None) -> Iterator[Row]:
    """The VGG-16 weights that the model's losses need, without a download."""
    weights = None if vgg is None else str(vgg.weights)
    if vgg is None or weights == "random":
        yield Row("VGG-16", "ok", "this model needs no file")
    elif weights != "imagenet":
        read_weights(str(weights), vgg16_layers(vgg.width, stages=4))
        yield Row("VGG-16", "ok", f"{weights} has the weights")
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / VGG_URL.rpartition("/")[2]
        remedy = f"fetch {VGG_URL} to {path}, or name a file: model.vgg.weights=PATH"
        if not path.is_file():
            found = f"{path} is not there: the start of a training downloads it"
            yield Row("VGG-16", "warning", found, f"on a node without internet {remedy}")
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(path.stem.rpartition("-")[2]):
            found = f"{path} is damaged: its SHA-256 begins with {digest[:8]}"
            yield Row("VGG-16", "failure", found, f"delete the file and {remedy}")
        else:
            yield Row("VGG-16", "ok", f"{path} is whole")


# --- report -------------------------------------------------------------------------------------


def show(rows: list[Row], as_json: bool) -> None:
    """Print a table, plain lines where the output is no terminal, or JSON."""
    verdict = "a training would fail" if _fails(rows) else "nothing that would stop a training"
    console = Console(soft_wrap=True)
    if as_json:
        print(json.dumps({"fails": _fails(rows), "rows": [row._asdict() for row in rows]}))
    elif console.is_terminal:
        table = Table("", "check", "found")
        for row in rows:
            found = escape(row.found)  # Messages may hold brackets, which are no markup.
            if row.remedy:
                found += f"\n[bold]→ {escape(row.remedy)}[/bold]"
            table.add_row(f"[{COLOURS[row.status]}]{row.status}[/]", escape(row.check), found)
        Console().print(table, verdict)
    else:
        for row in rows:
            print(f"{row.status:8} {row.check}: {row.found}")
            if row.remedy:
                print(f"         → {row.remedy}")
        print(verdict)


def _fails(rows: list[Row]) -> bool:
    return any(row.status == "failure" for row in rows)


@command("doctor")
def main(cfg: DictConfig) -> None:
    rows = diagnose(cfg)
    environment = _launched_by()
    if environment is None or environment.global_rank() == 0:
        show(rows, cfg.json)
    if _fails(rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
