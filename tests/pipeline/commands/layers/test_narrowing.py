"""`strata layers --write` narrows a view and its store, and ends well wherever it was cut short."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from strata import extractors
from strata.pipeline import cli
from strata.pipeline.commands.layers import narrowing
from strata.pipeline.extraction.work import values
from strata.pipeline.results import writing
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, narrow
from tests.pipeline.commands.layers.eliminated import KEPT, LINE, NARROW, PARAMS, Eliminated


def test_the_view_and_its_store_are_narrowed_and_extraction_goes_on_from_there(eliminated, wide):
    """Rows are kept bit for bit and not computed again; new ones are, by the cut model, with the whole one's values."""
    said = eliminated.write()
    eliminated.assert_narrow(wide)
    assert f"{eliminated.path}: 24 rows of 5 layers, copied and not computed again" in said
    assert f"{eliminated.wide}: the store as it was, " in said
    assert "views.wavlm now has the layers 0–2, 5, 7" in said
    study = eliminated.study
    assert "wavlm: up to date (24 of 24 utterances)" in study.succeeds("extract", "wavlm")
    study.add(3).succeeds("corpus")
    said = study.succeeds("extract", "wavlm")
    assert "wavlm: 3 new of 27 utterances" in said
    assert "wavlm: computed 3 utterances" in said
    assert "wavlm: cut after layer 7: " in said

    store = FeatureStore.open(eliminated.path)
    assert store.pooled(wide["keys"]).tobytes() == wide["pooled"][:, KEPT].tobytes()
    new = store.keys[24:]
    whole = extractors.load({"family": "transformers", "source": "miniature:wavlm-large"}, folder=eliminated.folder)
    manifest = Study(eliminated.file).read_manifest().set_index("content")
    for key in new:
        waveform, rate = soundfile.read(eliminated.folder / manifest.loc[key, "audio"], dtype="float32")
        assert rate == 16_000
        (states,) = values(whole, [waveform])
        scale = np.abs(states.pooled[KEPT]).max()
        np.testing.assert_allclose(store.pooled([key])[0], states.pooled[KEPT], rtol=0, atol=1e-4 * scale)


def test_what_was_written_is_noted_for_the_elimination(eliminated):
    """The section as `strata eliminate` will find it in params.yaml."""
    eliminated.write()
    found = json.loads((eliminated.results / "written.json").read_text())
    now = Study(eliminated.file).params.views["wavlm"]
    assert found == {"view": "wavlm", "section": now.model_dump(mode="json")}
    assert found["section"]["layers"] == KEPT


def test_a_second_call_changes_nothing(eliminated, wide):
    """It says that all is done; also when the wide store has been removed."""
    eliminated.write()
    before = eliminated.state()
    said = eliminated.write()
    assert "24 rows, of the layers kept already" in said
    assert "views.wavlm has the layers 0–2, 5, 7" in said
    assert eliminated.state() == before
    eliminated.assert_narrow(wide)
    shutil.rmtree(eliminated.wide)
    eliminated.write()
    assert not eliminated.wide.exists()


def test_all_layers_kept_are_nothing_to_write(eliminated):
    """No list in the place of `all`, no copy of a store."""
    eliminated.found(range(25))
    before = eliminated.state(), eliminated.file.read_bytes()
    assert "all 25 layers are kept: nothing to write" in eliminated.write()
    assert (eliminated.state(), eliminated.file.read_bytes()) == before


def test_where_there_is_no_store_only_params_are_edited(eliminated):
    """With a line that says what to do where there is one."""
    shutil.move(eliminated.path, eliminated.folder / "carried")
    said = eliminated.write()
    assert "is not here, so only" in said
    assert "before `strata extract wavlm`" in said
    assert eliminated.file.read_text() == PARAMS.replace(LINE, NARROW)
    assert not eliminated.wide.exists()
    shutil.move(eliminated.folder / "carried", eliminated.path)  # the machine that has it
    assert "copied and not computed again" in eliminated.write()
    assert "up to date (24 of 24" in eliminated.study.succeeds("extract", "wavlm")


@pytest.mark.parametrize("step", ["first rename", "second rename", "written.json", "params.yaml"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_cut_short_anywhere_the_same_command_ends_well(eliminated, wide, monkeypatch, step, after):
    """Nothing is lost in between: the wide store is whole in one of its places."""

    def failing(action, wanted):
        calls = []

        def call(*arguments):
            calls.append(arguments)
            if wanted not in (len(calls), Path(arguments[0]).name):
                return action(*arguments)
            if after:
                action(*arguments)
            raise OSError("the disk is gone")

        return call

    with monkeypatch.context() as broken:
        if step.endswith("rename"):
            broken.setattr(narrow.os, "rename", failing(os.rename, ["first rename", "second rename"].index(step) + 1))
        else:
            for module in (narrowing, writing):
                broken.setattr(module, "write_if_changed", failing(module.write_if_changed, step))
        eliminated.study.capsys.readouterr()
        arguments = ["layers", str(eliminated.results), "--no-time", "--write", str(eliminated.file)]
        assert cli.main(arguments) == 1
        assert "the disk is gone" in eliminated.study.capsys.readouterr().err
    places = [place for place in (eliminated.path, eliminated.wide) if FeatureStore.exists(place)]
    assert 25 in [len(FeatureStore.open(place).layer_names) for place in places]
    eliminated.write()
    eliminated.assert_narrow(wide)
    assert json.loads((eliminated.results / "written.json").read_text())["section"]["layers"] == KEPT
    assert "wavlm: up to date (24 of 24 utterances)" in eliminated.study.succeeds("extract", "wavlm")


def test_what_means_something_else_now_is_said(eliminated):
    """`layers: last`, and another elimination on the view."""
    eliminated.edit("layers: all", "layers: last").edit(
        "    wavlm: {view: wavlm, tasks: ['speaker']}\n",
        "    wavlm: {view: wavlm, tasks: ['speaker']}\n    other: {view: wavlm, tasks: [speaker]}\n",
    )
    said = eliminated.write()
    assert "`layers: last` of wavlm is layer 7 now and was layer 24: experiments.first" in said
    assert "eliminate.other will begin with the layers that are left" in said
    eliminated.edit("layers: last", "layers: [0, 7]")
    assert "last" not in eliminated.write()


def test_under_dvc_the_narrow_store_is_the_view_from_then_on(repository):
    """`dvc repro` computes nothing and keeps the narrow store; git does not see the wide one."""
    repository.params["views"] = {"wavlm": {"family": "transformers", "source": "miniature:wavlm"}}
    repository.params |= {"experiments": {}, "eliminate": {"wavlm": {"view": "wavlm", "tasks": ["speaker"]}}}
    repository.write_params().process("dvc", "repro", "extract")
    eliminated = Eliminated(repository).found([0, 2], depth=4)
    eliminated.write()
    said = repository.process("dvc", "repro", "extract")
    assert "wavlm: up to date (24 of 24 utterances)" in said
    assert "are up to date" in repository.process("dvc", "status", "extract")
    assert "wide" not in repository.process("git", "status", "--short", "--untracked-files=all")
    shutil.rmtree(eliminated.path)
    repository.process("dvc", "checkout", "extract@wavlm")
    assert FeatureStore.open(eliminated.path).layer_names == ("0", "2")
