"""Which layers of a store an experiment's `layers` means. Opens no store and reads no values."""

from collections.abc import Sequence

from strata.pipeline.errors import StageError
from strata.pipeline.show.names import layer_height
from strata.store import FeatureStore


def layer_names(store: FeatureStore, wanted: str | Sequence[str | int]) -> tuple[str, ...]:
    """The layers that an experiment's `layers` means in one store.

    `last` is the model's output: `last_hidden_state` where the store has it, else the highest hidden state.
    """
    names = store.layer_names
    if wanted == "all":
        return tuple(name for name in names if name != "last_hidden_state") or names
    if wanted == "last":
        return (max(names, key=layer_height),)
    wanted = tuple(str(name) for name in wanted)
    if absent := [name for name in wanted if name not in names]:
        raise StageError(
            f"view {store.path.name.removesuffix('.zarr')} has no layer {absent[0]!r}; it has {', '.join(names)}"
        )
    return wanted
