"""Dense and Diagonal: shapes taken and refused."""

from __future__ import annotations

import pytest
import torch

import retrograd as rg


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rg.Dense(torch.rand(3, 4)), ValueError, "W has shape (3, 4), expected square matrices"),
        (lambda: rg.Dense(torch.rand(3)), ValueError, "W has shape (3,), expected (H, H), (T, H, H)"),
        (lambda: rg.Dense(torch.ones(3, 3, dtype=torch.int32)), TypeError, "W is torch.int32, expected a floating"),
        (lambda: rg.Diagonal(torch.rand(1, 2, 3, 4)), ValueError, "a has shape (1, 2, 3, 4), expected (D,), (T, D)"),
        (lambda: rg.Diagonal([0.5]), TypeError, "a is list, expected a floating or complex torch.Tensor"),
    ],
)
def test_bad_transitions_are_named(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()  # type: ignore[operator]
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (rg.Diagonal, [(3,), (5, 3), (4, 1, 3), (4, 5, 3), (2, 5, 3)]),
        (rg.Diagonal.from_log, [(3,), (5, 3), (4, 1, 3), (4, 5, 3), (2, 5, 3)]),
        (rg.Dense, [(3, 3), (5, 3, 3), (4, 1, 3, 3), (4, 5, 3, 3), (2, 1, 3, 3)]),
    ],
)
def test_a_structure_is_its_matrices(make: object, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> None:
    """act, its adjoint, the gradient and the product are those of the dense matrix of every row and step."""
    for number, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(number)
        A, B = (make(torch.randn(shape, dtype=dtype, generator=generator)) for _ in range(2))  # type: ignore[operator]
        x, y = (torch.randn(4, 5, 3, dtype=dtype, generator=generator) for _ in range(2))

        def matrices(A: object) -> torch.Tensor:
            (array,) = A.plain().arrays  # type: ignore[attr-defined]
            dense = torch.diag_embed(array) if array.ndim == 3 else array
            return dense.repeat_interleave(4 // dense.shape[0], 0).expand(4, 5, 3, 3)

        M = matrices(A)
        torch.testing.assert_close(A.act(x), (M @ x[..., None])[..., 0])
        torch.testing.assert_close(A.adjoint_act(x), (M.mH @ x[..., None])[..., 0])
        torch.testing.assert_close(matrices(A.product(B)), M @ matrices(B))
        leaf = A.arrays[0].detach().clone().requires_grad_()
        (want,) = torch.autograd.grad(A.of([leaf]).act(x), leaf, y)
        torch.testing.assert_close(A.gradient(y, x)[0], want)
        assert (A.groups, A.steps, A.width) == (A.normal().shape[0], A.normal().shape[1], 3)
        tangent = torch.randn(shape, dtype=dtype, generator=generator)
        for act, of_tangent in (("act", A.tangent_act), ("adjoint_act", A.tangent_adjoint_act)):
            _, want = torch.func.jvp(lambda a, A=A, act=act, x=x: getattr(A.of([a]), act)(x), A.tensors, (tangent,))
            torch.testing.assert_close(of_tangent([tangent], x), want)
            assert of_tangent([None], x) is None


def test_it_shows_its_shape_and_no_numbers() -> None:
    assert repr(rg.Diagonal(torch.rand(7, 3))) == "Diagonal(shape=(7, 3), dtype=torch.float32, device='cpu')"
    assert repr(rg.Dense(torch.rand(3, 3).double())) == "Dense(shape=(3, 3), dtype=torch.float64, device='cpu')"
