"""The Lightning callback trains as the plain loop does; where lightning is not installed, it is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from retrograd.nn import SequenceModel
from retrograd.nn.training import parts, train_step

pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed: pip install lightning")


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(4, 20, 2, generator=torch.Generator().manual_seed(0))
    return x, x.cumsum(1)[..., :1]


def net() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(2, 1, layer="MinGRU", width=4, depth=1)


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_the_callback_trains_as_the_plain_loop(tmp_path: Path) -> None:
    from retrograd.nn.lightning import TruncatedBPTT

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.seen = net(), []

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            x, y = batch
            outputs, hiddens = self.model(x, hiddens)
            self.seen.append(F.mse_loss(outputs, y).item())
            return {"loss": F.mse_loss(outputs, y), "hiddens": hiddens}

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    module, batches = Module(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=2)
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[TruncatedBPTT(8, clip=0.5)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, batches)
    assert module.automatic_optimization
    assert "training_step" not in vars(module)
    model, values = net(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for rate in (0.1, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        for batch in batches:
            states = None
            for x, y in parts(8, *batch):
                value, states = train_step(model, optimizer, F.mse_loss, x, y, states, clip=0.5)
                values.append(value)
    assert module.seen == values
    for p, q in zip(model.parameters(), module.model.parameters(), strict=True):
        assert torch.equal(p, q)
