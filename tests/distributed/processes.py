"""Runs a function in processes of their own, joined by gloo, and gathers what each returns or raises."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_processes(size: int, work: Callable[..., Any], *args: Any, timeout: float = 60.0) -> list[Any]:
    """What ``work(rank, *args)`` returned on each of ``size`` ranks; of one that died, its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["retrograd", "torch.distributed.device_mesh"])
        processes = [
            context.Process(target=_run, args=(rank, size, folder, timeout, work, args)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        results = []
        for rank, process in enumerate(processes):
            path = Path(folder) / f"{rank}.pt"
            results.append(torch.load(path, weights_only=False) if path.exists() else process.exitcode)
        failures = [x for x in results if isinstance(x, str) and x.startswith("Traceback")]
        assert not failures, failures[0]
        return results


def _run(rank: int, size: int, folder: str, timeout: float, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
    try:
        result = work(rank, *args)
    except BaseException:
        result = traceback.format_exc()
    torch.save(result, f"{folder}/{rank}.part")
    os.replace(f"{folder}/{rank}.part", f"{folder}/{rank}.pt")
    # Where a test has broken the group, taking it down in order would wait for those that are gone.
    os._exit(0)
