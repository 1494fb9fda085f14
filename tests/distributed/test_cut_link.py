"""Two ranks on two machines, which are network namespaces here, and the link between them cut in mid-run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "scan_until_lost.py"
LIMIT = 4.0


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Two namespaces whose interfaces ``rg0`` and ``rg1`` are the ends of one link."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2's ip")
    names = f"rg{os.getpid()}a", f"rg{os.getpid()}b"
    try:
        steps = [
            *(("netns", "add", name) for name in names),
            ("link", "add", "rg0", "netns", names[0], "type", "veth", "peer", "name", "rg1", "netns", names[1]),
            *(("-n", name, "addr", "add", f"10.231.77.{k + 1}/24", "dev", f"rg{k}") for k, name in enumerate(names)),
            *(("-n", name, "link", "set", f"rg{k}", "up") for k, name in enumerate(names)),
            *(("-n", name, "link", "set", "lo", "up") for name in names),
        ]
        for step in steps:
            done = ip(*step)
            if done.returncode:
                pytest.skip(f"this machine makes no network namespaces: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.slow
def test_a_cut_link_is_named_within_the_time_limit(machines: tuple[str, str], tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, str(SCRIPT), str(rank), str(tmp_path / "store"), str(LIMIT)],
            env=os.environ | {"GLOO_SOCKET_IFNAME": f"rg{rank}", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, name in enumerate(machines)
    ]
    try:
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline() == "running\n"
        assert ip("-n", machines[0], "link", "set", "rg0", "down").returncode == 0
        for number, rank in enumerate(ranks):
            told = json.loads(rank.communicate(timeout=60)[0])
            assert "distributed.scan of diagonal transitions" in told["message"]
            assert f"rank {1 - number} is lost to rank {number}" in told["message"]
            assert told["seconds"] < LIMIT + 3
            assert told["scans"] >= 20
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
            assert rank.stdout is not None
            rank.stdout.close()
