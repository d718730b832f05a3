"""What checks the annotations of this code while it runs under test: in every run, at little cost.

jaxtyping's import hook decorates every function, and its decorator calls two more functions for each call: that took a
third of the processor time of small trainings. Here it does so only where an annotation tells an array's axes, there
for the first calls and then for every so manieth; what has no axes is beartype's alone, or nobody's.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray

FIRST, EVERY = 20, 11
"""How many calls of a function are checked to begin with, and each how manieth later: a prime, so that of calls that
alternate all have their turn."""


def install(everything: list[str], only_axes: list[str]) -> None:
    """Has the packages `everything` checked by all of their annotations, and `only_axes` by those that tell axes.

    In the latter many annotations name what only type checkers import, a heavy library or one of an extra, and those
    cannot be looked up while a test runs.
    """
    jaxtyping.jaxtyped = functools.partial(_jaxtyped, original=jaxtyping.jaxtyped)
    jaxtyping.install_import_hook(everything, "beartype.beartype")
    jaxtyping.install_import_hook(only_axes, f"{__name__}.shapes")


def shapes(function: Callable) -> Callable:
    """`function`, whose arguments and result are checked by beartype where an annotation tells an array's axes."""
    annotations = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in annotations.items() if tells_axes(hint)}
    checked = beartype(function)
    function.__annotations__ = checked.__annotations__ = annotations
    return checked


def tells_axes(hint: object) -> bool:
    """Whether an annotation, or a part of it, is one of jaxtyping's arrays."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(tells_axes, get_args(hint)))


def _jaxtyped(*, typechecker: Callable, original: Callable) -> Callable:
    """In the place of jaxtyping's decorator of the same name."""

    def decorate(what):
        if isinstance(what, type):
            return original(what, typechecker=typechecker)
        if not any(map(tells_axes, getattr(what, "__annotations__", {}).values())):
            return what if inspect.isgeneratorfunction(what) else typechecker(what)
        return _sometimes(original(what, typechecker=typechecker), what)

    return decorate


def _sometimes(checked: Callable, unchecked: Callable) -> Callable:
    calls = itertools.count()

    @functools.wraps(unchecked)
    def call(*arguments, **options):
        number = next(calls)
        return (checked if number < FIRST or number % EVERY == 0 else unchecked)(*arguments, **options)

    return call
