"""`retrograd grad`: the bare job. Arrays in, every gradient through time out."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import torch
import typer

from retrograd.core.backend import device_memory
from retrograd.errors import InputError, near_names
from retrograd.files import write_whole
from retrograd.norms import norm
from retrograd.rnn.bptt import bptt

__all__ = ["grad", "gradients", "read_arrays"]

Array = np.ndarray[Any, Any]

REQUIRED = ("x", "weight_hh", "weight_ih")
OPTIONAL = ("bias", "h0", "weight_out", "bias_out", "feedback", "grad_states", "grad_final")
RESULTS = ("states", "outputs", "delta", "x", "h0", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out")


def grad(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.npz",
            help="NumPy archive with x (T, I) or (B, T, I), weight_hh (H, H), weight_ih (H, I) and, if wanted, bias, "
            "h0, weight_out, bias_out, feedback (bool, T), grad_states, grad_final (neither: 1 at the last state).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.safetensors", help="Where to write. Default: FILE with this suffix."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Compute the gradients through time of arrays in a file."""
    out = file.with_suffix(".safetensors") if out is None else out
    _check_out(file, out, overwrite)
    results = gradients(read_arrays(file), str(file))
    _write(out, results)
    _show(out, results)


def read_arrays(file: Path, also: tuple[str, ...] = (), most: int | None = None) -> dict[str, Array]:
    """Return the archive's arrays, each checked: known by name (``also`` those of another command), numeric, finite.

    Args:
        file: the archive.
        also: names beside those of this command.
        most: bytes that the arrays may have together, unpacked. Default: a sixteenth of the machine's memory, as
            gradients need several times their inputs.

    Raises:
        InputError: the file cannot be read or is too large, or an array is missing, unknown, not numeric or not finite.
    """
    most = device_memory(torch.device("cpu")) // 16 if most is None else most
    try:
        with file.open("rb") as handle:
            return _read_all(file, handle, (*OPTIONAL, *also), most)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None


def _read_all(file: Path, handle: BinaryIO, optional: tuple[str, ...], most: int) -> dict[str, Array]:
    try:
        archive = np.load(handle, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{file} is not an .npz archive (numpy.savez writes one)") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{file} holds one bare array, expected an .npz archive of named ones (numpy.savez)")
    with archive:
        assert archive.zip is not None
        size = sum(member.file_size for member in archive.zip.infolist())
        if size > most:
            raise InputError(
                f"{file} holds {size} bytes of arrays, unpacked, and at most {most} are taken: give smaller ones, or "
                "call rg.bptt_chunked in Python"
            )
        names = list(archive.files)
        unknown = [name for name in names if name not in (*REQUIRED, *optional)]
        for name in REQUIRED:
            if name not in names:
                raise InputError(f"{file} has no array {name!r}: {near_names(name, unknown or names)}")
        # An array that is not understood may be a misspelt one: without it the gradient would be another.
        for name in unknown:
            raise InputError(f"{file}: array {name!r} is not known: {near_names(name, (*REQUIRED, *optional))}")
        return {name: _read(file, archive, name) for name in names}


def gradients(arrays: dict[str, Array], source: str) -> dict[str, Array]:
    """Return every result of :func:`retrograd.bptt` that there is, by name.

    Raises:
        InputError: the arrays do not fit each other.
    """
    feedback: Any = arrays.get("feedback")
    if feedback is not None and feedback.ndim == 0:  # one truth value for all steps
        feedback = bool(feedback)
    try:
        g = bptt(**{**arrays, "feedback": feedback})  # names checked on reading
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None
    return {name: value for name in RESULTS if (value := getattr(g, name)) is not None}


def _read(file: Path, archive: Any, name: str) -> Array:
    try:
        array: Array = archive[name]
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: it is encrypted, or packed in a way that Python does not know.
        reason = "it holds Python objects" if "Object arrays" in str(error) else f"the archive is damaged ({error})"
        raise InputError(f"{file}: array {name!r} cannot be read: {reason}") from None
    kinds, wanted = ("b", "bool") if name == "feedback" else ("fc", "floating or complex numbers")
    if array.dtype.kind not in kinds or array.dtype.itemsize > 16 or array.dtype == np.longdouble:
        raise InputError(f"{file}: array {name!r} is {array.dtype}, expected {wanted}")
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        count = int((~finite).sum())
        where = f"{name}[{', '.join(map(str, first))}]"
        raise InputError(f"{file}: {where} is {array[first]} ({count} of {array.size} values not finite)")
    # torch takes only the machine's own byte order.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_out(file: Path, out: Path, overwrite: bool) -> None:
    if out.resolve() == file.resolve():
        raise InputError(f"--out is the input file {file} itself: name another")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder, expected a file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: use --overwrite to replace it, or --out to name another")


def _write(out: Path, results: dict[str, Array]) -> None:
    from safetensors.numpy import save

    stored: dict[str, Array] = {}
    for name, array in results.items():
        # The format has no complex128: a complex array is stored as two.
        parts = {f"{name}.real": array.real, f"{name}.imag": array.imag} if np.iscomplexobj(array) else {name: array}
        stored.update({key: np.ascontiguousarray(part) for key, part in parts.items()})
    try:
        write_whole(out, save(stored))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None


def _show(out: Path, results: dict[str, Array]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Backpropagation through time", title_justify="left")
    for heading in ("name", "shape", "dtype"):
        table.add_column(heading, no_wrap=True)
    for heading in ("norm", "max |.|"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, array in results.items():
        label = name if name in ("states", "outputs") else f"∂L/∂{'h_t  (delta)' if name == 'delta' else name}"
        norm, largest = _size(array)
        shape = "×".join(map(str, array.shape))
        table.add_row(label, shape, str(array.dtype), f"{norm:.6g}", f"{largest:.6g}")
    console = Console()
    console.print(table)
    broken = [name for name, array in results.items() if not np.isfinite(array).all()]
    if broken:
        console.print(
            f"[bold]Not finite:[/bold] {', '.join(broken)}. The recurrence grows beyond what "
            f"{results['states'].dtype} holds: are there eigenvalues of weight_hh outside the unit circle?"
        )
    console.print(f"Written: {escape(str(out))}", soft_wrap=True)


def _size(array: Array) -> tuple[float, float]:
    """Return norm and largest size."""
    sizes = np.abs(array.astype(np.complex128 if np.iscomplexobj(array) else np.float64))
    return norm(torch.from_numpy(sizes.ravel())).item(), float(sizes.max(initial=0.0))
