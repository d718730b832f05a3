"""What checks shapes and dtypes in packages whose other annotations are not checked while they run."""

from collections.abc import Callable
from typing import get_args

from beartype import beartype
from jaxtyping import AbstractArray


def shapes(function: Callable) -> Callable:
    """`function`, whose arguments and result are checked by beartype where an annotation tells an array's axes.

    Of the others many name what only type checkers import, a heavy library or one of an extra, and those cannot be
    looked up while a test runs.
    """
    annotations = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in annotations.items() if tells_axes(hint)}
    checked = beartype(function)
    function.__annotations__ = checked.__annotations__ = annotations
    return checked


def tells_axes(hint: object) -> bool:
    """Whether an annotation, or a part of it, is one of jaxtyping's arrays."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(tells_axes, get_args(hint)))
