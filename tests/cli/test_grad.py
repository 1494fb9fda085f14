"""`retrograd grad`: the file it writes, and one clear line for everything that can be wrong with its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from safetensors.numpy import load_file
from typer.testing import CliRunner

import retrograd as rg
from retrograd.cli.grad import grad, read_arrays
from retrograd.errors import InputError

Arrays = dict[str, Any]


def arrays(dtype: str = "float64", *, batch: tuple[int, ...] = (2,), full: bool = True) -> Arrays:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        real = rng.normal(size=shape)
        return (real + 1j * rng.normal(size=shape) if dtype.startswith("complex") else real).astype(dtype)

    result = {"x": normal(*batch, 5, 3), "weight_hh": normal(4, 4) / 3, "weight_ih": normal(4, 3)}
    if full:
        result |= {
            "bias": normal(4),
            "h0": normal(*batch, 4),
            "weight_out": normal(2, 4),
            "bias_out": normal(2),
            "feedback": np.array([False, True, False, True, True]),
            "grad_states": normal(*batch, 5, 4),
            "grad_final": normal(*batch, 4),
        }
    return result


def saved(folder: Path, content: Arrays, name: str = "job.npz") -> Path:
    path = folder / name
    np.savez(path, **content)
    return path


# --- what it writes ---


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_result_of_bptt_is_written(tmp_path: Path, dtype: str, batch: tuple[int, ...]) -> None:
    content = arrays(dtype, batch=batch)
    grad(saved(tmp_path, content), None, False)
    stored = load_file(tmp_path / "job.safetensors")
    want = rg.bptt(**content)
    names = ["states", "outputs", "delta", "x", "h0", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out"]
    assert sorted(stored) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(stored[name], getattr(want, name), err_msg=name)
        assert stored[name].dtype == dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.npz", "job.safetensors"]


def test_only_the_required_arrays(tmp_path: Path) -> None:
    content = arrays(full=False)
    grad(saved(tmp_path, content), None, False)
    stored = load_file(tmp_path / "job.safetensors")
    assert "weight_out" not in stored
    np.testing.assert_array_equal(stored["delta"][:, -1], np.ones((2, 4)))


def test_complex_arrays_are_written_as_two(tmp_path: Path) -> None:
    content = arrays("complex128", full=False)
    grad(saved(tmp_path, content), None, False)
    stored = load_file(tmp_path / "job.safetensors")
    want = rg.bptt(**content).weight_hh
    np.testing.assert_array_equal(stored["weight_hh.real"] + 1j * stored["weight_hh.imag"], want)


def test_a_foreign_byte_order_is_understood(tmp_path: Path) -> None:
    content = arrays(full=False)
    grad(saved(tmp_path, {name: value.astype(">f8") for name, value in content.items()}), None, False)
    stored = load_file(tmp_path / "job.safetensors")
    np.testing.assert_array_equal(stored["weight_hh"], rg.bptt(**content).weight_hh)


def test_feedback_may_be_one_truth_value(tmp_path: Path) -> None:
    content = arrays() | {"feedback": np.array(True)}
    grad(saved(tmp_path, content), None, False)
    stored = load_file(tmp_path / "job.safetensors")
    np.testing.assert_array_equal(stored["x"][..., :2], 0.0)


def test_the_table_names_shape_type_norm_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"x": np.array([[3.0], [4.0]]), "weight_hh": np.zeros((1, 1)), "weight_ih": np.ones((1, 1))}
    grad(saved(tmp_path, content), None, False)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "states" in line)
    assert row.replace("│", " ").split() == ["states", "2×1", "float64", "5", "4"]
    assert any("job.safetensors" in line for line in lines)
    assert not any("Not finite" in line for line in lines)


def test_a_gradient_that_overflows_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"x": np.ones((4, 1)), "weight_hh": np.full((1, 1), 1e200), "weight_ih": np.ones((1, 1))}
    grad(saved(tmp_path, content), None, False)
    assert "Not finite: states" in capsys.readouterr().out


# --- where it writes ---


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    file = saved(tmp_path, arrays())
    out = tmp_path / "other.safetensors"
    out.write_text("precious")
    with pytest.raises(InputError, match=r"other.safetensors exists: use --overwrite"):
        grad(file, out, False)
    assert out.read_text() == "precious"
    grad(file, out, True)
    assert "delta" in load_file(out)


def test_the_input_is_never_replaced(tmp_path: Path) -> None:
    file = saved(tmp_path, arrays())
    before = file.read_bytes()
    with pytest.raises(InputError, match="is the input file"):
        grad(file, tmp_path / "." / "job.npz", True)
    assert file.read_bytes() == before


def test_an_output_that_cannot_be(tmp_path: Path) -> None:
    file = saved(tmp_path, arrays())
    with pytest.raises(InputError, match="there is no folder"):
        grad(file, tmp_path / "nowhere" / "out.safetensors", False)
    with pytest.raises(InputError, match="is a folder"):
        grad(file, tmp_path, True)


# --- what can be wrong with the input ---


def broken(tmp_path: Path, change: Arrays, *drop: str) -> Path:
    content = {name: value for name, value in (arrays() | change).items() if name not in drop}
    return saved(tmp_path, content)


@pytest.mark.parametrize(
    ("change", "drop", "message"),
    [
        ({"W_hh": np.eye(4)}, ["weight_hh"], r"no array 'weight_hh': there are: W_hh"),
        ({"weigth_hh": np.eye(4)}, ["weight_hh"], r"no array 'weight_hh': did you mean 'weigth_hh'"),
        ({}, ["x"], r"no array 'x'.*[Tt]here are: weight_hh"),
        ({"feedbck": np.ones(5, bool)}, [], r"array 'feedbck' is not known: did you mean 'feedback'"),
        ({"weight_ih": np.ones((4, 2))}, [], r"weight_ih has shape \(4, 2\), expected \(hidden, inputs\) = \(4, 3\)"),
        ({"weight_hh": np.ones((4, 3))}, [], r"weight_hh has shape \(4, 3\)"),
        ({"feedback": np.ones(4, bool)}, [], r"feedback has shape \(4,\)"),
        ({}, ["weight_out"], r"bias_out was given without weight_out"),
        ({"x": np.array([["a", "b"]])}, [], r"array 'x' is <U1, expected floating or complex numbers"),
        ({"x": np.ones((2, 5, 3), int)}, [], r"array 'x' is int64, expected floating"),
        ({"feedback": np.ones(5)}, [], r"array 'feedback' is float64, expected bool"),
        ({"bias": np.ones(4, np.longdouble)}, [], r"array 'bias' is .*, expected floating"),
        ({"bias": np.array([object()] * 4)}, [], r"array 'bias' cannot be read: it holds Python objects"),
        (
            {"h0": np.array([[0, 1, 2, 3], [0, np.nan, 2, np.inf]])},
            [],
            r"h0\[1, 1\] is nan \(2 of 8 values not finite\)",
        ),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, change: Arrays, drop: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        grad(broken(tmp_path, change, *drop), None, False)
    assert "\n" not in str(caught.value)
    assert "job.npz" in str(caught.value)
    assert not (tmp_path / "job.safetensors").exists()


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        grad(tmp_path / "none.npz", None, False)
    text = tmp_path / "text.npz"
    text.write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match=r"is not an \.npz archive"):
        grad(text, None, False)
    empty = tmp_path / "empty.npz"
    empty.touch()
    with pytest.raises(InputError, match=r"is not an \.npz archive"):
        grad(empty, None, False)
    bare = tmp_path / "bare.npy"
    np.save(bare, np.ones(3))
    with pytest.raises(InputError, match="holds one bare array"):
        grad(bare, None, False)
    with pytest.raises(InputError, match="cannot be read"):
        grad(tmp_path, tmp_path / "out.safetensors", False)


def test_an_archive_larger_than_it_may_be_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros pack a thousandfold: what counts is the size unpacked."""
    np.savez_compressed(tmp_path / "job.npz", **(arrays() | {"x": np.zeros((9000, 1000))}))
    assert (tmp_path / "job.npz").stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"job.npz holds 7\d{7} bytes of arrays, unpacked, and at most 1000000 are"):
        read_arrays(tmp_path / "job.npz", most=10**6)


def test_a_damaged_archive(tmp_path: Path) -> None:
    file = saved(tmp_path, arrays())
    content = bytearray(file.read_bytes())
    content[150:200] = bytes(50)
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read: the archive is damaged"):
        grad(file, None, False)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"is not an \.npz archive"):
        grad(file, None, False)


def test_an_encrypted_archive(tmp_path: Path) -> None:
    file = saved(tmp_path, arrays())
    content = bytearray(file.read_bytes())
    for flags in (0x01, 0x41):  # encrypted; strongly, which Python does not know
        # The flags stand 6 bytes into the local header of an entry, 8 into the central one.
        for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.find(mark)
            while at >= 0:
                content[at + place] = flags
                at = content.find(mark, at + 4)
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read: the archive is damaged"):
            grad(file, None, False)


# --- on the command line ---


def test_on_the_command_line(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("grad")(grad)
    file, out = saved(tmp_path, arrays()), tmp_path / "g.safetensors"
    done = CliRunner().invoke(app, [str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "weight_hh" in done.output
    again = CliRunner().invoke(app, [str(file), "--out", str(out)])
    assert isinstance(again.exception, InputError)
    assert CliRunner().invoke(app, [str(file), "--out", str(out), "--overwrite"]).exit_code == 0
