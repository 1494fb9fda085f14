"""What the tasks share: their options, one plain training loop with a progress bar, and the picture of a training."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import pictures
from retrograd.nn import SequenceModel
from retrograd.nn.model import LAYERS
from retrograd.nn.training import train_step
from retrograd.pictures import palette

# Inputs, what they are to become, and lengths where rows are padded.
Batch = tuple[Tensor, Tensor, Tensor | None]


@dataclass
class Result:
    """A trained model and how it came about.

    Attributes:
        task: its name.
        layer: the recurrence of the model.
        score: what is measured, as ``"accuracy"``.
        model: trained.
        losses: by step.
        scores: (step, score on data that was not trained on).
        seconds: of the processor, for training and scores.
        found: further numbers, by name.
        sample: what the model writes, where it writes.
    """

    task: str
    layer: str
    score: str
    model: nn.Module
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    found: dict[str, float] = field(default_factory=dict)
    sample: str = ""

    def figures(self) -> dict[str, float]:
        """Return the numbers that are printed and recorded."""
        return {
            self.score: self.scores[-1][1],
            **self.found,
            "steps": len(self.losses),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "processor seconds": round(self.seconds, 1),
        }


@contextmanager
def bar(text: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar, and give what moves it: called with the steps done and, where it changes, its text."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        shown = progress.add_task(text, total=total)
        yield lambda done, text=None: progress.update(shown, completed=done, description=text)


def train(
    result: Result,
    draw: Callable[[int], Batch],
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[], float],
    *,
    steps: int,
    rate: float = 3e-3,
    decay: float = 0.0,
    every: int = 100,
    enough: float = math.inf,
) -> Result:
    """Train on ``draw(step)`` by AdamW, its rate up in the first twentieth and down along a cosine, gradients clipped.

    Args:
        result: with the model, which gets the losses and the scores.
        draw: the batch of a step.
        loss: of outputs and what they are to be.
        score: of the model in evaluation, taken every so many steps.
        steps: at most.
        rate: the largest.
        decay: of the weights.
        every: steps between scores.
        enough: a score that ends the training.
    """
    model, began = result.model, time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.05)
    with bar(f"{result.task}, {result.layer}", steps) as moved:
        for step in range(1, steps + 1):
            x, y, lengths = draw(step)
            value, _ = train_step(model, optimizer, loss, x, y, lengths=lengths, clip=1.0)
            rates.step()
            result.losses.append(value)
            if step % every == 0 or step == steps:
                model.eval()
                with torch.no_grad():
                    result.scores.append((step, score()))
                model.train()
                moved(step, f"{result.task}, {result.layer}: {result.score} {result.scores[-1][1]:.4f}")
                if result.scores[-1][1] >= enough:
                    break
            moved(step)
    model.eval()
    result.seconds = time.process_time() - began
    return result


def model(layer: str, inputs: int, outputs: int, seed: int, **options: Any) -> SequenceModel:
    """Return an untrained model, the same for one seed."""
    torch.manual_seed(seed)
    return SequenceModel(inputs, outputs, layer=layer, **options)


def batches(count: int, size: int, seed: int) -> Callable[[int], Tensor]:
    """Return what gives the rows of step 1, 2, ...: every row once an epoch, in a new order."""
    source, per_epoch = torch.Generator().manual_seed(seed), count // size
    order = torch.randperm(count, generator=source)

    def rows(step: int) -> Tensor:
        nonlocal order
        at = (step - 1) % per_epoch
        if at == 0 and step > 1:
            order = torch.randperm(count, generator=source)
        return order[at * size : (at + 1) * size]

    return rows


def draw(result: Result) -> Any:
    """Draw the losses, and the scores."""
    drawn, (left, right) = pictures.figure(1, 2)
    left.semilogy(range(1, len(result.losses) + 1), result.losses, color=palette.BLUE, lw=1)
    left.set(xlabel="step", ylabel="loss", title=f"{result.task}: {result.layer}")
    right.plot(*zip(*result.scores, strict=True), "o-", color=palette.VERMILLION, ms=4)
    right.set(xlabel="step", ylabel=f"{result.score}, not trained on", title=f"{result.scores[-1][1]:.4f} in the end")
    return drawn


def main(
    description: str, name: str, compute: Callable[..., Result], layer: str, others: tuple[str, ...] = (), **values: str
) -> None:
    """Read the options, train, write the picture and the numbers.

    Args:
        description: of the task.
        name: of its picture, without ending.
        compute: trains, given ``seed``, ``layer`` and what ``values`` names.
        layer: the one by default.
        others: what ``--layer`` takes beside the layers.
        **values: further options: their help.
    """
    more = {
        "layer": (layer, [*LAYERS, *others], "the recurrence"),
        **{k: (None, None, text) for k, text in values.items()},
    }
    wanted = pictures.arguments(description, f"{name}.png", values=more)
    result = compute(wanted.seed, wanted.layer, **{k: getattr(wanted, k) for k in values})
    if result.sample:
        print(result.sample, end="\n\n")
    pictures.note(result.figures(), wanted)
    pictures.save(draw(result), wanted.out)
