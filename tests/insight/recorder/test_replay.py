"""What is recorded is what autograd says of every state, or it is not said at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import retrograd as rg
from insight.recorder.loops import EPS, KINDS, LENGTHS, as_hx, assert_recorded, brute, looked_at, problem
from retrograd.insight import Record, Recorder, Sweep, flow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layers", [(1, False), (2, False), (2, True)])
def test_delta_is_the_gradient_of_every_state(kind: str, batch_first: bool, layers: tuple[int, bool]) -> None:
    options = {"num_layers": layers[0], "bidirectional": layers[1], "batch_first": batch_first}
    module, sequences, starts = problem(kind, **options)
    sequences = [sequence[:3] for sequence in sequences]
    x = torch.stack(sequences, 0 if batch_first else 1)
    with Recorder(module) as recorder:
        output, _ = module(x, as_hx(starts))
        sum(looked_at(row) for row in output.unbind(0 if batch_first else 1)).backward()
    assert_recorded(recorder.records, brute(kind, module, sequences, starts, looked_at))
    last = recorder.records[-1]
    assert last.direct_norm.shape == (3,)
    assert last.direct_norm[1] == 0  # the loss does not look at the second step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_count_while_they_last(kind: str, bidirectional: bool) -> None:
    module, sequences, starts = problem(kind, num_layers=2, bidirectional=bidirectional)
    padded = nn.utils.rnn.pad_sequence(sequences)
    packed = pack_padded_sequence(padded, torch.tensor(LENGTHS), enforce_sorted=False)
    with Recorder(module) as recorder:
        output, _ = module(packed, as_hx(starts))
        assert isinstance(output, PackedSequence)
        rows, _ = nn.utils.rnn.pad_packed_sequence(output)
        sum(looked_at(rows[:length, row]) for row, length in enumerate(LENGTHS)).backward()
    assert_recorded(recorder.records, brute(kind, module, sequences, starts, looked_at))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_the_final_state_alone_is_seen(kind: str) -> None:
    module, sequences, starts = problem(kind)
    with Recorder(module) as recorder:
        _, final = module(sequences[1], as_hx([part[:, 1] for part in starts]))
        (final[0] if isinstance(final, tuple) else final).sum().backward()
    (record,) = recorder.records
    starts = [part[:, 1:2] for part in starts]
    ((delta, _),) = brute(kind, module, [sequences[1]], starts, lambda values: values[-1].sum()).values()
    assert record.delta_norm == pytest.approx(delta, rel=200 * EPS)
    assert record.direct_norm is None


def test_a_linear_layer_is_recorded_as_its_sweep() -> None:
    module = rg.nn.LinearRNN(3, 8, dtype=torch.float64)
    x = torch.randn(50, 4, 3).double()
    with Recorder(module) as recorder:
        module(x)[0][-1].sum().backward()
    want = flow(Sweep.of_module(module, x)[0, "forward"]).delta_norm
    assert recorder.records[0].delta_norm == pytest.approx(want, rel=1e-12)


# --- the weights are those that the layer used ---


class Thinned(nn.Module):
    """Drops weights at random, anew at every access."""

    def forward(self, W: Tensor) -> Tensor:
        return nn.functional.dropout(W, 0.3, self.training)


def spectral(module: nn.Module) -> None:
    parametrizations.spectral_norm(module, "weight_hh_l0")  # a step of the power method at every access


def thinned(module: nn.Module) -> None:
    parametrize.register_parametrization(module, "weight_hh_l0", Thinned())


def normed(module: nn.Module) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")


MADE = [spectral, thinned, normed]


def recorded(module: Any, sequences: list[Tensor], starts: list[Tensor], **options: Any) -> list[Record]:
    """Return what is recorded of one pass over sequences of one length."""
    with Recorder(module, **options) as recorder:
        output = module(torch.stack(sequences, 1), as_hx(starts))
        output = output[0] if isinstance(output, tuple) else output
        sum(looked_at(row) for row in output.unbind(1)).backward()
    return list(recorder.records)


def same_lengths(kind: str, **options: Any) -> tuple[Any, list[Tensor], list[Tensor]]:
    module, sequences, starts = problem(kind, **options)
    return module, [sequence[:3] for sequence in sequences], starts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", MADE)
def test_training_with_weights_made_at_every_access_is_the_same_bits(kind: str, make: Callable[..., None]) -> None:
    def train(watch: bool) -> Tensor:
        module, sequences, starts = same_lengths(kind)
        make(module)
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        recorder = Recorder(module) if watch else None
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.stack(sequences, 1), as_hx(starts))[0].square().mean().backward()
            optimizer.step()
        if recorder is not None:
            assert [record.measured for record in recorder.records] == ["delta"] * 3
        return torch.cat([*(p.detach().flatten() for p in module.parameters()), torch.rand(1).double()])

    assert torch.equal(train(False), train(True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", MADE)
def test_delta_is_of_the_weights_made_in_the_forward_pass(kind: str, make: Callable[..., None]) -> None:
    module, sequences, starts = same_lengths(kind)
    make(module)
    used = []
    module.parametrizations.weight_hh_l0.register_forward_hook(lambda *seen: used.append(seen[-1].detach()))
    records = recorded(module, sequences, starts)
    weights = {"weight_hh_l0": used[-1]}
    assert_recorded(records, brute(kind, module, sequences, starts, looked_at, weights))


def test_weights_cached_or_made_behind_the_recorders_back() -> None:
    module, sequences, starts = same_lengths("linear")
    thinned(module)
    with parametrize.cached():
        records = recorded(module, sequences, starts)
        assert_recorded(records, brute("linear", module, sequences, starts, looked_at))
    module, sequences, starts = same_lengths("linear")
    with Recorder(module) as recorder:
        thinned(module)
        module(torch.stack(sequences, 1), as_hx(starts))[0].sum().backward()
    (record,) = recorder.records
    assert record.delta_norm is None
    assert "weight_hh_l0 is computed at every access" in record.note


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_functional_call(kind: str) -> None:
    module, sequences, starts = same_lengths(kind)
    other = {name: (2 * p.detach()).requires_grad_() for name, p in module.named_parameters()}
    with Recorder(module) as recorder:
        output, _ = torch.func.functional_call(module, other, (torch.stack(sequences, 1), as_hx(starts)))
        sum(looked_at(row) for row in output.unbind(1)).backward()
    assert_recorded(recorder.records, brute(kind, module, sequences, starts, looked_at, other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through_data", [False, True])
def test_an_optimizer_inside_the_backward_pass(kind: str, through_data: bool) -> None:
    module, sequences, starts = same_lengths(kind, num_layers=2)
    want = brute(kind, module, sequences, starts, looked_at)

    def update(p: Tensor) -> None:
        with torch.no_grad():
            (p.data if through_data else p).sub_(p.grad, alpha=0.5)

    for p in module.parameters():
        p.register_post_accumulate_grad_hook(update)
    assert_recorded(recorded(module, sequences, starts), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through_data", [False, True])
def test_weights_changed_between_forward_and_record_leave_what_arrives(kind: str, through_data: bool) -> None:
    module, sequences, starts = same_lengths(kind)

    def change(g: Tensor) -> None:
        with torch.no_grad():
            (module.weight_hh_l0.data if through_data else module.weight_hh_l0).mul_(1.01)

    module.weight_hh_l0.register_hook(change)
    (record,) = recorded(module, sequences, starts)
    assert (record.delta_norm, record.cell_norm, record.measured) == (None, None, "direct")
    assert record.direct_norm is not None
    assert ("other states" if through_data else "weights changed in place") in record.note


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "projected lstm"])
@pytest.mark.parametrize(("half", "factor"), [(False, 1.001), (True, 2)])
def test_other_weights_are_told_from_rounding(kind: str, half: bool, factor: float) -> None:
    torch.manual_seed(0)
    module = KINDS[kind](16, 64)
    for changed in (1, factor):
        with Recorder(module) as recorder:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                output = module(torch.randn(200, 4, 16))[0].float()
            module.weight_hh_l0.data.mul_(changed)
            output.sum().backward()
        assert recorder.records[0].measured == ("delta" if changed == 1 else "direct")


def test_an_input_changed_in_place_leaves_what_arrives() -> None:
    module, _, _ = problem("gru")
    module.requires_grad_(False)
    x, h0 = torch.randn(4, 2, 3).double(), torch.zeros(1, 2, 4, requires_grad=True, dtype=torch.float64)
    with Recorder(module) as recorder:
        loss = module(x, h0)[0].sum()
        x.zero_()
        loss.backward()
    assert "input changed in place" in recorder.records[0].note


# --- a forward of its own ---


def scaled(forward: Any, x: Tensor, hx: Any) -> Any:
    return forward(x * 2, hx)


def masked(forward: Any, x: Tensor, hx: Any) -> Any:
    output, final = forward(x, hx)
    return output * (torch.arange(len(output)) != 1)[:, None, None], final


def alone(forward: Any, x: Tensor, hx: Any) -> Any:
    return forward(x, hx)[0]


def thrice(forward: Any, x: Tensor, hx: Any) -> Any:
    return *forward(x, hx), 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("own", "known"), [(scaled, False), (masked, False), (alone, True), (thrice, True)])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_layer_with_a_forward_of_its_own(kind: str, own: Callable[..., Any], known: bool, layers: int) -> None:
    module, sequences, starts = same_lengths(kind, num_layers=layers)
    plain = type(module)
    module.__class__ = type("Own", (plain,), {"forward": lambda self, x, hx: own(partial(plain.forward, self), x, hx)})
    records = recorded(module, sequences, starts)
    if known:
        assert_recorded(records, brute(kind, module, sequences, starts, looked_at))
    else:
        assert [record.measured for record in records] == ["direct"]
        assert "its forward is not the one of its class" in records[0].note


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_output_changed_in_place(kind: str, batch_first: bool) -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    module, sequences, starts = same_lengths(kind, **options)
    x = torch.stack(sequences, 0 if batch_first else 1)
    with Recorder(module) as recorder:
        output, _ = module(x, as_hx(starts))
        before = output.sum()  # looked at before and after
        output.mul_(3)
        (before + sum(looked_at(row) for row in output.unbind(0 if batch_first else 1))).backward()
    loss = lambda values: values.sum() + looked_at(3 * values)  # noqa: E731
    assert_recorded(recorder.records, brute(kind, module, sequences, starts, loss))
    plain = type(module)
    own = {"forward": lambda self, x, hx: scaled(partial(plain.forward, self), x, hx)}
    module.__class__ = type("Own", (plain,), own)
    with Recorder(module) as recorder:
        module(x, as_hx(starts))[0].mul_(3).sum().backward()
    assert {record.measured for record in recorder.records} == {"direct"}
    assert "its output was changed in place" in recorder.records[0].note


def test_states_that_rounding_drives_apart_are_those_it_had() -> None:
    torch.manual_seed(0)
    for layer in (nn.RNN, nn.GRU, nn.LSTM):
        module = layer(3, 32)  # single precision
        with torch.no_grad():
            module.weight_hh_l0.mul_(12)  # chaos: a bit grows to everything in some dozens of steps
        with Recorder(module) as recorder:
            module(torch.randn(300, 2, 3))[0][-1].sum().backward()
        assert recorder.records[0].note == ""
        assert recorder.records[0].measured == "delta"


def test_a_gradient_of_a_gradient_is_not_called_delta() -> None:
    module, sequences, _ = problem("tanh")
    x = sequences[0][:, None].requires_grad_()
    with Recorder(module) as recorder:
        loss = module(x)[0][-1].sum()
        (g,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + g.square().sum()).backward()
    assert [record.measured for record in recorder.records] == ["delta", "direct"]
    assert "create_graph" in recorder.records[1].note


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_in_autocast(kind: str) -> None:
    module, sequences, starts = same_lengths(kind)
    module.float()
    sequences, starts = [part.float() for part in sequences], [part.float() for part in starts]
    with torch.autocast("cpu", torch.bfloat16):
        records = recorded(module, sequences, starts)
    plain = recorded(module, sequences, starts)
    assert records[0].delta_norm == pytest.approx(plain[0].delta_norm, rel=0.05)


# --- the state-space layer ---


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("one_step_ahead", [False, True])
@pytest.mark.parametrize("own_start", [False, True])
def test_a_state_spaces_states(batch: tuple[int, ...], one_step_ahead: bool, own_start: bool) -> None:
    torch.manual_seed(0)
    layer = rg.nn.StateSpace(3, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn_like(p) / 4)
    u, y = torch.randn(2, *batch, 6, 2).double()
    x0 = None if own_start else torch.randn(*batch, 3).double()

    def loss(outputs: Tensor) -> Tensor:
        return (outputs[..., 1:5:2, :] ** 2).sum() + outputs[..., 4, :].sum()

    with Recorder(layer, every=1) as recorder:
        loss(layer(u, y if one_step_ahead else None, x0=x0)).backward()
    start = (layer.x0 if x0 is None else x0.requires_grad_()).expand(*batch, 3) * 1
    states, outputs = [start], []
    for t in range(6):
        u_t, x = u[..., t, :], states[-1]
        outputs.append(x @ layer.C.T + u_t @ layer.D.T + layer.offset)
        step = x @ layer.A.T + u_t @ layer.B.T
        states.append(step + (y[..., t, :] - outputs[-1]) @ layer.K.T if one_step_ahead else step)
    made = torch.stack(outputs, -2)
    g = torch.autograd.grad(loss(made), [*states[:6], made], allow_unused=True, retain_graph=True)
    (record,) = recorder.records
    want = [0 if part is None else float(part.norm()) for part in g[:6]]
    assert record.delta_norm == pytest.approx(want, rel=200 * EPS)
    assert record.direct_norm is not None
    assert np.flatnonzero(record.direct_norm).tolist() == [1, 3, 4]
    with Recorder(layer) as recorder, torch.no_grad():
        layer.A.mul_(1)  # nothing runs without gradients
        layer(u)
    assert not recorder.records


def test_a_state_space_made_anew_or_changed() -> None:
    torch.manual_seed(0)
    layer, u = rg.nn.StateSpace(3, 2, 2), torch.randn(6, 2)
    with Recorder(layer) as recorder:
        loss = layer(u).sum()
        with torch.no_grad():
            layer.A.data.mul_(0.9)
        loss.backward()
    assert "other outputs" in recorder.records[0].note
    parametrize.register_parametrization(layer, "A", Thinned())
    with Recorder(layer) as recorder:
        layer(u).sum().backward()
    assert recorder.records[0].measured == "delta"
