"""One of two processes: scans over ranks again and again until the other one is lost, and says what it was told."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import retrograd as rg


def main(rank: int, store: str, limit: float) -> None:
    torch.set_num_threads(1)
    shared = dist.FileStore(store, 2)
    dist.init_process_group("gloo", store=shared, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    scans, begun = 0, time.monotonic()
    try:
        while time.monotonic() - begun < 60:
            begun_one = time.monotonic()
            rg.distributed.scan(rg.Diagonal(torch.full((3,), 0.9)), torch.ones(1, 10, 3), timeout=limit)
            scans += 1
            if scans == 20:
                print("running", flush=True)
    except rg.distributed.RankError as error:
        told = {"message": str(error), "seconds": time.monotonic() - begun_one, "scans": scans}
        print(json.dumps(told), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
