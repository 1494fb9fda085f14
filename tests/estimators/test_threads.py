"""Small scans run on one thread, large ones on all; whatever happens, it is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from retrograd.estimators.threads import threads_for


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_for_small_work_all_for_large(two_threads: None) -> None:
    for work, threads in ((100, 1), (10**8, 2)):
        with threads_for(work):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="stop"), threads_for(1):
        raise ValueError("stop")
    assert torch.get_num_threads() == 2
