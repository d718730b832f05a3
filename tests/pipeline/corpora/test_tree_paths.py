"""What the corpora whose recordings are known by their folders too have in common."""

import os
import shutil
from pathlib import Path

import pytest

from strata.pipeline.corpora import CorpusError, Problem, Utterance, adapter

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:5f\nsize 73004\n"
FIRST = {
    "speech-commands": "yes/004ae714_nohash_0.wav",
    "timit": "TRAIN/DR1/FCJF0/SA1.WAV",
    "voxceleb1": "vox1_dev_wav/wav/id10001/1zcIwhmdeo4/00001.wav",
}
"""One recording of each."""


def read(section, folder):
    """The files of the utterances by name, and the reason of each problem by its name."""
    items = list(adapter(section.adapter).utterances(section, folder))
    files = {item.name: item.audio for item in items if isinstance(item, Utterance)}
    return files, {item.name: item.reason for item in items if isinstance(item, Problem)}


@pytest.fixture
def first(deep):
    """The path of that recording."""
    return deep.root / FIRST[deep.adapter]


def test_names_do_not_depend_on_the_folders_around(deep, tmp_path):
    """A copy that lies deeper down, or under a link, has the same names; a root within it has those below."""
    before, problems = read(deep, tmp_path)
    shutil.copytree(deep.root, tmp_path / "copy" / "a" / "b")
    (tmp_path / "root").symlink_to(tmp_path / "copy")
    for root in (tmp_path / "copy", tmp_path / "root"):
        files, others = read(deep.model_copy(update={"root": root}), tmp_path)
        assert files.keys() == before.keys()
        assert others.keys() == {f"a/b/{name}" for name in problems}
    inner = deep.root / Path(FIRST[deep.adapter]).parent
    files, others = read(deep.model_copy(update={"root": inner}), tmp_path)
    assert len(files) == 1
    assert files.keys() < before.keys()
    assert not others
    assert list(before) == sorted(before)


def test_a_root_that_is_where_the_command_runs(deep, first, tmp_path, monkeypatch):
    """The folders that make up a name are found also when none of them is in the path."""
    name = {file: name for name, file in read(deep, tmp_path)[0].items()}[first]
    monkeypatch.chdir(first.parent)
    assert read(deep.model_copy(update={"root": Path(".")}), Path("."))[0] == {name: Path(first.name)}


def test_hidden_files_and_foreign_ones(deep, first, tmp_path):
    """What begins with a dot is passed over; a recording with a foreign name is listed with the form it should have."""
    before = read(deep, tmp_path)
    (deep.root / ".ipynb_checkpoints").mkdir()
    shutil.copy(first, deep.root / ".ipynb_checkpoints" / first.name)
    assert read(deep, tmp_path) == before
    shutil.copy(first, first.with_name("noise.wav"))
    files, problems = read(deep, tmp_path)
    assert files == before[0]
    (new,) = problems.keys() - before[1].keys()
    assert new.endswith("/noise.wav")
    assert problems[new].startswith("not named <")


def test_the_same_recording_twice(deep, first, tmp_path, capsys):
    """In one format: the second is listed. In another: the one without loss counts, and a line says so."""
    before, _ = read(deep, tmp_path)
    again = deep.root / "zz" / FIRST[deep.adapter]
    again.parent.mkdir(parents=True)
    shutil.copy(first, again)
    shutil.copy(first, first.with_suffix(".mp3"))
    files, problems = read(deep, tmp_path)
    assert files == before
    listed = problems[again.relative_to(deep.root).as_posix()]
    assert listed == f"the same recording as {FIRST[deep.adapter]}, which counts"
    assert f"in another format too: {Path(FIRST[deep.adapter]).with_suffix('.mp3')}" in capsys.readouterr().err


def test_links_pointers_and_files_that_are_not_there(deep, first, tmp_path):
    """Each is a problem for its own recording, and the others are read."""
    before, problems = read(deep, tmp_path)
    shared = first.rename(tmp_path / "shared.wav")
    first.symlink_to(shared)
    for prepare, reason in [
        (lambda: None, "a link leads outside the folder"),
        (shared.unlink, f"a link that leads nowhere, to {shared}; mend the link"),
        (lambda: (first.unlink(), first.write_bytes(POINTER)), "a pointer of Git LFS, not the recording"),
    ]:
        prepare()
        files, others = read(deep, tmp_path)
        assert len(files) == len(before) - 1
        assert others.keys() - problems.keys() == {FIRST[deep.adapter]}
        assert others[FIRST[deep.adapter]].startswith(reason)


def test_folders_whose_names_are_no_text(deep, first, tmp_path):
    """A recording in a folder that no table can name is listed, and its reason can be written."""
    folder = os.fsencode(first.parent.parent) + b"/caf\xe9"
    os.rename(first.parent, folder)
    _, problems = read(deep, tmp_path)
    (listed,) = [name for name in problems if name.endswith(first.name) and "caf\\xe9" in name]
    problems[listed].encode()


def test_tables_that_are_folders_or_bytes(deep, tmp_path):
    """No file beside the recordings stops a run, whatever it holds."""
    before, _ = read(deep, tmp_path)
    tables = [path for path in deep.root.rglob("[!.]*") if path.suffix.lower() in (".txt", ".csv", ".md")]
    assert len(tables) >= 3
    for path in tables:
        path.write_bytes(bytes(range(256)) * 7)
    assert read(deep, tmp_path)[0] == before
    for path in tables:
        path.unlink()
        path.symlink_to("nowhere")
    assert read(deep, tmp_path)[0] == before
    for path in tables:
        path.unlink()
        path.mkdir()
    assert read(deep, tmp_path)[0] == before


def test_nothing_usable(deep, tmp_path):
    """A missing folder and one of another corpus are each told in one line with the next step."""
    section = deep.model_copy(update={"root": tmp_path / "elsewhere"})
    with pytest.raises(CorpusError, match=r"no such folder: .*elsewhere; `root` is relative to"):
        read(section, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "hello.wav").write_bytes(b"RIFF")
    with pytest.raises(CorpusError, match=r"found 1 with .*, the first hello\.wav \(not named <") as error:
        read(section, tmp_path)
    assert "\n" not in str(error.value)
