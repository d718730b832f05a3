"""What every corpus adapter promises."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from strata.pipeline.corpora import ADAPTERS, Corpus, Problem, Utterance, adapter
from strata.pipeline.corpora.contract import MANIFEST_COLUMNS

KNOWN = "baved, crema-d, demo, emo-db, folder, iemocap, prompts, speech-commands, timit, voxceleb1"


def read(section, folder):
    """Everything that the section's adapter yields."""
    return list(adapter(section.adapter).utterances(section, folder))


def test_yields_utterances_and_problems_only(section, tmp_path):
    """Every item is an utterance or a problem, and a bad entry stops neither the utterances before nor after it."""
    items = read(section, tmp_path)
    assert any(isinstance(item, Utterance) for item in items)
    assert all(isinstance(item, Utterance | Problem) for item in items)


def test_names_are_unique(section, tmp_path):
    """No two utterances share a name."""
    names = [item.name for item in read(section, tmp_path) if isinstance(item, Utterance)]
    assert len(set(names)) == len(names)
    assert all(name and not name.startswith("/") for name in names)


def test_two_readings_agree(section, tmp_path):
    """The same corpus gives the same utterances in the same order."""
    assert read(section, tmp_path) == read(section, tmp_path)


def test_every_utterance_has_its_file(section, tmp_path):
    """An utterance's file exists; a file that does not is a problem instead."""
    for item in read(section, tmp_path):
        if isinstance(item, Utterance):
            assert item.audio.is_file()
            assert item.start_s >= 0
            assert item.duration_s is None or item.duration_s > 0


def test_text_has_one_normal_form():
    """Whatever an adapter finds in a table or a path, columns, labels and names are NFC; numbers stay what they are."""
    nfc, nfd = (unicodedata.normalize(form, "Gefühl") for form in ("NFC", "NFD"))
    item = Utterance(nfd, Path(nfd), {nfd: nfd, "age": 31.0, "room": None})
    assert (item.name, item.labels) == (nfc, {nfc: nfc, "age": 31.0, "room": None})
    assert str(item.audio) == nfd


def test_a_reason_is_one_line_whatever_it_quotes():
    """A cell may hold several."""
    assert Problem("a", "no such file: a\nb.wav").reason == "no such file: a b.wav"


def test_problems_say_why_in_one_line(section, tmp_path):
    """Each problem has a name and a reason that fits a table."""
    problems = [item for item in read(section, tmp_path) if isinstance(item, Problem)]
    assert len(problems) == {"demo": 0, "folder": 2}.get(section.adapter, 1)
    assert all(problem.name and problem.reason and "\n" not in problem.reason for problem in problems)


def test_labels_fit_the_manifest(section, tmp_path):
    """Labels are text, numbers or missing, the same columns for all, none of them one of the manifest's own."""
    labels = [item.labels for item in read(section, tmp_path) if isinstance(item, Utterance)]
    assert len({tuple(each) for each in labels}) == 1
    assert MANIFEST_COLUMNS.isdisjoint(labels[0])
    assert all(value is None or isinstance(value, str | float) for each in labels for value in each.values())
    assert all(isinstance(each["speaker"], str) for each in labels)


def test_section_survives_params(section):
    """A section read back from its own plain values is the same section, of the same adapter."""
    assert TypeAdapter(Corpus).validate_python(section.model_dump(mode="json")) == section
    assert section.adapter in ADAPTERS


def test_unknown_option_is_refused(section):
    """A misspelt option is an error, not silence."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TypeAdapter(Corpus).validate_python({**section.model_dump(), "sede": 5})


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"a": "content"}, "a cannot be called content, which the manifest fills in by itself"),
        ({"a": "duration_s"}, "a cannot be called duration_s, which the manifest fills in by itself"),
        ({"a": "x", "b": "x"}, "a and b cannot both be called x"),
        ({"a": ""}, "at least 1 character"),
        ({"a": 5}, "valid string"),
    ],
)
def test_new_names_of_labels_must_be_free(section, rename, message):
    """A label can be renamed in every corpus, and neither to a column of the manifest's own nor to another's name."""
    renamed = TypeAdapter(Corpus).validate_python({**section.model_dump(), "rename": {"a": "b", "b": "a"}})
    assert renamed.rename == {"a": "b", "b": "a"}
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Corpus).validate_python({**section.model_dump(), "rename": rename})


def test_watched_directory(section, tmp_path):
    """A corpus of found recordings names the directory it reads; only the synthetic one has none."""
    watched = section.watched(tmp_path)
    assert section.synthetic == (section.adapter == "demo")
    assert (watched is None) == section.synthetic
    assert watched is None or all(
        item.audio.is_relative_to(watched) for item in read(section, tmp_path) if isinstance(item, Utterance)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "foldr",
            f"unknown corpus adapter 'foldr': did you mean 'folder'\\? known are {KNOWN}",
        ),
        ("xyz", f"unknown corpus adapter 'xyz': known are {KNOWN}"),
    ],
)
def test_unknown_adapter_lists_the_known_ones(name, message):
    """A wrong name is answered with the known ones, and with the nearest if one is near, from params too."""
    with pytest.raises(ValueError, match=message):
        adapter(name)
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Corpus).validate_python({"adapter": name})


def test_section_without_an_adapter_lists_the_known_ones():
    """A section that forgets its adapter is told which there are."""
    with pytest.raises(ValidationError, match=f"no `adapter`: expected one of {KNOWN}"):
        TypeAdapter(Corpus).validate_python({"root": "recordings"})


def test_reading_params_imports_nothing_heavy():
    """The sections of all corpora can be had without what reads them, and without a table or a model."""
    heavy = {"pandas", "scipy", "soundfile", "torch"}
    code = f"import sys, strata.pipeline.study.params; print(*{heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
