"""Several processes that train one model: who they are, what they tell each other, how their gradients add up.

A logical batch is cut into one run of consecutive rows for each process. The loss is a sum over rows divided by the
size of the logical batch, so what the processes' gradients add up to is its gradient. They are summed after the
backward pass, bucket by bucket, with the loss and the hits of the step behind them: so every process knows the same
figures after every step, takes the same optimizer step and reaches the same verdicts, and the state of any one of them
is the state of the run.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

import mlptheory
from mlptheory.base.errors import InputError, invalid
from mlptheory.base.files import sha256
from mlptheory.base.launch import LostProcessError, launched
from mlptheory.data import shard

TIMEOUT_S = 1800.0
"""Seconds that a process waits for the others, before it gives up."""

BUCKET_BYTES = 32 * 2**20
"""Gradients that are sent as one message."""

Result = TypeVar("Result")

_refusals: dist.Store | None = None


@dataclass(frozen=True)
class World:
    """The processes that train one model; a process by itself is a world of one, in which nothing is sent.

    Attributes
    ----------
    rank, size : int
        This process's number, from 0, and how many there are.

    Examples
    --------
    >>> world = World()
    >>> world.is_first, world.gather("said"), world.share(b"held")
    (True, ['said'], b'held')
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def rows(self, size: int) -> slice:
        """Return this process's rows of a logical batch, shares that differ by at most one row."""
        return shard(size, self.rank, self.size)

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes: the same bits in each of them."""
        if self.size == 1:
            return
        with _told_of_the_lost():
            sent = [(bucket, flat := _flat(bucket), dist.all_reduce(flat, async_op=True)) for bucket in _cut(tensors)]
            for bucket, flat, message in sent:
                message.wait()
                torch._foreach_copy_(bucket, _like(flat, bucket))

    def share(self, content: bytes) -> bytes:
        """Return what the first process gave; what the others give counts for nothing."""
        if self.size == 1:
            return content
        device = _message_device()
        with _told_of_the_lost():
            length = torch.tensor([len(content)], device=device)
            dist.broadcast(length, src=0)
            message = _bytes(content, device) if self.is_first else torch.empty(int(length), dtype=torch.uint8)
            message = message.to(device)
            if len(message):
                dist.broadcast(message, src=0)
        return content if self.is_first else message.cpu().numpy().tobytes()

    def gather(self, text: str) -> list[str]:
        """Return the text of every process, in the order of their numbers."""
        if self.size == 1:
            return [text]
        device, content = _message_device(), text.encode()
        with _told_of_the_lost():
            lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(content)], device=device))
            longest = max(int(length) for length in lengths)
            padded = [torch.empty(longest, dtype=torch.uint8, device=device) for _ in range(self.size)]
            dist.all_gather(padded, _bytes(content.ljust(longest, b"\0"), device))
        found = zip(padded, lengths, strict=True)
        return [text.cpu().numpy().tobytes()[: int(length)].decode() for text, length in found]

    def first(self, act: Callable[[], Result]) -> Result | None:
        """Let the first process act, and wait for it; what it refuses, all refuse.

        Returns
        -------
        object or None
            What the act returned; None in the other processes.

        Raises
        ------
        InputError
            As raised by the act.
        """
        if not self.is_first:
            refusal = self.share(b"").decode()
            if refusal:
                raise InputError(refusal)
            return None
        try:
            result = act()
        except InputError as error:
            self.share(str(error).encode())
            raise
        self.share(b"")
        return result

    def require_equal(self, found: Mapping[str, str]) -> None:
        """Refuse processes that do not hold what the first one holds.

        Parameters
        ----------
        found : mapping of str to str
            What is compared ("data"), and its digest here.

        Raises
        ------
        InputError
            In every process alike, naming the processes, their machines and what differs.
        """
        said = [json.loads(each) for each in self.gather(json.dumps([socket.gethostname(), dict(found)]))]
        others = []
        for rank, (host, theirs) in enumerate(said):
            differs = [name for name, digest in theirs.items() if digest != said[0][1].get(name)]
            if differs:
                others.append(f"process {rank} on {host}: other {', '.join(differs)}")
        if others:
            raise InputError(f"torchrun: {'; '.join(others)}: expected those of process 0 on {said[0][0]}")

    def device(self, device: str) -> str:
        """Return the device of this process, its own GPU where the kind of device is all that is said."""
        kind = torch.device(device)
        if self.size == 1 or kind.type == "cpu":
            return device
        if kind.type != "cuda":
            raise invalid("device", device, f"cpu or cuda, as {self.size} processes train one model")
        launch, found = launched(), torch.cuda.device_count()
        index = kind.index
        if index is None:
            index = torch.cuda.current_device() if launch is None else launch.local_rank
        if index >= found:
            raise invalid("device", f"cuda:{index}", f"at most one process for each of {found} GPUs of this machine")
        torch.cuda.set_device(index)
        return f"cuda:{index}"


def join() -> World:
    """Return the world of this process: that of the group it is in, or of torchrun, whose group it joins.

    A group is over gloo and, where there are GPUs, nccl. It is left when the interpreter ends.

    Returns
    -------
    World
        A world of one where there is neither.

    Examples
    --------
    >>> join()
    World(rank=0, size=1)
    """
    global _refusals
    if not dist.is_available():
        return World()
    if not dist.is_initialized():
        launch = launched()
        if launch is None or launch.size == 1:
            return World()
        has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        if has_nccl and launch.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(launch.local_rank)
        limit = timedelta(seconds=TIMEOUT_S)
        with _told_of_the_lost():
            store, rank, size = next(dist.rendezvous("env://", timeout=limit))
            _refusals = dist.PrefixStore("mlptheory", store)
            backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        atexit.register(_leave)
    return World(dist.get_rank(), dist.get_world_size())


def is_data_parallel() -> bool:
    """Tell whether a launcher started this process, or it is in a group: one of however many, even of one."""
    return launched() is not None or (dist.is_available() and dist.is_initialized())


def refused_by_first(message: str, wait_s: float = 5.0) -> bool:
    """Tell the others what this process refuses; return whether the first process says the same to the user.

    Parameters
    ----------
    message : str
    wait_s : float
        Seconds for which the first process is waited for.
    """
    if _refusals is None:
        return True
    if dist.get_rank() == 0:
        _refusals.set("refusal", message)
        return True
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        try:
            if _refusals.check(["refusal"]):
                return _refusals.get("refusal").decode() == message
        except RuntimeError:  # the first process held the store, and has ended
            return True
        time.sleep(0.05)
    return False


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights and buffers, as they are stored."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def package_digest() -> str:
    """Return the SHA-256 of this package's files of code, and of torch's version."""
    folder = Path(mlptheory.__file__).parent
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".py", ".c"))
    parts = [f"{file.relative_to(folder).as_posix()} {sha256(file.read_bytes())}" for file in files]
    return sha256("\n".join([torch.__version__, *parts]))


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class _told_of_the_lost:
    """Say in one sentence what a broken connection means, whatever the backend says."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            raise LostProcessError(
                "another process of the run ended or did not answer; what is finished, and the last checkpoint, are "
                "kept, and the same command goes on"
            ) from error


def _message_device() -> torch.device:
    """Return where bytes are sent from: memory, or the GPU where the group has nothing else."""
    return torch.device("cpu" if "cpu" in dist.get_backend_config() else "cuda")


def _bytes(content: bytes, device: torch.device) -> torch.Tensor:
    found = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return found.to(device)


def _cut(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield tensors of one kind, as many as fill a message."""
    bucket: list[torch.Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or held + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket


def _flat(bucket: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in bucket])


def _like(flat: torch.Tensor, bucket: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    parts = flat.split([tensor.numel() for tensor in bucket])
    return [part.view(tensor.shape) for part, tensor in zip(parts, bucket, strict=True)]
