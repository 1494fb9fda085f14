"""Write ``src/retrograd/_native.pyi``, the types of the native module, from the module itself (``make stub``).

nanobind's stubgen gives an overload for each dtype; to Python they are one function of tensors, which cross as DLPack
capsules.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from nanobind.stubgen import StubGen

STUB = Path(__file__).parents[1] / "src" / "retrograd" / "_native.pyi"
HEAD = """# Made by `make stub` from native/bindings.cpp: arrays cross as DLPack capsules of these tensors.
from collections.abc import Sequence

from torch import Tensor
"""


class _Tensors(ast.NodeTransformer):
    """Arrays as tensors."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Replace ``Annotated[NDArray[...], ...]``."""
        if isinstance(node.value, ast.Name) and node.value.id == "Annotated":
            return ast.Name("Tensor")
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Replace ``torch.Tensor``."""
        return ast.Name("Tensor") if node.attr == "Tensor" else node


def stub_of(module: object) -> str:
    """Return the stub's text, formatted."""
    generator = StubGen(module=module, include_docstrings=False)  # type: ignore[arg-type]
    generator.put(module)
    definitions: dict[str, str] = {}
    for node in _Tensors().visit(ast.parse(generator.get())).body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list.clear()
            text = ast.unparse(node)
            if definitions.setdefault(node.name, text) != text:
                raise ValueError(f"the overloads of {node.name} differ in more than the dtype")
        elif isinstance(node, ast.AnnAssign):
            node.value = None
            definitions[ast.unparse(node.target)] = ast.unparse(node)
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    text = "\n".join([HEAD, *definitions.values()])
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    from retrograd import _native

    STUB.write_text(stub_of(_native))
