"""A Lightning callback for truncated backpropagation through time, which Lightning 2.0 took out of its trainer.

    class Model(lightning.pytorch.LightningModule):
        def training_step(self, batch, batch_idx, hiddens):
            x, y = batch
            outputs, hiddens = self.model(x, hiddens)
            return {"loss": loss(outputs, y), "hiddens": hiddens}

    Trainer(callbacks=[TruncatedBPTT(128, clip=1.0)])

The module's ``training_step`` is the one that Lightning 1 called with ``truncated_bptt_steps``. Import this file by its
name; it needs ``pip install lightning``.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from retrograd.errors import require_number, require_whole
from retrograd.nn.training import detached, parts

__all__ = ["TruncatedBPTT"]


class TruncatedBPTT(pl.Callback):  # type: ignore[misc]
    """Call ``training_step(part, batch_idx, hiddens)`` on every part of a batch, and step the optimizers after each.

    Schedulers step as Lightning's own: once an epoch.

    Args:
        steps: of a part, along the second axis of every tensor of the batch.
        clip: largest norm of the gradient of all parameters together.

    Raises:
        InputError: ``steps`` is no whole number of at least 1, or ``clip`` no number above 0.
    """

    def __init__(self, steps: int, clip: float | None = None) -> None:
        self.steps = require_whole("steps", steps)
        self.clip = None if clip is None else require_number("clip", clip, above=0)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the parts in the place of the module's own step."""
        step = pl_module.training_step

        def in_parts(batch: Any, batch_idx: int) -> Tensor:
            hiddens, losses = None, []
            optimizers = pl_module.optimizers(use_pl_optimizer=True)
            for part in parts(self.steps, *([batch] if isinstance(batch, Tensor) else batch)):
                made = step(part[0] if isinstance(batch, Tensor) else part, batch_idx, detached(hiddens))
                loss, hiddens = made["loss"], made["hiddens"]
                losses.append(loss.detach())
                self._update(pl_module, optimizers if isinstance(optimizers, list) else [optimizers], loss)
            return torch.stack(losses).mean()

        self._automatic = pl_module.automatic_optimization
        pl_module.automatic_optimization = False
        pl_module.training_step = in_parts

    def _update(self, module: Any, optimizers: list[Any], loss: Tensor) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        module.manual_backward(loss)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.clip)
        for optimizer in optimizers:
            optimizer.step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Step the schedulers, which Lightning leaves alone where a module steps its optimizers itself."""
        schedulers = pl_module.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if scheduler is not None:
                scheduler.step()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the module its own step back."""
        del pl_module.training_step
        pl_module.automatic_optimization = self._automatic
