"""Several processes of one training: one a GPU, or a few on the CPU.

Ultralytics starts its processes with a temporary script that builds the trainer anew from its arguments. A training of
ours is more than arguments, so the work itself is handed over: pickled, to fresh interpreters that know their rank
before they import Ultralytics. The stage's own process trains nothing; it waits, and then goes on as after a training
in one process. Only rank 0 writes.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor, distributed, nn

from kd_steps.edge.identity import cores

RENDEZVOUS = "RETORT_RENDEZVOUS"  # variable: the file that the processes of a group meet at
MEETING_PLACES = "retort-processes-"  # folders below the temporary one, then the process that made each
POLL_S = 0.1


class TrainingProcessError(ValueError):
    """A process of the training stopped; the message is its own."""


def process_count(device: str, wanted: int) -> int:
    """How many processes a training has: one a GPU; on the CPU as many as ``compute.processes`` says.

    Raises:
        ValueError: several processes were asked for on another number of GPUs.
    """
    gpus = 0 if device == "cpu" else len(device.split(","))
    if gpus and wanted not in (1, gpus):
        raise ValueError(
            f"compute.processes: {wanted} processes on {gpus} GPU(s) (compute.device: {device}); a GPU has one "
            "process: leave it 1 and name the GPUs, such as device: '0,1'"
        )
    return gpus or wanted


def launch(work: Callable[[], None], processes: int) -> None:
    """Run ``work`` in several fresh processes that form one group, and wait for them.

    They end with this process, also when it is killed: each reads its standard input, which then closes.

    Args:
        work: a function of a module, or a ``partial`` of one; all that it holds is pickled.
        processes: how many.

    Raises:
        TrainingProcessError: one of them met a fault that a user can mend.
        RuntimeError: one of them failed otherwise; holds its traceback, or says how it ended.
    """
    payload = pickle.dumps(work)
    _remove_left_behind()
    with tempfile.TemporaryDirectory(prefix=f"{MEETING_PLACES}{os.getpid()}-") as name:
        folder = Path(name)
        group = [_start(rank, processes, folder) for rank in range(processes)]
        try:
            for process in group:
                _hand_over(process, payload)
            codes = _wait(group)
        finally:
            for process in group:
                process.kill()
                process.communicate()
        if any(codes):
            raise _fault(folder, codes)


def join(device: torch.device) -> None:
    """Enter the group that this process was started for."""
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{os.environ[RENDEZVOUS]}",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def own_gpu(devices: str) -> torch.device:
    """This process's GPU, made the current one.

    Args:
        devices: Ultralytics' device string, such as ``0,1``.
    """
    device = torch.device("cuda", int(devices.split(",")[int(os.environ["LOCAL_RANK"])]))
    torch.cuda.set_device(device)
    return device


def wrap_on_cpu(model: nn.Module) -> nn.Module:
    """A model whose gradients are averaged over the processes; Ultralytics wraps only models on a GPU."""
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True, forward_sync_buffers=False)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Give every process the mean of each floating tensor, in place; alone, it changes nothing."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in tensors:
            if tensor.is_floating_point():
                distributed.all_reduce(tensor)
                tensor /= distributed.get_world_size()


def main() -> None:
    """Do what the launching process hands over; a failure is noted where that process looks for it."""
    note = Path(os.environ[RENDEZVOUS]).with_name(f"fault-{os.environ['RANK']}.json")
    try:
        work = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        work()
        if distributed.is_initialized():
            distributed.destroy_process_group()
    except BaseException as error:
        plain = isinstance(error, ValueError | OSError)
        told = {"message": str(error), "plain": plain, "traceback": traceback.format_exc()}
        note.write_text(json.dumps(told), encoding="utf-8")
        sys.stdout.flush()
        os._exit(1)  # at once: a group whose other members wait for this one cannot be left in peace


def _remove_left_behind() -> None:
    """Remove the meeting places of killed launchers of this user; one of an earlier release names no process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{MEETING_PLACES}*"):
        maker = folder.name.removeprefix(MEETING_PLACES).partition("-")[0]
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid() and not (maker.isdigit() and psutil.pid_exists(int(maker))):
                shutil.rmtree(folder)


def _start(rank: int, processes: int, folder: Path) -> subprocess.Popen[bytes]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores())
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        RENDEZVOUS: str(folder / "rendezvous"),
        "OMP_NUM_THREADS": str(max(threads // processes, 1)),
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONUNBUFFERED": "1",  # behind a pipe, progress is to show at once
    }
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing leaves it
    return subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, env=environment)


def _hand_over(process: subprocess.Popen[bytes], payload: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(payload)
        process.stdin.flush()
    except BrokenPipeError:
        process.wait()  # it ended already; its fault is told like any other's


def _wait(group: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes once all have ended well, or one has failed: the others (None) would wait for it in vain."""
    while True:
        codes = [process.poll() for process in group]
        if None not in codes or any(codes):
            return codes
        time.sleep(POLL_S)


def _fault(folder: Path, codes: list[int | None]) -> Exception:
    """The error of the process that failed first, as far as can be told: the others fail because it is gone."""
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("fault-*.json"))]
    for told in notes:
        if told["plain"]:
            error = TrainingProcessError(told["message"])
            error.add_note(told["traceback"])
            return error
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            return TrainingProcessError(
                f"process {rank} of the training was ended by signal {-code} (9: perhaps for want of memory); "
                "run the stage again: it goes on from the last finished epoch"
            )
    return RuntimeError(
        f"a process of the training failed (exit codes by rank: {codes})\n"
        + "\n".join(told["traceback"] for told in notes)
    )


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # until the launching process closes it, at the latest by its own end
    os._exit(1)


if __name__ == "__main__":
    main()
