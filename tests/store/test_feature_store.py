import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from store import CorruptStore, FeatureStore, FingerprintMismatch, StoreError, StoreLocked, commit

LAYERS, DIM, FRAME_DIM, BLOCK = ("0", "1", "2"), 7, 5, 11  # distinct primes: swapped axes cannot pass


def create(path, **changes):
    options = {
        "fingerprint": {"family": "test", "layers": ("0", "1")},
        "layer_names": LAYERS,
        "dim": DIM,
        "frame_layers": ("1",),
        "frame_dim": FRAME_DIM,
        "block_rows": BLOCK,
    }
    return FeatureStore.create(path, **options | changes)


def rows(count, seed=0):
    """Keys, pooled values, frame counts and frames of `count` utterances; a few have no frame at all."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, count)
    frames = [rng.normal(size=(n, FRAME_DIM)).astype(np.float32) for n in counts]
    pooled = rng.normal(size=(count, len(LAYERS), DIM)).astype(np.float32)
    return [f"{seed}/{i}" for i in range(count)], pooled, counts, {"1": frames}


@pytest.fixture
def store(tmp_path):
    return create(tmp_path / "view.zarr")


def test_rows_come_back_as_they_went_in(store):
    """Values, frame counts and frames, over several blocks and appends, by whoever opens the store anew."""
    first, second = rows(29, seed=1), rows(13, seed=2)
    store.append(*first)
    store.append(*second)
    again = FeatureStore.open(store.path)
    assert again.keys == first[0] + second[0]
    np.testing.assert_array_equal(again.pooled(), np.concatenate([first[1], second[1]]))
    np.testing.assert_array_equal(again.num_frames(), np.concatenate([first[2], second[2]]))
    for found, expected in zip(again.frames(again.keys, "1"), first[3]["1"] + second[3]["1"], strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_choice_of_keys_and_layers_reads_as_the_same_choice_of_the_whole(tmp_path_factory, data):
    """In the order asked for, repetitions included."""
    store = create(tmp_path_factory.mktemp("s") / "view.zarr")
    keys, pooled, counts, frames = rows(data.draw(st.integers(1, 30)))
    store.append(keys, pooled, counts, frames)
    chosen = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1, max_size=20))
    layers = data.draw(st.lists(st.sampled_from(range(3)), min_size=1, max_size=3))
    found = store.pooled([keys[i] for i in chosen], [LAYERS[i] for i in layers])
    np.testing.assert_array_equal(found, pooled[chosen][:, layers])
    for i, values in zip(chosen, store.frames([keys[i] for i in chosen], "1"), strict=True):
        np.testing.assert_array_equal(values, frames["1"][i])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_reading_by_hand_gives_what_zarr_reads(tmp_path_factory, data):
    """The same bytes through Zarr's own codecs, with several chunks per shard."""
    store = create(tmp_path_factory.mktemp("s") / "view.zarr", frame_layers=(), block_rows=128)
    keys, pooled, counts, _ = rows(data.draw(st.integers(100, 200)))
    store.append(keys, pooled, counts)
    chosen = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=20)) + data.draw(
        st.sampled_from([[], list(range(100))])
    )
    layers = data.draw(st.lists(st.sampled_from(range(3)), min_size=1, max_size=3))
    found = store.pooled([keys[i] for i in chosen], [LAYERS[i] for i in layers])
    by_zarr = zarr.open_group(store.path, mode="r")["pooled"][:]
    np.testing.assert_array_equal(found, by_zarr[chosen][:, layers] if chosen else found)
    np.testing.assert_array_equal(store.pooled(), by_zarr[: len(keys)])


def test_dask_sees_the_same_rows_in_the_same_order(store):
    """One chunk per block, holes left out."""
    store.append(*rows(13, seed=1))
    store.append(*rows(17, seed=2))
    lazy = store.dask(["2", "0"])
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), store.pooled(layers=["2", "0"]))
    assert lazy.shape == (30, 2, DIM)


def test_missing_names_what_has_no_row_once_and_in_order(store):
    """What an extraction still has to compute."""
    store.append(*rows(3))
    assert store.missing(["x", "0/1", "y", "x"]) == ["x", "y"]


def test_one_layer_reads_one_layers_bytes(tmp_path):
    """Reading a layer touches its chunks alone: damage in another layer goes unseen until that one is read."""
    store = create(tmp_path / "view.zarr", frame_layers=())
    store.append(*rows(BLOCK)[:3])
    shard = store.path / "pooled/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 1  # the first layer's chunk comes first
    shard.write_bytes(data)
    store.pooled(layers=["1", "2"])
    with pytest.raises(CorruptStore, match="view view, block 0, rows 0 to 10"):
        store.pooled(layers=["0"])


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
@pytest.mark.parametrize("file", ["pooled/c/1/0/0", "num_frames/c/1", "frames/1/000001/c/0/0"])
def test_damage_raises_and_never_reads_as_a_value(store, file, damage):
    """A flipped byte, a lost and a shortened file, in every kind of file; the other blocks stay readable."""
    keys, pooled, counts, frames = rows(29)
    store.append(keys, pooled, counts, frames)
    path = store.path / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 0x10
        path.write_bytes(data)
    elif damage == "delete":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2])
    again = FeatureStore.open(store.path)
    problems = again.verify()
    assert len(problems) == 1
    assert "view view, block 1, rows 1" in problems[0]
    np.testing.assert_array_equal(again.pooled(keys[:BLOCK]), pooled[:BLOCK])


def test_a_damaged_key_chunk_is_refused_on_opening(store):
    """Keys decide which rows exist: nothing may be guessed from a broken list."""
    store.append(*rows(5))
    path = store.path / "key/c/0/0"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(CorruptStore, match="keys cannot be read"):
        FeatureStore.open(store.path)


@pytest.mark.parametrize("until", ["pooled", "num_frames", "frames", "sync", "key"])
def test_a_block_whose_writing_stops_anywhere_does_not_exist(store, until, monkeypatch):
    """Before the key is there, nothing is; the next append takes the block's place."""
    store.append(*rows(BLOCK, seed=1))
    before = store.pooled()
    with monkeypatch.context() as broken:
        _break(broken, store, until)
        with pytest.raises(OSError, match="disk"):
            store.append(*rows(BLOCK, seed=2))
    again = FeatureStore.open(store.path)
    assert again.verify() == []
    np.testing.assert_array_equal(again.pooled(), before)
    third = rows(BLOCK - 2, seed=3)
    again.append(*third)
    np.testing.assert_array_equal(FeatureStore.open(store.path).pooled(third[0]), third[1])


def _break(monkeypatch, store, until):
    def fail(*_, **__):
        raise OSError("disk")

    if until == "sync":
        monkeypatch.setattr(commit, "sync", fail)
        return
    original = zarr.Array.__setitem__

    def write(array, *arguments):
        if array.path.startswith(until):
            fail()
        original(array, *arguments)

    monkeypatch.setattr(zarr.Array, "__setitem__", write)


def test_values_are_synced_before_their_key_is_written(store, monkeypatch):
    """After a power cut no key may outlive its values."""
    log = []
    original = commit.sync

    def sync(folder, paths):
        paths = list(paths)
        log.append({path.relative_to(store.path).parts[0] for path in paths})
        assert log[-1] == {"key"} or not (store.path / "key/c/0/0").exists()
        original(folder, paths)

    monkeypatch.setattr(commit, "sync", sync)
    store.append(*rows(4))
    assert log == [{"pooled", "num_frames", "frames"}, {"key"}]


def test_half_written_files_of_a_killed_writer_are_swept(store):
    """They are neither read nor kept."""
    leftover = store.path / "pooled" / "0.123.partial"
    leftover.write_bytes(b"half")
    store.append(*rows(2))
    assert not leftover.exists()


def test_another_fingerprint_is_refused_by_the_name_of_the_field(store):
    """So that two models never share a store; the same one, from JSON or not, is accepted."""
    store.check({"family": "test", "layers": ["0", "1"]})
    with pytest.raises(
        FingerprintMismatch, match=r"layers: stored \['0', '1'\], wanted \['0'\].*strata store drop"
    ) as error:
        store.check({"family": "test", "layers": ["0"]})
    assert error.value.fields == ("layers",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooled": np.zeros((3, 2, DIM))}, "expected pooled values of shape"),
        ({"pooled": np.full((3, 3, DIM), np.nan)}, "not finite"),
        ({"pooled": np.full((3, 3, DIM), 1e39)}, "not finite in float32"),
        ({"num_frames": [1, 2]}, "one frame count per key"),
        ({"num_frames": [1, 2, 9]}, "do not fit"),
        ({"frames": {}}, "expected frames of layers"),
        ({"keys": ["a", "a", "b"]}, "given twice"),
        ({"keys": ["a", "", "b"]}, "1 to 64 bytes"),
        ({"keys": ["a", "é" * 33, "b"]}, "1 to 64 bytes"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(store, change, message):
    """Shapes, names, duplicates, and numbers that float32 cannot hold."""
    good = dict(zip(["keys", "pooled", "num_frames", "frames"], rows(3), strict=True))
    with pytest.raises(StoreError, match=message):
        store.append(**good | change)
    assert FeatureStore.open(store.path).keys == []
    assert not (store.path / "pooled/c").exists()


def test_a_key_in_the_store_cannot_be_appended_again(store):
    """Rows are never overwritten."""
    store.append(*rows(3))
    with pytest.raises(StoreError, match="in the store already"):
        FeatureStore.open(store.path).append(*rows(3))


HOLD = """
import sys, time
from store import FeatureStore
with FeatureStore.open(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_is_told_who_holds_the_store(store):
    """And a lock whose process was killed is not in the way."""
    with subprocess.Popen([sys.executable, "-c", HOLD, store.path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked, match=f"process {holder.pid} on "):
            store.append(*rows(2))
        holder.kill()
    store.append(*rows(2))
    assert len(store) == 2


def test_opening_what_is_no_store_says_what_to_do(tmp_path):
    """A missing folder, a foreign Zarr group, and a later format."""
    with pytest.raises(StoreError, match="run `strata extract view` first"):
        FeatureStore.open(tmp_path / "view.zarr")
    store = create(tmp_path / "later.zarr")
    metadata = json.loads((store.path / "zarr.json").read_text())
    metadata["attributes"]["strata"]["format"] = 2
    (store.path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="expected a store of format 1, found format 2"):
        FeatureStore.open(store.path)


def test_creation_interrupted_midway_starts_over(tmp_path):
    """A half-made store has another name, so it is never opened."""
    (tmp_path / "view.zarr.tmp" / "pooled").mkdir(parents=True)
    assert create(tmp_path / "view.zarr").keys == []
    with pytest.raises(StoreError, match="already"):
        create(tmp_path / "view.zarr")


def test_unknown_keys_and_layers_are_named(store):
    """With what there is."""
    store.append(*rows(2))
    with pytest.raises(StoreError, match="1 of 2 utterances have no row, the first 'nobody'"):
        store.pooled(["0/1", "nobody"])
    with pytest.raises(StoreError, match="no layer '9'; it has 0, 1, 2"):
        store.pooled(layers=["9"])
    with pytest.raises(StoreError, match=r"no frames of layer '0' were kept \(kept: 1\)"):
        store.frames(["0/1"], "0")


def test_a_moved_store_reads_the_same(store, tmp_path):
    """Nothing in it names its place."""
    store.append(*rows(3))
    moved = tmp_path / "elsewhere.zarr"
    shutil.move(store.path, moved)
    np.testing.assert_array_equal(FeatureStore.open(moved).pooled(), rows(3)[1])
