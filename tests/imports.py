"""Which file imports which: read from the source, imports inside functions and for type checkers counted."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("extractors", "store", "trainers", "pipeline", "recipes")
"""Folders at the top, each the package `strata.<name>`."""


@cache
def files() -> Mapping[str, Path]:
    """Every module of the packages, by its name."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(("strata", *parts)).removesuffix(".__init__")] = file
    return found


@cache
def tree(file: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def names(file: Path) -> tuple[str, ...]:
    """Every name that a file imports, wherever in it, with its dots."""
    found = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


@cache
def graph() -> Mapping[str, frozenset[str]]:
    """For every module of the packages those that it names in an import."""
    return {module: frozenset(_modules(names(file))) - {module} for module, file in files().items()}


def _modules(imported: Iterable[str]) -> Iterator[str]:
    """The modules of the packages that these names are, or are in."""
    for name in imported:
        while name and name not in files():
            name = name.rpartition(".")[0]
        if name:
            yield name


def needed(module: str) -> set[Path]:
    """The files that run, or may run, when a module does: all that it imports, the packages around these, and itself.

    A file that holds no more than a docstring is none.
    """
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found or name not in files():
            continue
        found.add(name)
        todo += [*graph()[name], name.rpartition(".")[0]]
    return {files()[name] for name in found if not _is_empty(files()[name])}


def _is_empty(file: Path) -> bool:
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree(file).body)
