"""The Zarr documents of a store, held to what they must be and written anew where they are not.

No value is read by them: the header alone decides that. Knows neither rows nor claims.
"""

import json

from strata.store import blocks, layout
from strata.store.errors import CorruptStore
from strata.store.layout import Header
from strata.store.opening import committed, read_or_nothing
from strata.store.shards import Damaged
from strata.store.storage import Storage


def num_blocks(storage: Storage, header: Header) -> int:
    """Blocks that were given out: what the longest of the arrays has room for, or what is there."""
    lengths = [layout.num_blocks(read_or_nothing(storage, name), header) for name in layout.ARRAYS]
    return max([*lengths, _needed(storage)])


def damaged(storage: Storage, header: Header) -> list[str]:
    """Names of documents that are not what this code would write. Format 1 was written by other code."""
    if header.format < layout.FORMAT:
        return []
    needed, found = _needed(storage), []
    for name in layout.documents(header, 0):
        document = read_or_nothing(storage, name)
        # A process that is killed between them leaves arrays of different lengths: none may be too short.
        length = layout.num_blocks(document, header) if name in layout.ARRAYS else 0
        too_short = name in layout.ARRAYS and length < needed
        if too_short or document != layout.documents(header, length)[name]:
            found.append(name)
    return found


def mend(storage: Storage, header: Header) -> Header:
    """Writes anew what is damaged, or all of it where it is of format 1; the header as it is then.

    Raises:
        CorruptStore: the header of format 1, which has no hash, does not fit the arrays.
    """
    wanted = layout.upgraded(header)
    upgrade = wanted != header
    names = set(damaged(storage, header))
    if upgrade:
        _check_fit(storage, header)
        for block in committed(storage) if header.frame_layers else ():
            try:
                blocks.write_frame_documents(storage, wanted, block)
            except Damaged:
                continue  # its rows are named, and taken out, as damaged
    if upgrade or names:
        for name, document in layout.documents(wanted, num_blocks(storage, header)).items():
            if upgrade or name in names:
                storage.write(name, [document])  # the header comes last: until then the store is of format 1
        storage.flush()
    return wanted


def _needed(storage: Storage) -> int:
    return 1 + max(committed(storage), default=-1)


def _check_fit(storage: Storage, header: Header) -> None:
    try:
        found = json.loads(read_or_nothing(storage, "pooled/zarr.json"))["chunk_grid"]["configuration"]["chunk_shape"]
    except (ValueError, KeyError, TypeError):
        return  # the array's own document is the damaged one
    expected = [header.block_rows, len(header.layer_names), header.dim]
    if found != expected:
        raise CorruptStore(
            f"{storage.place}: the header speaks of shards {expected}, pooled/zarr.json of {found}; one of them is "
            "damaged: bring the store back with `dvc checkout --force`"
        )
