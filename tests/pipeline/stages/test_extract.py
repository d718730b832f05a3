"""What an extraction promises: only what is missing is computed, nothing is lost, and no two models are mixed."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from unittest.mock import create_autospec

import numpy as np
import pytest

from strata import extractors
from strata.pipeline import cli
from strata.pipeline.errors import StageError
from strata.pipeline.extraction.runners import Runner
from strata.pipeline.stages import extract
from strata.store import FeatureStore
from strata.store.local import LocalStorage
from tests.sampling import SWEEP, sampled, sweep


@pytest.fixture
def framed(study):
    """Two views that keep frames, with enough recordings for several blocks; listed, not extracted."""
    study.params["views"]["mfcc"]["frames"] = ["mfcc"]
    study.params["views"]["wavlm"]["frames"] = [2]
    study.write_params().add(176)
    study.succeeds("corpus")
    return study


def opened(study, view: str) -> FeatureStore:
    return FeatureStore.open(study.folder / f"features/{view}.zarr")


def values(store: FeatureStore) -> dict[str, tuple]:
    """All that a store holds of each key."""
    frames = [store.frames(store.keys, layer) for layer in store.header.frame_layers]
    rows = zip(store.keys, store.pooled(), store.num_frames(), *frames, strict=True)
    return {key: arrays for key, *arrays in rows}


def assert_same(found: FeatureStore, expected: FeatureStore, rtol: float = 0.0) -> None:
    found, expected = values(found), values(expected)
    assert found.keys() == expected.keys()
    for key, arrays in expected.items():
        for one, other in zip(found[key], arrays, strict=True):
            scale = np.abs(other).max() if np.size(other) else 0.0
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale)


def test_what_a_licence_forbids_is_said_where_values_are_computed(study):
    """One line on stderr when there is something to compute; a run that is up to date says nothing of it."""
    if find_spec("opensmile") is None:
        pytest.skip("needs the extra opensmile")
    study.params["views"] = {"egemaps": {"family": "opensmile", "frames": ["lld"]}, "mfcc": {"family": "mfcc"}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params().succeeds("corpus")
    said = study.succeeds("extract").splitlines()
    assert [line for line in said if "commercial" in line] == [f"egemaps: {extractors.NOTICES['opensmile']}"]
    store = opened(study, "egemaps")
    assert store.pooled().shape == (24, 1, 88)
    assert [frames.shape for frames in store.frames(store.keys, "lld")] == [(n, 25) for n in store.num_frames()]
    again = study.succeeds("extract", "egemaps")
    assert "egemaps: up to date" in again
    assert "commercial" not in again


# -- crashes -------------------------------------------------------------------------------------------------------


def extract_quietly(folder) -> None:
    """One extraction of all views, in the process that a test is about to kill."""
    os.chdir(folder)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    raise SystemExit(cli.main(["extract"]))


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_instants_an_extraction_loses_nothing(framed, kills):
    """SIGKILL, again and again, over two views with frames: every store opens, verifies and keeps its committed rows;
    in the end it equals an uninterrupted run's, value for value."""
    views = ("mfcc", "wavlm")
    framed.succeeds("extract")
    quiet = framed.folder / "quiet"
    (framed.folder / "features").rename(quiet)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["strata.pipeline.stages.extract", "strata.extractors.transformers.speech", "strata.extractors.mfcc"]
    )
    instants, committed, killed, whole = random.Random(kills), {view: set() for view in views}, 0, 0
    while killed < kills:
        process = processes.Process(target=extract_quietly, args=(framed.folder,))
        process.start()
        process.join(instants.uniform(0.05, 2.0))
        killed += process.is_alive()
        process.kill()
        process.join()
        for view in views:
            if FeatureStore.exists(framed.folder / f"features/{view}.zarr"):
                store = opened(framed, view)
                assert store.verify() == []
                assert committed[view] <= set(store.keys)
                committed[view] = set(store.keys)
        if process.exitcode == 0:  # all is there: once more from the start
            whole += 1
            for view in views:
                assert_same(opened(framed, view), FeatureStore.open(quiet / f"{view}.zarr"))
            shutil.rmtree(framed.folder / "features")
            committed = {view: set() for view in views}
    framed.succeeds("extract")
    for view in views:
        assert_same(opened(framed, view), FeatureStore.open(quiet / f"{view}.zarr"))
        assert not list((framed.folder / f"features/{view}.zarr").rglob("*.partial"))


@SWEEP
@pytest.mark.parametrize("method", ["write", "create", "remove", "flush", "read_all", "names"])
def test_an_extraction_whose_storage_fails_once_completes_the_next_time(study, monkeypatch, method, keep):
    """At the first, second, … operation of a kind: one line, nothing lost, and the same values in the end."""
    study.params["views"] = {"mfcc": {"family": "mfcc", "frames": ["mfcc"]}}
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    inner = getattr(LocalStorage, method)

    def extract_failing(at: int) -> tuple[int, int, str]:
        """How often the operation was called, of which the `at`-th fails; exit status and stderr."""
        calls = 0

        def failing(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError("the disk is gone")
            return inner(self, *arguments)

        with monkeypatch.context() as broken:
            broken.setattr(LocalStorage, method, failing)
            status, _, err = study.strata("extract")
        return calls, status, err

    operations, status, _ = extract_failing(0)
    assert status == 0
    assert operations > 0
    quiet = (study.folder / "features").rename(study.folder / "quiet")
    for at in sampled(range(1, operations + 1), keep and 3):
        _, status, err = extract_failing(at)
        assert status == 1
        assert err.splitlines()[-1].endswith("the disk is gone")
        study.succeeds("extract")
        assert opened(study, "mfcc").verify() == []
        assert_same(opened(study, "mfcc"), FeatureStore.open(quiet / "mfcc.zarr"))
        shutil.rmtree(study.folder / "features")


@pytest.fixture
def tiny_disk(study):
    """The study's features on a disk of one megabyte."""
    features = study.folder / "features"
    features.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", features]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of one megabyte takes the right to mount a tmpfs")
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", features], check=True)
    subprocess.run(["umount", features], check=True)


def test_a_full_disk_is_one_line_and_the_run_completes_once_there_is_room(study, tiny_disk):
    """Whether it is seen beforehand or in the middle of a block; the view that fits is done."""
    study.params["views"] = {
        "large": {"family": "mfcc", "frames": ["mfcc"]},  # a chunk of frames has a megabyte
        "small": {"family": "mfcc"},
    }
    study.params["experiments"] = study.params["eliminate"] = {}
    study.write_params()
    study.succeeds("corpus")
    line = study.fails("extract")
    assert "view large: " in line
    assert "no space left on device at frames/mfcc/000000/c/0/0" in line
    assert "make room, and the same command goes on from there" in line
    assert opened(study, "large").verify() == []
    assert len(opened(study, "small")) == 24
    tiny_disk("20m")
    assert "large: 24 new of 24" in study.succeeds("extract")
    assert opened(study, "large").verify() == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(study, monkeypatch):
    """With what is needed and what is there."""
    study.succeeds("corpus")
    usage = shutil.disk_usage(study.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    line = study.fails("extract", "mfcc")
    assert "7.7 kB to write but only 1.0 kB free" in line
    assert len(opened(study, "mfcc")) == 0


# -- damage --------------------------------------------------------------------------------------------------------


FILES = {
    "pooled/c/1/0/0": 64,
    "num_frames/c/1": 64,
    "frames/2/000001/c/0/0": 64,
    "frames/2/000001/zarr.json": 0,
    "key/c/1/0": 64,
    "pooled/zarr.json": 0,
    "zarr.json": 0,
}
"""A file of every kind, and how many rows are lost with it."""


@pytest.fixture(scope="module")
def whole(new_study, silence, tmp_path_factory):
    """A study whose view keeps frames, extracted in several blocks. To be copied, its miniature with it."""
    root = tmp_path_factory.mktemp("whole")
    study = new_study(root / "study", silence).add(200)
    study.params["views"]["wavlm"]["frames"] = [2]
    study.write_params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(root / "miniatures"))
        study.succeeds("corpus")
        study.succeeds("extract", "wavlm")
    return study


@pytest.mark.parametrize(("file", "how"), sweep(product(FILES, ("flip", "delete", "truncate")), keep=7))
def test_damage_is_named_and_just_those_rows_are_computed_anew(whole, file, how, tmp_path, capsys, monkeypatch):
    """`strata store verify` says view, block and rows; `strata extract` mends, and the values are what they were."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "miniatures"))
    study, rows = whole.copied(tmp_path, capsys), FILES[file]
    path = study.folder / "features/wavlm.zarr"
    before = values(opened(study, "wavlm"))
    data = bytearray((path / file).read_bytes())
    data[len(data) // 3] ^= 4
    (path / file).unlink()
    if how != "delete":
        (path / file).write_bytes(data if how == "flip" else data[: len(data) // 2])
    status, _, said = study.strata("store", "verify", str(path))
    assert status == 1
    where = f"all blocks: {file} is not what was" if file in ("pooled/zarr.json", "zarr.json") else "block 1, rows"
    assert f"view wavlm, {where}" in said
    said = study.succeeds("extract", "wavlm")
    assert (f"wavlm: {rows} new of 200 utterances" if rows else "up to date") in said
    assert "200 rows, all of them as they were written" in study.succeeds("store", "verify", str(path))
    after = values(opened(study, "wavlm"))
    assert after.keys() == before.keys()
    for key, arrays in before.items():
        np.testing.assert_allclose(after[key][0], arrays[0], rtol=1e-4, atol=1e-5)


def test_silent_rot_is_found_by_verify_and_mended_by_the_next_extraction(study):
    """The disk flips a bit and no time of change tells: only reading does, and what verify found is not forgotten."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    shard = study.folder / "features/mfcc.zarr/pooled/c/0/0/0"
    times = shard.stat()
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "up to date" in study.succeeds("extract", "mfcc")  # it reads nothing that has not changed
    assert "strata store verify" in study.fails("train", "one")
    assert "damaged in 1 place;" in study.fails("store", "verify", str(study.folder / "features/mfcc.zarr"))
    assert "24 damaged rows were taken out" in study.succeeds("extract", "mfcc")
    assert "one (SVMT)" in study.succeeds("train", "one")


# -- two models ----------------------------------------------------------------------------------------------------


FIELDS = ["family", "source", "revision", "config", "weights", "preprocessing", "masking", "compute_dtype", "layers"]


@pytest.mark.parametrize("field", [*FIELDS, "frames", "pooling"])
def test_a_store_that_differs_in_any_one_field_is_refused_by_its_name(study, field):
    """Every field of a fingerprint counts; nothing is written."""
    study.succeeds("corpus")
    view = extractors.load(study.params["views"]["wavlm"], folder=study.folder)
    assert set(view.fingerprint) == {*FIELDS, "frames", "pooling"}
    store = FeatureStore.create(
        study.folder / "features/wavlm.zarr",
        fingerprint=view.fingerprint | {field: "another"},
        layer_names=view.layer_names,
        dim=view.dim,
    )
    store.append(["0" * 32], np.ones((1, len(view.layer_names), view.dim), np.float32), [7])
    line = study.fails("extract", "wavlm")
    assert f"({field}: stored 'another', wanted" in line
    assert "new name" in line
    assert "strata store drop" in line
    assert opened(study, "wavlm").keys == ["0" * 32]


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensor(path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1e-3)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda view, model: view.update(layers=[0, 1]), "layers"),
        (lambda view, model: view.update(frames=[1]), "frames"),
        (lambda view, model: edit_tensor(model / "model.safetensors"), "weights"),
        (lambda view, model: edit_json(model / "preprocessor_config.json", do_normalize=None), "config"),
        (lambda view, model: edit_json(model / "config.json", layer_norm_eps=1e-3), "config"),
        (lambda view, model: view.update(source="miniature:hubert"), "source"),
    ],
    ids=["layers", "frames", "weights", "preprocessing", "config", "source"],
)
def test_a_changed_view_or_checkpoint_is_refused_by_the_name_of_the_field(study, tmp_path, monkeypatch, change, field):
    """Really changed, one at a time, on a local checkpoint: the store is not touched."""
    monkeypatch.chdir(tmp_path)
    study.succeeds("corpus")
    made = extractors.load(study.params["views"]["wavlm"], folder=study.folder)
    model = shutil.copytree(made.checkpoint, tmp_path / "model")
    view = study.params["views"]["wavlm"]
    view["source"] = str(model)
    study.write_params()
    study.succeeds("extract", "wavlm")
    before = opened(study, "wavlm").pooled()
    change(view, model)
    study.write_params()
    assert f"{field}: stored" in study.fails("extract", "wavlm")
    np.testing.assert_array_equal(opened(study, "wavlm").pooled(), before)


def test_how_an_extraction_runs_changes_no_value(framed):
    """Another batch size, and rows that are added by a run with one: accepted, and equal to within 1e-4."""
    framed.succeeds("extract", "wavlm")
    expected = framed.folder / "expected.zarr"
    (framed.folder / "features/wavlm.zarr").rename(expected)
    framed.params["extract"] = {"batch_s": 0.7, "device": "cpu"}
    framed.write_params()
    framed.succeeds("extract", "wavlm")
    assert_same(opened(framed, "wavlm"), FeatureStore.open(expected), rtol=1e-4)
    framed.params["extract"] = {"batch_s": 30.0}
    framed.write_params()
    assert "up to date" in framed.succeeds("extract", "wavlm")


def test_a_worker_with_another_model_is_refused(study, tmp_path):
    """A machine whose checkpoint is not the one that the store was made with writes nothing."""
    from strata.pipeline.extraction.work import Extraction, compute
    from strata.pipeline.study.folder import Study

    study.succeeds("corpus")
    study.succeeds("extract", "wavlm")
    section = json.dumps({"family": "transformers", "source": "miniature:hubert"})
    extraction = Extraction.of(Study(study.folder / "params.yaml"), "wavlm")
    store = opened(study, "wavlm")
    with store.locked(), pytest.raises(StageError, match=r"another model .*config, masking|give every worker"):
        compute(Extraction(extraction.folder, extraction.store, section, "cpu", None), store.reserve(), [])


# -- only what is missing ------------------------------------------------------------------------------------------


def test_an_unchanged_corpus_loads_no_model(study, monkeypatch):
    """Neither its libraries nor its files: the store and what is remembered of the view say it all."""
    study.succeeds("corpus")
    study.succeeds("extract")

    def load(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(extractors, "load", load)
    assert study.succeeds("extract").count("up to date") == 2
    extraction = "import sys; from strata.pipeline import cli; cli.main(['extract'])"
    heavy = f"{extraction}; print({{'torch', 'transformers'}} & {{*sys.modules}})"
    assert "set()" in study.process("python", "-c", heavy)


def test_removed_and_re_added_recordings_cost_nothing(study):
    """Their rows wait."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    rows = list(study.rows)
    study.rows = rows[:10]
    study.add(0)
    study.succeeds("corpus")
    assert "up to date (10 of 10 utterances)" in study.succeeds("extract", "mfcc")
    study.rows = rows
    study.add(0)
    study.succeeds("corpus")
    assert "up to date (24 of 24 utterances)" in study.succeeds("extract", "mfcc")


def test_the_same_recording_in_two_corpora_is_computed_once(study):
    """Known by what it holds, not by its name or place."""
    other = study.folder / "other"
    shutil.copytree(study.recordings, other)
    (other / "001.wav").rename(other / "renamed.wav")
    (other / "metadata.csv").write_text("file_name,mood\n000.wav,calm\nrenamed.wav,angry\n")
    study.params["corpora"]["other"] = {"adapter": "folder", "root": "other"}
    study.write_params()
    assert "26 utterances" in study.succeeds("corpus")
    assert "mfcc: 24 new of 24 utterances" in study.succeeds("extract", "mfcc")


def test_one_percent_more_costs_one_percent(study):
    """Two new recordings of 200: two are computed, and the files of the others are not written again."""
    study.add(176)
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    shards = {path: path.stat().st_mtime_ns for path in study.folder.glob("features/mfcc.zarr/*/c/**/*")}
    shards = {path: time for path, time in shards.items() if path.is_file()}
    study.add(2)
    study.succeeds("corpus")
    assert "mfcc: 2 new of 202 utterances" in study.succeeds("extract", "mfcc")
    assert {path: path.stat().st_mtime_ns for path in shards} == shards


HOLD = """
import sys, time
from strata.store import FeatureStore
with FeatureStore.open(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_on_a_view_is_told_who_holds_it(study):
    """And a lock that a killed run left is in nobody's way."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    study.add(1)
    study.succeeds("corpus")
    with opened(study, "mfcc").locked():
        # A lock of this very process would be taken twice: ask from another one.
        said = study.process("strata", "extract", "mfcc", check=False)
        assert f"is being written by process {os.getpid()} on " in said
        assert "wait for it or stop it" in said
    store = study.folder / "features/mfcc.zarr"
    with subprocess.Popen([sys.executable, "-c", HOLD, store], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert f"process {holder.pid} on " in study.fails("extract", "mfcc")
        holder.send_signal(signal.SIGKILL)
    assert "mfcc: 1 new of 25" in study.succeeds("extract", "mfcc")


def test_recordings_that_the_table_does_not_have_are_mentioned(study):
    """A forgotten row is not silence."""
    shutil.copy(study.recordings / "000.wav", study.recordings / "new.wav")
    assert "left out: 1 recordings, the first new.wav" in study.succeeds("corpus")


def test_a_cut_model_says_how_much_of_it_is_computed(study):
    """Where the view stops below the last layer and there is something to do; a whole model has nothing to say."""
    study.params["views"]["short"] = {**study.params["views"]["wavlm"], "layers": {"upto": 2}}
    study.write_params().succeeds("corpus")
    said = study.succeeds("extract")
    assert re.search(r"^short: cut after layer 2: 0\.\d+ M of 0\.\d+ M parameters$", said, re.M)
    assert "wavlm: cut" not in said
    assert "cut" not in study.succeeds("extract", "short")


def test_a_view_that_was_refused_leaves_no_store_in_the_way(study):
    """A checkpoint that turns out wrong when its weights are read does not occupy the view's name."""
    headless = {"family": "transformers", "source": "miniature:xls-r", "layers": ["last_hidden_state"], "logits": True}
    study.params["views"]["x"] = headless
    study.write_params().succeeds("corpus")
    assert "lack classifier.dense.weight" in study.fails("extract", "x")
    study.params["views"]["x"] = {"family": "mfcc"}
    study.write_params()
    assert "x: 24 new of 24 utterances" in study.succeeds("extract", "x")
    study.params["views"]["x"] = {"family": "mfcc", "num_coefficients": 13}
    study.write_params()
    assert "was written by another view" in study.fails("extract", "x")


@pytest.mark.parametrize("arguments", [["extrct"], ["bench"], ["bench", "extract", "mfcc", "--seconds", "abc"]])
def test_a_wrong_command_line_is_one_line(arguments, capsys):
    """As every other error, with where to look and exit status 1."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("strata: ")
    assert "--help` shows what it takes" in lines[0]


def test_modules_that_are_computed_in_float32_are_told(capsys):
    """Which, how many and for what; nothing where there are none, or where float32 is what was asked for."""
    runner = create_autospec(Runner, instance=True)
    runner.ask.return_value = ("a.conv", "b.conv", "c.conv", "d.conv")
    extract.say_in_float32("wavlm", runner, {"compute_dtype": "bfloat16"})
    told = "wavlm: 4 modules are computed in float32, for bfloat16 is wrong for them here: a.conv, b.conv, c.conv, …\n"
    assert capsys.readouterr().err == told
    extract.say_in_float32("wavlm", runner, {"compute_dtype": "float32"})
    runner.ask.return_value = ()
    extract.say_in_float32("mfcc", runner, {"compute_dtype": "bfloat16"})
    assert capsys.readouterr().err == ""
