"""The tasks: their data is what they say, a start of training runs, and what is exact about them holds."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gallery import EXAMPLES
from torch import Tensor

import retrograd as rg

TASKS = EXAMPLES / "tasks"
NAMES = sorted(path.stem for path in TASKS.glob("*.py") if path.stem != "task")
SOURCE = torch.Generator


@pytest.fixture
def task(example: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a task as it runs: with its folder in the path."""
    monkeypatch.syspath_prepend(str(TASKS))
    yield example
    for name in (*NAMES, "task"):
        sys.modules.pop(name, None)


def test_copy_memory_asks_for_what_came_in_21_steps_before(task: Callable[[str], Any]) -> None:
    x, bits = task("copy_memory").sequences(3, SOURCE().manual_seed(0))
    assert x.shape == (3, 41, 8)
    assert torch.equal(x[:, :20, :7], bits)
    assert x[:, 20:, :7].sum() == 0
    assert x[..., 7].nonzero()[:, 1].tolist() == [20] * 3


def test_a_fixed_delay_is_solved_exactly_by_a_linear_recurrence(task: Callable[[str], Any]) -> None:
    """The shift register: W moves every feature of the state on by one place."""
    x, bits = task("copy_memory").sequences(3, SOURCE().manual_seed(0))
    rnn = rg.nn.LinearRNN(8, 22 * 7, batch_first=True, bias=False)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.eye(22 * 7).roll(7, 0).tril())
        rnn.weight_ih_l0.zero_()
        rnn.weight_ih_l0[:7, :7] = torch.eye(7)
        y, _ = rnn(x)
    assert torch.equal(y[:, 21:, -7:], bits)


def test_adding_marks_one_number_in_each_half(task: Callable[[str], Any]) -> None:
    adding = task("adding")
    x, sums = adding.sequences(100, SOURCE().manual_seed(0))
    for half in (x[:, :100], x[:, 100:]):
        assert (half[..., 1].sum(1) == 1).all()
    torch.testing.assert_close(sums[:, 0], (x[..., 0] * x[..., 1]).sum(1))


def test_no_linear_model_of_the_adding_problem_is_under_the_floor(task: Callable[[str], Any]) -> None:
    """The best one is found by least squares, on more sequences than it has numbers."""
    adding = task("adding")
    x, sums = adding.sequences(20_000, SOURCE().manual_seed(0))
    X = torch.cat((x.flatten(1), torch.ones(len(x), 1)), 1).double()
    # Marks of a half sum to 1: the solution of least norm among many.
    weights = torch.linalg.lstsq(X, sums.double(), driver="gelsd").solution
    tried, truth = adding.sequences(20_000, SOURCE().manual_seed(1))
    tried = torch.cat((tried.flatten(1), torch.ones(len(tried), 1)), 1).double()
    error = (tried @ weights - truth).square().mean() / truth.var(correction=0) / 6
    assert adding.FLOOR < error < 1.05 * adding.FLOOR


def test_selective_copy_keeps_the_order(task: Callable[[str], Any]) -> None:
    module = task("selective_copy")
    x, tokens = module.sequences(5, SOURCE().manual_seed(0))
    for row, kept in zip(x, tokens, strict=True):
        before = row[: module.LENGTH]
        assert torch.equal(before[before != module.BLANK], kept)
        assert (row[module.LENGTH :] == module.ASK).all()


def test_recall_asks_for_the_value_of_a_key_that_came(task: Callable[[str], Any]) -> None:
    module = task("associative_recall")
    x, values = module.sequences(20, SOURCE().manual_seed(0))
    for row, value in zip(x.tolist(), values.tolist(), strict=True):
        pairs = dict(zip(row[0:-1:2], row[1:-1:2], strict=True))
        assert len(pairs) == module.PAIRS
        assert pairs[row[-1]] == module.KEYS + value


@pytest.mark.parametrize("hard", [False, True])
def test_addition_adds(task: Callable[[str], Any], hard: bool) -> None:
    x, sums = task("addition").sequences(50, 9, SOURCE().manual_seed(0), hard)

    def numbers(bits: Tensor) -> Tensor:
        return (bits * 2 ** torch.arange(10)).sum(1)

    assert torch.equal(numbers(x[..., 0]) + numbers(x[..., 1]), numbers(sums))
    if hard:
        assert (x[::2, :9, 0] != x[::2, :9, 1]).float().mean() > 0.8


def test_vowels_are_read_whole(task: Callable[[str], Any], tmp_path: Path) -> None:
    module = task("japanese_vowels")
    (tmp_path / "a.ts").write_text("@classLabel true 1 2\n@data\n1,2,3:4,5,6:2\n7:8:1\n")
    x, lengths, classes = module.read(tmp_path / "a.ts")
    assert x.tolist() == [[[1, 4], [2, 5], [3, 6]], [[7, 8], [0, 0], [0, 0]]]
    assert lengths.tolist() == [3, 1]
    assert classes.tolist() == [1, 0]


def test_fashion_reads_idx_files_and_says_what_is_missing(task: Callable[[str], Any], tmp_path: Path) -> None:
    module = task("fashion")
    pixels = torch.arange(24, dtype=torch.uint8)
    header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + bytes(pixels.tolist()), mtime=0))
    assert torch.equal(module.read(tmp_path / "a.gz"), pixels.view(2, 3, 4))
    with pytest.raises(SystemExit, match="has no train-images"):
        module.compute(archive=str(tmp_path))


def test_long_digits_are_the_digits_drawn_larger(task: Callable[[str], Any]) -> None:
    module = task("long_digits")
    x, digit = module.sequences(8)
    assert x.shape == (1797, 64, 1)
    assert (x[0, :6].flatten() * 16).tolist() == [0, 0, 5, 13, 9, 1]
    assert module.sequences()[0].shape[1] == 784
    assert digit[:4].tolist() == [0, 1, 2, 3]


def test_the_steps_to_lru_start_where_they_say(task: Callable[[str], Any]) -> None:
    module = task("long_digits")
    made = {name: make() for name, make in module.STEPS_TO_LRU.items()}
    radius = torch.linalg.eigvals(made["dense"].A).abs().max()
    torch.testing.assert_close(radius, torch.tensor(1.0))
    for name in ("diagonal", "exponential"):
        sizes = made[name].eigenvalues().abs()
        assert sizes.max() < 1 < 2 * sizes.max()
    assert "free" in dict(made["diagonal"].named_parameters())
    for name in ("ring", "LRU"):
        sizes = made[name].eigenvalues().abs()
        assert ((sizes > 0.9989) & (sizes < 0.99991)).all()
    assert [make.normalise for name, make in made.items() if name != "dense"] == [False, False, False, True]


def test_a_training_that_overflows_ends_with_what_it_reached(task: Callable[[str], Any]) -> None:
    result = task("long_digits").compute(layer="dense", epochs=1)
    assert result.found["overflowed after steps"] == len(result.losses) < 26
    assert result.figures()["accuracy"] < 0.2


def test_the_text_is_one_stream_of_an_alphabet(task: Callable[[str], Any]) -> None:
    module = task("characters")
    stream, alphabet = module.text()
    text = "".join(alphabet[k] for k in stream.tolist())
    assert 'The "for" statement' in text
    assert len(stream) > 300_000
    # xz needs fewer bits for what it has read before.
    assert module.by_xz(stream[:5000], stream[:10_000]) < module.by_xz(stream[:5000], stream[10_000:10_001])


@pytest.mark.parametrize("name", ["copy_memory", "associative_recall", "addition"])
def test_a_start_of_training_is_the_same_on_every_run(task: Callable[[str], Any], name: str) -> None:
    module = task(name)
    module.task.train = shortened(module.task.train)
    first, second = module.compute(), module.compute()
    assert first.losses == second.losses
    assert first.figures()[first.score] == second.figures()[second.score]
    assert len(first.losses) == 3


def shortened(train: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: train(*given, **{**options, "steps": 3, "every": 3})


def test_a_task_draws_its_training(
    task: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = task("associative_recall")
    monkeypatch.setattr(module.task, "train", shortened(module.task.train))
    monkeypatch.setattr(sys, "argv", ["t", "--layer", "SRU", "--out", str(tmp_path / "t.png")])
    module.task.main(module.__doc__, "associative_recall", module.compute, "QRNN")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "steps: 3" in capsys.readouterr().out


@pytest.mark.slow
def test_addition_learned_from_8_bits_is_exact_on_1000(task: Callable[[str], Any]) -> None:
    assert task("addition").compute().figures()["exact sums of 1000 bits"] == 1


@pytest.mark.slow
def test_a_gate_goes_under_the_linear_floor(task: Callable[[str], Any]) -> None:
    adding = task("adding")
    assert adding.compute(layer="linear", steps=300).scores[-1][1] > adding.FLOOR
    assert adding.compute(layer="MinGRU", steps=600).scores[-1][1] < adding.FLOOR / 20


@pytest.mark.slow
def test_each_step_towards_lru_helps_copying(task: Callable[[str], Any]) -> None:
    """A dense matrix, a complex diagonal, eigenvalues near the unit circle: as the paper's ablation orders them.

    The exponential, which keeps them there, and γ, which keeps the states' variance, count on longer sequences than
    these of 41 steps: test_layers_start.py.
    """
    module = task("copy_memory")
    train = module.task.train
    module.task.train = lambda *given, **options: train(*given, **{**options, "steps": 60, "every": 60})
    reached = []
    for layer, options in (("LinearRNN", {}), ("LRU", {"r_min": 0.0}), ("LRU", {"r_min": 0.99})):
        module.OPTIONS = {layer: options}
        reached.append(module.compute(layer=layer).scores[-1][1])
    dense, diagonal, ring = reached
    assert dense < 0.55
    assert 0.6 < diagonal < 0.8
    assert ring > 0.85
