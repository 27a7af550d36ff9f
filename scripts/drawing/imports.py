"""Which module imports which, read from the source without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("pixelrobust", "experiments", "scripts")


@dataclass(frozen=True)
class Import:
    """One import statement's target.

    Attributes:
        module: the dotted name of the importing module.
        target: the dotted name of what it imports: a module, or a name in one.
        late: inside a function, or for type checkers only.
    """

    module: str
    target: str
    late: bool


def modules(root: Path = REPOSITORY) -> dict[str, Path]:
    """Every module of the packages below a folder, by dotted name."""
    return {
        _name(path.relative_to(root)): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def imports(root: Path = REPOSITORY) -> list[Import]:
    """Every import of every module."""
    return [
        Import(module, target, late)
        for module, path in modules(root).items()
        for target, late in _targets(ast.parse(path.read_text(encoding="utf-8")), late=False)
    ]


def importing(package: str, found: list[Import]) -> set[str]:
    """The modules that import a package, at any place."""
    return {
        one.module for one in found if one.target == package or one.target.startswith(f"{package}.")
    }


def module_of(target: str, known: dict[str, Path]) -> str | None:
    """The module that a target is, or lies in; None where it is none of these."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target or None


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from ((f"{child.module}.{alias.name}", late) for alias in child.names)
        else:
            yield from _targets(child, late or _is_late(child))


def _is_late(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
