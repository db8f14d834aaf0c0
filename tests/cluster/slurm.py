"""A Slurm with two nodes on this machine: a folder and a few daemons, without systemd."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PACKAGES = "slurmctld slurmd slurm-client munge"
PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))  # a user's PATH may lack the daemons
NODES = ("n0", "n1")
# The names of the nodes are in no name service, so the processes meet at an address.
JOB_ENVIRONMENT = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}

TINY = (
    "model.width=4",
    "model.depth=4",
    "data.size=64",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.limit_val_batches=2",
)

CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
MpiDefault=none
ReturnToService=2
KillWait=10
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 State=UNKNOWN"


def missing_programs() -> list[str]:
    """The programs of Slurm and munge that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class Slurm:
    """A running cluster.

    Args:
        folder: holds its configuration, its state and its logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            **JOB_ENVIRONMENT,
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def run(self, *command: str | Path, timeout: float = 60) -> str:
        """The output of a command that ends well."""
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def submit(self, *arguments: str | Path) -> int:
        """The number of a job that ``sbatch`` accepts."""
        return int(self.run("sbatch", "--parsable", *arguments))

    def field(self, job: int, name: str) -> str:
        """What Slurm knows about a job, such as its JobState: PENDING, RUNNING, COMPLETED, …"""
        fields = self.run("scontrol", "--oneliner", "show", "job", str(job)).split()
        return next(f.removeprefix(f"{name}=") for f in fields if f.startswith(f"{name}="))

    def wait_for_requeue(self, job: int, timeout: float) -> None:
        """Wait until a job is in the queue a second time, and let it start at once."""
        wait_for(
            lambda: self.field(job, "Restarts") == "1" and self.field(job, "JobState") == "PENDING",
            f"job {job} to be requeued",
            timeout,
        )
        # Slurm itself waits for two minutes.
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def wait(self, job: int, timeout: float) -> str:
        """The state in which a job ended."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        wait_for(lambda: self.field(job, "JobState") in ended, f"job {job} to end", timeout)
        return self.field(job, "JobState")


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: the condition does not hold in ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:.0f} seconds for {what}")
        time.sleep(0.3)


@contextmanager
def two_nodes(folder: Path) -> Iterator[Slurm]:
    """Start the daemons of a cluster; end its jobs and the daemons at last."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    controller, *ports = free_ports(1 + len(NODES))
    nodes = [
        NODE.format(name=name, host=host, port=port)
        for name, port in zip(NODES, ports, strict=True)
    ]
    configuration = CONFIGURATION.format(
        host=host,
        controller=controller,
        user=getpass.getuser(),
        folder=folder,
        nodes="\n".join(nodes),
    )
    (folder / "slurm.conf").write_text(configuration)
    slurm = Slurm(folder)
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={key}", f"--pid-file={folder}/munge.pid"]
    munged += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    with ExitStack() as stack:
        stack.enter_context(daemon(slurm, "munged", munged))
        wait_for((folder / "munge.socket").exists, "munged", 10)
        stack.enter_context(daemon(slurm, "slurmctld", ["slurmctld", "-D"]))
        for name in NODES:
            stack.enter_context(daemon(slurm, f"slurmd_{name}", ["slurmd", "-D", "-N", name]))
        wait_for(lambda: idle_nodes(slurm) == len(NODES), f"two nodes; see {folder}/*.out", 30)
        stack.callback(end_jobs, slurm)
        yield slurm


@contextmanager
def daemon(slurm: Slurm, name: str, command: Sequence[str]) -> Iterator[None]:
    """Run a daemon, whose output goes to a file in the cluster's folder."""
    path = shutil.which(command[0], path=PATH)
    # The kernel ends the daemon where the tests are killed and cannot. Ctrl-C must not reach the
    # daemon before its jobs have ended, so the daemon has a session of its own.
    guarded = ["setpriv", "--pdeathsig", "KILL", str(path), *command[1:]]
    with (slurm.folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            guarded,
            env=slurm.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def idle_nodes(slurm: Slurm) -> int:
    """The number of nodes that wait for work; 0 where the controller does not answer yet."""
    try:
        states = slurm.run("sinfo", "--noheader", "--Node", "--format=%T").split()
    except RuntimeError:
        return 0
    return states.count("idle")


def end_jobs(slurm: Slurm) -> None:
    """Cancel all jobs, and wait until their processes are gone."""
    slurm.run("scancel", "--user", getpass.getuser())
    wait_for(lambda: not slurm.run("squeue", "--noheader"), "the jobs to end", 30)


def free_ports(count: int) -> list[int]:
    """Different ports of this machine on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
