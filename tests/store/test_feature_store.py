import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.store import CorruptStore, FeatureStore, FingerprintMismatch, StoreError, StoreLocked


def test_rows_come_back_as_they_went_in(place, small):
    """Values, frame counts and frames, over several blocks and appends, by whoever opens the store anew."""
    first, second = small.rows(29, seed=1), small.rows(13, seed=2)
    store = small.create(place)
    store.append(*first)
    store.append(*second)
    again = FeatureStore.open(place)
    assert again.keys == first[0] + second[0]
    assert again.verify() == []
    small.assert_holds(again, first, second)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_choice_of_keys_and_layers_reads_as_the_same_choice_of_the_whole(tmp_path_factory, data, small):
    """In the order asked for, repetitions included."""
    store = small.create(tmp_path_factory.mktemp("s") / "view.zarr")
    keys, pooled, counts, frames = small.rows(data.draw(st.integers(1, 30)))
    store.append(keys, pooled, counts, frames)
    chosen = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1, max_size=20))
    layers = data.draw(st.lists(st.sampled_from(range(3)), min_size=1, max_size=3))
    found = store.pooled([keys[i] for i in chosen], [small.layers[i] for i in layers])
    np.testing.assert_array_equal(found, pooled[chosen][:, layers])
    for i, values in zip(chosen, store.frames([keys[i] for i in chosen], "1"), strict=True):
        np.testing.assert_array_equal(values, frames["1"][i])


def test_dask_sees_the_same_rows_in_the_same_order(store, small):
    """One chunk per block, holes left out."""
    store.append(*small.rows(13, seed=1))
    store.append(*small.rows(17, seed=2))
    lazy = store.dask(["2", "0"])
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), store.pooled(layers=["2", "0"]))
    assert lazy.shape == (30, 2, small.dim)


def test_a_store_is_handed_over_as_arrays_of_zarr(place, small):
    """Read-only, every value where `row_numbers` says, what is no row not a number."""
    store = small.create(place)
    keys, pooled, counts, frames = small.rows(13, seed=1)
    store.append(keys[:5], pooled[:5], counts[:5], {"1": frames["1"][:5]})
    store.append(keys[5:], pooled[5:], counts[5:], {"1": frames["1"][5:]})
    arrays, rows = store.zarr(), store.row_numbers(keys[::-1])
    np.testing.assert_array_equal(arrays["pooled"][:][rows], pooled[::-1])
    np.testing.assert_array_equal(arrays["num_frames"][:][rows], counts[::-1])
    assert np.isnan(np.delete(arrays["pooled"][:], rows, axis=0)).all()
    np.testing.assert_array_equal(arrays["frames/1/000000"][:], np.concatenate(frames["1"][:5]))
    with pytest.raises(ValueError, match="read-only"):
        arrays["pooled"][0] = 0
    with pytest.raises(StoreError, match="1 of 1 utterances have no row"):
        store.row_numbers(["absent"])


@pytest.mark.parametrize("dim", [1, 80, 88, 256, 384, 512, 768, 1024, 1027, 1280, 6373])
def test_dask_takes_every_width(tmp_path, small, dim):
    """Those of the published models and beside them, with rows and before the first."""
    store = small.create(tmp_path / "view.zarr", dim=dim, frame_layers=(), frame_dim=None)
    assert store.dask().shape == (0, 3, dim)
    assert store.dask(["1"]).compute(scheduler="synchronous").shape == (0, 1, dim)
    pooled = np.random.default_rng(dim).normal(size=(13, 3, dim)).astype(np.float32)
    store.append([str(row) for row in range(13)], pooled, [1] * 13)
    np.testing.assert_array_equal(store.dask([2, 0]).compute(scheduler="synchronous"), pooled[:, [2, 0]])


def test_layers_are_named_by_number_too(store, small):
    """As params.yaml names them, NumPy's among them: a number is a name and never a place. A text is no list."""
    store.append(*small.rows(5))
    expected = store.pooled(layers=["2", "0"])
    np.testing.assert_array_equal(store.pooled(layers=[2, 0]), expected)
    np.testing.assert_array_equal(store.pooled(store.keys, layers=[np.int64(2), "0"]), expected)
    np.testing.assert_array_equal(store.pooled(layers=range(1)), expected[:, 1:])
    np.testing.assert_array_equal(store.dask([2, 0]).compute(scheduler="synchronous"), expected)
    for found, by_name in zip(store.frames(store.keys, 1), store.frames(store.keys, "1"), strict=True):
        np.testing.assert_array_equal(found, by_name)
    with pytest.raises(StoreError, match="no layer '-1'; it has '0', '1', '2'"):
        store.pooled(layers=[-1])
    with pytest.raises(StoreError, match="no frames of layer '2' were kept"):
        store.frames(store.keys, 2)
    with pytest.raises(StoreError, match="expected a list of layers, got the text '12'"):
        store.pooled(layers="12")


def test_a_number_is_a_name_where_layers_were_cut(tmp_path, small):
    """Of a store of layers 4 and 8, `[4]` is the layer called so."""
    store = small.create(tmp_path / "view.zarr", layer_names=("8", "4", "last_hidden_state"), frame_layers=())
    keys, pooled, counts, _ = small.rows(3)
    store.append(keys, pooled, counts)
    np.testing.assert_array_equal(store.pooled(keys, layers=[4, "last_hidden_state"]), pooled[:, 1:])
    with pytest.raises(StoreError, match="no layer '1'"):
        store.pooled(keys, layers=[1])


def test_missing_names_what_has_no_row_once_and_in_order(store, small):
    """What an extraction still has to compute."""
    store.append(*small.rows(3))
    assert store.missing(["x", "0/1", "y", "x"]) == ["x", "y"]


def test_another_fingerprint_is_refused_by_the_name_of_the_field(store, small):
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
        ({"pooled": np.zeros((3, 2, 7))}, "expected pooled values of shape"),
        ({"pooled": np.full((3, 3, 7), np.nan)}, "not finite"),
        ({"pooled": np.full((3, 3, 7), 1e39)}, "not finite in float32"),
        ({"num_frames": [1, 2]}, "one frame count per key"),
        ({"num_frames": [1, 2, 9]}, "do not fit"),
        ({"frames": {}}, "expected frames of layers"),
        ({"keys": ["a", "a", "b"]}, "given twice"),
        ({"keys": ["a", "", "b"]}, "1 to 64 bytes"),
        ({"keys": ["a", "é" * 33, "b"]}, "1 to 64 bytes"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(store, change, message, small):
    """Shapes, names, duplicates, and numbers that float32 cannot hold."""
    good = dict(zip(["keys", "pooled", "num_frames", "frames"], small.rows(3), strict=True))
    with pytest.raises(StoreError, match=message):
        store.append(**good | change)
    assert FeatureStore.open(store.path).keys == []
    assert not (store.path / "pooled/c").exists()


def test_a_key_in_the_store_cannot_be_appended_again(store, small):
    """Rows are never overwritten."""
    store.append(*small.rows(3))
    with pytest.raises(StoreError, match="in the store already"):
        FeatureStore.open(store.path).append(*small.rows(3))


HOLD = """
import sys, time
from strata.store import FeatureStore
with FeatureStore.open(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_on_a_bucket_is_told_and_let_go(tmp_path, small):
    """There the lock is an object: another process's is respected, and removed by nobody else."""
    pytest.importorskip("obstore", reason="pip install 'strata-speech[objects]'")
    place = f"file://{tmp_path}/view.zarr"
    store = small.create(place)
    with subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked, match=rf"process {holder.pid} on .*remove .*view\.lock"):
            store.append(*small.rows(2))
        assert (tmp_path / "view.lock").exists()
        holder.kill()
    (tmp_path / "view.lock").unlink()  # a folder has no conditional put, by which a real bucket's is taken over
    store.append(*small.rows(2))
    assert len(store) == 2
    assert not (tmp_path / "view.lock").exists()


def test_a_dead_processs_lock_on_a_bucket_is_taken_over_by_one(monkeypatch):
    """Over the very object that was read: whoever comes second sees another's lock."""
    obstore = pytest.importorskip("obstore", reason="pip install 'strata-speech[objects]'")
    from strata.store.objects import ObjectStorage

    first, second = (ObjectStorage("memory:///bucket/view.zarr") for _ in range(2))
    second._bucket = first._bucket
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    lock = {"pid": dead.pid, "host": socket.gethostname(), "since": "long ago"}
    obstore.put(first._bucket, "view.lock", json.dumps(lock).encode())
    with first.exclusive(), pytest.raises(StoreLocked), second.exclusive():
        pass
    with second.exclusive():
        pass
    with pytest.raises(FileNotFoundError):
        obstore.head(first._bucket, "view.lock")


def test_the_second_writer_is_told_who_holds_the_store(store, small):
    """And a lock whose process was killed is not in the way."""
    with subprocess.Popen([sys.executable, "-c", HOLD, store.path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked, match=f"process {holder.pid} on "):
            store.append(*small.rows(2))
        holder.kill()
    store.append(*small.rows(2))
    assert len(store) == 2


def test_opening_what_is_no_store_says_what_to_do(tmp_path, small):
    """A missing folder, a foreign Zarr group, and a later format."""
    with pytest.raises(StoreError, match="run `strata extract view` first"):
        FeatureStore.open(tmp_path / "view.zarr")
    (tmp_path / "foreign.zarr").mkdir()
    (tmp_path / "foreign.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(CorruptStore, match="no Strata store"):
        FeatureStore.open(tmp_path / "foreign.zarr")
    store = small.create(tmp_path / "later.zarr")
    for name in ("zarr.json", "key/zarr.json"):
        document = json.loads((store.path / name).read_text())
        document["attributes"]["strata"]["format"] = 3
        (store.path / name).write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"expected a store of format 1 or 2, found format 3.*newer version"):
        FeatureStore.open(store.path)


def test_unknown_keys_and_layers_are_named(store, small):
    """With what there is."""
    store.append(*small.rows(2))
    with pytest.raises(StoreError, match="1 of 2 utterances have no row, the first 'nobody'"):
        store.pooled(["0/1", "nobody"])
    with pytest.raises(StoreError, match="no layer '9'; it has '0', '1', '2'"):
        store.pooled(layers=["9"])
    with pytest.raises(StoreError, match=r"no frames of layer '0' were kept \(kept: 1\)"):
        store.frames(["0/1"], "0")


def test_a_moved_store_reads_the_same(store, tmp_path, small):
    """Nothing in it names its place."""
    store.append(*small.rows(3))
    moved = tmp_path / "elsewhere.zarr"
    shutil.move(store.path, moved)
    np.testing.assert_array_equal(FeatureStore.open(moved).pooled(), small.rows(3)[1])


def test_notes_add_up_and_harm_no_row(place, small):
    """They need the lock, are no damage, and a note that cannot be read is none."""
    rows = small.rows(11)
    store = small.create(place)
    store.append(*rows)
    with pytest.raises(StoreError, match="lock"):
        store.note("by", ["a"])
    for names in (["b", "a"], ["c", "a"]):
        with store.locked():
            store.note("by", names)
    again = FeatureStore.open(place)
    assert again.notes == {"by": ["a", "b", "c"]}
    assert again.verify() == again.damaged_documents() == []
    small.assert_holds(again, rows)
    again.storage.write("key/notes.json", [b"{"])
    assert FeatureStore.open(place).notes == {}
