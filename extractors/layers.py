"""Which hidden states a view asks for, of a model that has so many of them. Knows names and numbers alone."""

from collections.abc import Sequence

from strata.extractors.contract import ViewError
from strata.extractors.view import LAST_HIDDEN_STATE, Upto


def kept_layers(asked: str | Upto | Sequence[int | str], depth: int, source: str) -> tuple[str, ...]:
    """Names of the layers that a view asks for, of a model whose hidden states are 0 … depth.

    Raises:
        ViewError: the model has no such layer.
    """
    if asked == "all":
        return tuple(str(layer) for layer in range(depth + 1))
    asked = range(asked.upto + 1) if isinstance(asked, Upto) else asked
    if beyond := [layer for layer in asked if layer != LAST_HIDDEN_STATE and layer > depth]:
        raise ViewError(
            f"source {source!r}: expected layers 0 to {depth} or {LAST_HIDDEN_STATE}, got layer {beyond[-1]}"
        )
    return tuple(str(layer) for layer in asked)


def kept_frames(asked: Sequence[int | str], layer_names: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers whose frames a view asks for.

    Raises:
        ViewError: one of them is not among the layers that are kept.
    """
    names = tuple(str(layer) for layer in asked)
    if strangers := [name for name in names if name not in layer_names]:
        shown = ", ".join(layer_names) if len(layer_names) <= 4 else f"{layer_names[0]} … {layer_names[-1]}"
        raise ViewError(f"frames: expected layers that are kept ({shown}), got {strangers}")
    return names


def depth_needed(layer_names: Sequence[str], depth: int) -> int:
    """Layers of the model below which all that is asked for lies; layer "0" is seen at the door of the first."""
    return depth if LAST_HIDDEN_STATE in layer_names else max(1, *(int(name) for name in layer_names))
