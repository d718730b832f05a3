"""What an extraction promises: only what is missing is computed, once, and what there is to say is said."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from strata import extractors
from strata.pipeline import cli
from strata.pipeline.extraction import work
from strata.store import FeatureStore
from tests.pipeline.stages.stores import opened


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
    assert "left out: 1 recording, the first new.wav" in study.succeeds("corpus")


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


def test_modules_that_are_computed_in_float32_are_told_and_kept(study, monkeypatch):
    """Which, how many and for what; in the store those of every machine that added rows, from its first block on.
    Nothing where there are none."""
    study.add(76).succeeds("corpus")
    compute, here = work.compute, [("a.conv", "b.conv", "c.conv", "d.conv"), ("a.conv", "z.conv")]

    def elsewhere(*arguments):
        """A block of each machine; the second one is gone before it has told of a third."""
        if not here:
            raise ConnectionError("the machine is gone")
        return replace(compute(*arguments), in_float32=here.pop(0))

    monkeypatch.setattr(work, "compute", elsewhere)
    said = study.succeeds("extract", "mfcc")
    told = "mfcc: 5 modules are computed in float32, for float32 is wrong for them here: a.conv, b.conv, c.conv, …\n"
    assert told in said
    modules = ["a.conv", "b.conv", "c.conv", "d.conv", "z.conv"]
    assert opened(study, "mfcc").notes == {"in_float32": modules}
    study.add(1).succeeds("corpus")
    assert "the machine is gone" in study.fails("extract", "mfcc")
    here.append(())
    assert "in float32" not in study.succeeds("extract", "mfcc")
    assert opened(study, "mfcc").notes == {"in_float32": modules}
    out = study.strata("store", "info", str(study.folder / "features/mfcc.zarr"))[1]
    assert json.loads(out)["in_float32"] == modules


def test_what_waits_for_a_view_as_it_was_goes_once_the_extraction_is_complete(study):
    """Rows of other layers, say: nobody would ever take them. It is told once."""
    study.succeeds("corpus")
    left = study.folder / "features/mfcc.journal-0123456789abcdef.tmp"
    left.mkdir(parents=True)
    (left / "plan.json").write_text("[]")
    told = "mfcc: rows that waited for another model, setting or choice of layers are removed"
    assert told in study.succeeds("extract", "mfcc")
    assert not left.exists()
    assert told not in study.succeeds("extract", "mfcc")


def test_results_tell_what_was_computed_in_float32(study):
    """In their provenance, beside the fingerprint of the view, and so in the report."""
    for stage in ("corpus", "extract"):
        study.succeeds(stage)
    store = FeatureStore.open(study.folder / "features/mfcc.zarr")
    with store.locked():
        store.note("in_float32", ["a.conv"])
    study.succeeds("train", "one")
    views = study.metrics("one")["provenance"]["views"]
    assert views["mfcc"]["in_float32"] == ["a.conv"]
    study.succeeds("report")
    assert "view mfcc: modules computed in float32" in (study.folder / "report/index.html").read_text()
