"""Records: when there are any, how many, under which names, and what the optimizer sees."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import retrograd as rg
from insight.recorder.loops import Model, train
from retrograd.errors import InputError
from retrograd.insight import Record, Recorder

ARRIVING = "gradient arriving at the output"


def test_memory_is_bounded_and_the_graph_is_let_go() -> None:
    model = nn.LSTM(2, 3)
    with Recorder(model, history=5, steps=10) as recorder:
        for _ in range(8):
            model(torch.randn(101, 2, 2))[0].sum().backward()
        record = recorder.records[-1]
        assert [r.backward for r in recorder.records] == [3, 4, 5, 6, 7]
        assert record.delta_norm is not None
        assert len(record.delta_norm) == 10
        assert (record.edges[0], record.edges[-1]) == (0, 101)
        # No backward: nothing recorded, and nothing kept alive.
        x = torch.randn(5, 2, 2, requires_grad=True)
        output = model(x)[0]
        gone = [weakref.ref(x), weakref.ref(output)]
        del x, output
        gc.collect()
        assert [reference() for reference in gone] == [None, None]
        assert len(recorder.records) == 5


def test_bins_hold_the_largest_norm_and_show_what_is_not_finite() -> None:
    module = rg.nn.LinearRNN(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.fill_(0.5)
    with Recorder(module, steps=2) as recorder:
        module(torch.ones(6, 1).double())[0][-1].sum().backward()
    assert recorder.records[0].delta_norm.tolist() == [0.5**3, 1]
    with torch.no_grad():
        module.weight_hh_l0.fill_(1e200)
    with Recorder(module, steps=2) as recorder:
        module(torch.zeros(6, 1).double())[0][-1].sum().backward()
    (record,) = recorder.records
    assert not np.isfinite(record.delta_norm[0])
    assert record.not_finite == 4
    assert record.last == 1


def test_when_nothing_is_recorded() -> None:
    model = nn.GRU(2, 3)
    recorder = Recorder(model, every=2)
    with torch.no_grad():
        model(torch.randn(4, 1, 2))
    assert not recorder.records
    for _ in range(4):
        model(torch.randn(4, 1, 2))[0].sum().backward()
    assert [record.backward for record in recorder.records] == [0, 2]
    output = model(torch.randn(4, 1, 2))[0].sum()
    output.backward(retain_graph=True)
    output.backward()
    assert [record.backward for record in recorder.records] == [0, 2, 4]
    recorder.close()
    model(torch.randn(4, 1, 2))[0].sum().backward()
    assert len(recorder.records) == 3
    assert not model._forward_hooks


def test_every_counts_passes_and_takes_all_calls_of_one() -> None:
    torch.manual_seed(0)
    model, x = nn.LSTM(2, 3), torch.randn(4, 1, 2)
    with Recorder(model, every=2) as recorder:
        for _ in range(4):
            sum(scale * model(x)[0][-1].sum() for scale in (1, 10)).backward()
    found = {(record.backward, record.call): record.total for record in recorder.records}
    assert sorted(found) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    for number in (0, 2):
        assert found[number, 1] == pytest.approx(10 * found[number, 0])
    assert "LSTM, layer 0, forward, call 1: " in str(recorder)
    other = Model()
    with Recorder(other, every=2) as recorder:
        for use in (True, False, True, False):  # the encoder takes part in every second pass only
            output = other(torch.randn(2, 7, 3)) if use else other.decoder(torch.randn(2, 7, 4))[0]
            output.sum().backward()
    assert {(record.backward, record.module) for record in recorder.records} == {
        (number, name) for number in (0, 2) for name in ("encoder", "decoder")
    }


def test_dropout_between_layers_leaves_what_arrives() -> None:
    model = nn.LSTM(2, 3, num_layers=2, dropout=0.5)
    with Recorder(model) as recorder:
        model(torch.randn(4, 1, 2))[0].sum().backward()
        model.eval()
        model(torch.randn(4, 1, 2))[0].sum().backward()
    first, *rest = recorder.records
    assert first.delta_norm is None
    assert first.direct_norm == pytest.approx(np.full(4, np.sqrt(3)))
    assert "dropout" in first.note
    assert (first.measured, rest[0].measured) == ("direct", "delta")
    assert np.isnan(first.decades)
    assert [(record.layer, record.delta_norm is None) for record in rest] == [(0, False), (1, False)]


def test_what_arrives_is_never_called_delta(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = nn.LSTM(2, 3, num_layers=2, dropout=0.5)
    with Recorder(model, writer=tmp_path) as recorder:
        model(torch.randn(4, 1, 2))[0][-1].sum().backward()
        text = str(recorder)
        model.eval()
        model(torch.randn(4, 1, 2))[0][-1].sum().backward()
    assert "‖dL/dh_t‖" not in text
    assert "‖g_t‖, what arrives at its output, 0 at the first step, 1.73 at the last (3 zero" in text
    assert "δ_t is not known: dropout between its layers" in text
    log = accumulator.EventAccumulator(str(tmp_path)).Reload()
    label = "LSTM/layer 1 forward/norm"
    steps = [[event.step for event in log.Scalars(f"{what}/{label}")] for what in ("gradient", ARRIVING)]
    assert steps == [[1], [0]]
    assert recorder.to_frame()["measured"].tolist() == ["direct", "delta", "delta"]


def test_decades_are_negative_where_the_gradient_vanishes_in_both_directions() -> None:
    torch.manual_seed(0)
    model = nn.RNN(2, 3, bidirectional=True)
    with torch.no_grad():
        model.weight_hh_l0.mul_(0.1)
        model.weight_hh_l0_reverse.mul_(0.1)
    with Recorder(model) as recorder:
        model(torch.randn(8, 1, 2))[1].sum().backward()
    forth, back = recorder.records
    assert forth.decades == pytest.approx(np.log10(forth.first / forth.last))
    assert back.decades == pytest.approx(np.log10(back.last / back.first))
    assert max(forth.decades, back.decades) < -5


def test_checkpointed_frozen_and_half_precision_layers() -> None:
    model = nn.GRU(2, 3, dtype=torch.float64)
    x = torch.randn(6, 2, 2, requires_grad=True, dtype=torch.float64)
    with Recorder(model) as recorder:
        model(x)[0].square().sum().backward()
        checkpoint(lambda x: model(x)[0], x, use_reentrant=False).square().sum().backward()
        model.requires_grad_(False)
        model(x)[0].square().sum().backward()
    plain, again, frozen = recorder.records
    assert again.delta_norm == pytest.approx(plain.delta_norm, rel=1e-12)
    assert frozen.delta_norm == pytest.approx(plain.delta_norm, rel=1e-12)
    half = rg.nn.LinearRNN(2, 3, dtype=torch.bfloat16)
    with Recorder(half) as recorder:
        half(torch.randn(6, 2, 2, dtype=torch.bfloat16))[0].sum().backward()
    assert np.isfinite(recorder.records[0].delta_norm).all()


def test_other_outputs_by_name() -> None:
    model = Model()
    with Recorder(model, outputs={"embed": 1}) as recorder:
        model(torch.randn(2, 7, 3))[:, -1].sum().backward()
    (embed,) = (record for record in recorder.records if record.module == "embed")
    assert embed.direct_norm.shape == (7,)
    assert embed.delta_norm is None


@pytest.mark.parametrize(("size", "dtype"), [(1e25, torch.float32), (1e-30, torch.float32), (1e200, torch.float64)])
def test_norms_of_what_has_exploded_or_vanished(size: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.RNN(2, 3, batch_first=True).to(dtype)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    found = []
    for scale in (1.0, size):
        with Recorder(layer, optimizer=optimizer, every=1) as recorder:
            optimizer.zero_grad()
            layer(torch.ones(1, 4, 2, dtype=dtype))[0].sum().mul(scale).backward()
            optimizer.step()
        found.append((recorder.records[0].delta_norm, recorder.records[0].total, recorder.gradient_norms[0]))
    for plain, scaled in zip(*found, strict=True):
        assert np.asarray(scaled) == pytest.approx(size * np.asarray(plain), rel=1e-5)


def test_the_clipping_threshold_is_a_quantile() -> None:
    torch.manual_seed(0)
    _, recorder = train(Model(), steps=30, history=20)
    assert recorder is not None
    assert len(recorder.gradient_norms) == 20
    threshold = recorder.clip_threshold(0.75)
    assert sum(norm > threshold for norm in recorder.gradient_norms) == 5
    _, short = train(Model(), steps=3, history=20)
    assert short is not None
    with pytest.raises(InputError, match="3 finite gradients were recorded, expected at least 10"):
        short.clip_threshold()


def test_norms_before_and_after_clipping_and_unscaling() -> None:
    torch.manual_seed(0)
    model = nn.RNN(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.randn(4, 1, 2)
    with Recorder(model, optimizer=optimizer) as recorder:
        for half in (1, 2):
            optimizer.zero_grad()
            for _ in range(half):  # accumulated
                model(x)[0].sum().backward()
            whole = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        assert recorder.unclipped_norms[1] == pytest.approx(float(whole))
        assert recorder.unclipped_norms[1] == pytest.approx(2 * recorder.unclipped_norms[0])
        assert list(recorder.gradient_norms) == pytest.approx([0.5, 0.5], rel=1e-5)
        optimizer.step()  # of a gradient that no pass was seen to bring
        assert recorder.unclipped_norms[2] == recorder.gradient_norms[2]
    plain = recorder.records[0]
    first = recorder.unclipped_norms[0]
    for fused in (False, True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        with Recorder(model, optimizer=optimizer, scaler=scaler) as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                scaler.scale(model(x)[0].sum()).backward()
                scaler.step(optimizer)
                scaler.update()
        assert recorder.records[1].delta_norm == pytest.approx(plain.delta_norm, rel=1e-5)
        assert recorder.records[1].total == pytest.approx(plain.total, rel=1e-5)
        for found in (recorder.gradient_norms, recorder.unclipped_norms):
            assert list(found) == pytest.approx([first, first], rel=1e-5)
    with Recorder(model, optimizer=optimizer) as recorder:
        optimizer.zero_grad()
        scaler.scale(model(x)[0].sum()).backward()
        with pytest.warns(UserWarning, match="give it as scaler="):
            scaler.step(optimizer)
    assert recorder.records[0].total == pytest.approx(1024 * plain.total, rel=1e-5)
    assert [*recorder.gradient_norms, *recorder.unclipped_norms] == pytest.approx([first, first], rel=1e-5)


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = nn.RNN(2, 3)
    with Recorder(model, writer=tmp_path) as recorder:
        for _ in range(3):
            model(torch.randn(9, 1, 2))[0][-1].sum().backward()
    log = accumulator.EventAccumulator(str(tmp_path)).Reload()
    label = "gradient/RNN/layer 0 forward"
    assert [event.value for event in log.Scalars(f"{label}/norm")] == pytest.approx(
        [record.total for record in recorder.records]
    )
    assert [event.value for event in log.Scalars(f"{label}/decades over the way back")] == pytest.approx(
        [record.decades for record in recorder.records]
    )
    histogram = log.Histograms(f"{label}/log10 of each step")[-1].histogram_value
    assert histogram.num == 9
    assert histogram.sum == pytest.approx(np.log10(recorder.records[-1].delta_norm).sum())


# torch's own, where Dynamo takes up again after the hook.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model_is_recorded() -> None:
    model = Model()
    with Recorder(model) as recorder:
        torch.compile(model, backend="eager")(torch.randn(2, 7, 3)).sum().backward()
    assert {record.module for record in recorder.records} == {"encoder", "decoder"}


def test_tables_and_text() -> None:
    model = nn.GRU(2, 3, bidirectional=True)
    recorder = Recorder(model)
    assert str(recorder) == "nothing recorded yet"
    model(torch.randn(4, 1, 2))[0].sum().backward()
    assert "GRU, layer 0, backward: ‖dL/dh_t‖" in str(recorder)
    frame = recorder.to_frame()
    assert frame["total"].tolist() == [record.total for record in recorder.records]
    assert isinstance(recorder.records[0], Record)


def test_what_cannot_be_recorded() -> None:
    with pytest.raises(InputError, match=r"no nn\.RNN, nn\.LSTM"):
        Recorder(nn.Linear(2, 3))
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        Recorder(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'encoder'"):
        Recorder(Model(), outputs={"encodr": 1})
    with pytest.raises(InputError, match="history is 0"):
        Recorder(Model(), history=0)
