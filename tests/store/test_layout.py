"""What is written by hand is what Zarr writes and reads."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from strata.store import FeatureStore, layout


def header(**changes):
    defaults = {
        "fingerprint": {"family": "test"},
        "layer_names": ["0", "1", "2"],
        "frame_layers": ["1"],
        "dim": 7,
        "frame_dim": 5,
        "frame_rate_hz": 50.0,
        "block_rows": 128,
    }
    return layout.Header(**defaults | changes)


@pytest.mark.parametrize("block_rows", [11, 128])
def test_documents_are_those_that_zarr_writes_for_the_same_arrays(tmp_path, block_rows):
    """Shapes, chunks, shards, codecs and fill values; only attributes are added."""
    h = header(block_rows=block_rows)
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    rows, checksum = 3 * block_rows, [Crc32cCodec()]

    def array(name, shape, chunks, shards, fill, dtype="float32"):
        group.create_array(
            name, shape=shape, chunks=chunks, shards=shards, dtype=dtype, fill_value=fill, compressors=checksum
        )

    array("pooled", (rows, 3, 7), (h.chunk_rows, 1, 7), (block_rows, 3, 7), np.nan)
    array("num_frames", (rows,), (block_rows,), None, -1, "int32")
    array("key", (rows, 64), (block_rows, 64), None, 0, "uint8")
    array("frames/1/000002", (12, 5), (h.frames_per_chunk, 5), (h.frames_per_chunk, 5), np.nan)
    ours = layout.documents(h, 3) | {"frames/1/000002/zarr.json": layout.frames_document(h, 12)}
    for name, document in ours.items():
        found, expected = json.loads(document), json.loads((tmp_path / name).read_bytes())
        assert found | {"attributes": {}} == expected | {"attributes": {}}, name


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_zarr_reads_what_is_written_and_the_same_as_reading_by_hand(tmp_path_factory, small, data):
    """Any plain Zarr reader sees the values, NaN where there is no row; several chunks per shard."""
    store = small.create(tmp_path_factory.mktemp("s") / "view.zarr", block_rows=128)
    keys, pooled, counts, frames = small.rows(data.draw(st.integers(1, 200)))
    store.append(keys, pooled, counts, frames)
    group = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(group["pooled"][: len(keys)], pooled)
    assert np.isnan(group["pooled"][len(keys) :]).all()
    np.testing.assert_array_equal(group["num_frames"][: len(keys)], counts)
    assert layout.decode_keys(group["key"][: len(keys)]) == keys
    joined = np.concatenate([group[f"frames/1/{block:06d}"][:] for block in range(-(-len(keys) // 128))])
    np.testing.assert_array_equal(joined, np.concatenate(frames["1"]))


def test_a_later_zarr_writer_may_keep_the_store_open_while_it_grows(store, small):
    """Rows that came after are seen by whoever opens it anew; a row that was there never changes."""
    store.append(*small.rows(5, seed=1))
    reader = FeatureStore.open(store.path)
    before = reader.pooled()
    store.append(*small.rows(20, seed=2))
    np.testing.assert_array_equal(reader.pooled(), before)
    assert len(FeatureStore.open(store.path)) == 25


def test_a_block_holds_a_shard_or_half_an_hour_of_audio():
    """Multiples of a chunk, within bounds: few files for DVC, little lost in a crash."""
    assert layout.default_block_rows(4 * 13 * 768) == 832
    assert layout.default_block_rows(4 * 13 * 768, row_s=5.0) == 320
    assert layout.default_block_rows(4 * 80) == 1024
    assert layout.default_block_rows(10**9) == 64
    assert layout.default_block_rows(4 * 13 * 768, row_s=600.0) == 64


@given(st.lists(st.text(min_size=1, max_size=16).filter(lambda key: "\0" not in key and len(key.encode()) <= 64)))
def test_keys_come_back(keys):
    """Any text of at most 64 bytes."""
    if keys:
        assert layout.decode_keys(layout.encode_keys(keys)) == keys
