"""What the corpora whose labels stand in their file names have in common."""

import os
import shutil

import pytest

from strata.pipeline.corpora import CorpusError, Problem, Utterance, adapter

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:5f\nsize 73004\n"


def read(section, folder):
    """The names of the utterances, and the reason of each problem by its name."""
    items = list(adapter(section.adapter).utterances(section, folder))
    names = [item.name for item in items if isinstance(item, Utterance)]
    return names, {item.name: item.reason for item in items if isinstance(item, Problem)}


def recordings(section):
    """The paths of its recordings, the one with the unknown code last."""
    good = {"crema-d": "1001_DFA_ANG_XX", "baved": "25-m-19-0-2-126", "emo-db": "03a01Fa"}[section.adapter]
    return next(section.root.rglob(f"{good}.wav"))


def test_names_do_not_depend_on_the_folders(tree, tmp_path):
    """A copy with all recordings in one folder, or deeper down, has the same ones; their folder may be the root."""
    before, _ = read(tree, tmp_path)
    flat = tmp_path / "copy" / "a" / "b"
    flat.mkdir(parents=True)
    for path in tree.root.rglob("[0-9]*.wav"):
        shutil.copy(path, flat)
    for root in (tmp_path / "copy", flat):
        assert read(tree.model_copy(update={"root": root}), tmp_path)[0] == before
    assert before == sorted(before)


def test_hidden_files_are_passed_over(tree, tmp_path):
    """What macOS and notebooks leave behind is neither an utterance nor a problem; nor are files that are no audio."""
    before = read(tree, tmp_path)
    (tree.root / ".ipynb_checkpoints").mkdir()
    shutil.copy(recordings(tree), tree.root / ".ipynb_checkpoints" / "copy.wav")
    (tree.root / "labels.xls").write_bytes(b"")
    assert read(tree, tmp_path) == before
    assert not any("/." in name or name.startswith(".") for name in before[1])


def test_a_name_that_does_not_fit_is_listed(tree, tmp_path):
    """A foreign recording is a problem with its path and the form that names should have."""
    shutil.copy(recordings(tree), tree.root / "noise.wav")
    names, problems = read(tree, tmp_path)
    assert problems["noise.wav"].startswith("not named <")
    assert len(problems) == 2
    assert names == read(tree, tmp_path)[0]


def test_the_same_recording_twice(tree, tmp_path, capsys):
    """In one format: the second is listed. In another: the one without loss counts, and a line says so."""
    good = recordings(tree)
    before, _ = read(tree, tmp_path)
    (tree.root / "again").mkdir()
    shutil.copy(good, tree.root / "again" / good.name)
    shutil.copy(good, tree.root / "again" / f"{good.stem}.MP3")
    names, problems = read(tree, tmp_path)
    assert names == before
    (again,) = [path for path, reason in problems.items() if "the same recording as" in reason]
    assert {again, problems[again].split()[4].rstrip(",")} == {
        f"again/{good.name}",
        good.relative_to(tree.root).as_posix(),
    }
    assert f"left out 1 that are there in another format too: again/{good.stem}.MP3" in capsys.readouterr().err


def test_a_recording_in_another_format_alone(tree, tmp_path):
    """A converted copy is read like the original."""
    good = recordings(tree)
    before, _ = read(tree, tmp_path)
    good.rename(good.with_suffix(".flac"))
    assert read(tree, tmp_path)[0] == before


def test_links_that_lead_outside(tree, tmp_path):
    """A linked file or folder outside the root is a problem, and read with the option."""
    good = recordings(tree)
    names, _ = read(tree, tmp_path)
    shared = tmp_path / "shared"
    (shared / "folder").mkdir(parents=True)
    for path in sorted(tree.root.rglob("[0-9]*.wav")):
        if path != good:
            path.rename(shared / "folder" / path.name)
    other = shared / "folder" / f"{names[names[0] == good.stem]}.wav"
    (tree.root / other.name).symlink_to(other.rename(shared / other.name))
    (tree.root / "linked").symlink_to(shared / "folder")
    found, problems = read(tree, tmp_path)
    assert found == [good.stem]
    for name, target in {other.name: shared / other.name, "linked": shared / "folder"}.items():
        assert problems[name] == (
            f"a link leads outside the folder, to {target}; it is followed where absolute_paths is true"
        )
    assert read(tree.model_copy(update={"absolute_paths": True}), tmp_path)[0] == names


def test_links_that_stay_inside(tree, tmp_path):
    """A link back to a folder above, or to one that is listed anyway, changes nothing; the root may be one itself."""
    before = read(tree, tmp_path)
    (tree.root / "loop").symlink_to(tree.root)
    (tree.root / "zz").symlink_to(recordings(tree).parent)
    (tmp_path / "root").symlink_to(tree.root)
    assert read(tree.model_copy(update={"root": tmp_path / "root"}), tmp_path) == before


def test_a_link_that_leads_nowhere_and_a_folder_that_cannot_be_listed(tree, tmp_path, monkeypatch):
    """Both are problems, and the rest is read."""
    good = recordings(tree)
    names, _ = read(tree, tmp_path)
    (tree.root / "gone").mkdir()
    (tree.root / "gone" / good.name).symlink_to("nowhere.wav")
    good.rename(tree.root / f"{good.stem}.wav")
    (tree.root / "locked").mkdir()
    listed = os.listdir

    def listdir(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    found, problems = read(tree, tmp_path)
    assert found == names
    assert problems["locked"] == "cannot be listed: Permission denied"
    assert "the same recording as" in problems[f"gone/{good.name}"]
    (tree.root / good.name).unlink()
    found, problems = read(tree, tmp_path)
    assert found == [name for name in names if name != good.stem]
    assert "a link that leads nowhere" in problems[f"gone/{good.name}"]


def test_names_that_are_no_text(tree, tmp_path):
    """A path in another encoding is listed with its bytes written out, and nothing that is handed on breaks a table."""
    names, _ = read(tree, tmp_path)
    folder = os.fsencode(tree.root) + b"/caf\xe9"
    os.mkdir(folder)
    good = recordings(tree)
    os.rename(good, folder + b"/" + os.fsencode(good.name))
    shutil.copy(next(tree.root.rglob("[0-9]*.wav")), folder + b"/na\xefve.wav")
    found, problems = read(tree, tmp_path)
    assert found == [name for name in names if name != good.stem]
    assert "its path is not UTF-8" in problems[f"caf\\xe9/{good.name}"]
    assert problems["caf\\xe9/na\\xefve.wav"].startswith("not named <")
    for item in adapter(tree.adapter).utterances(tree, tmp_path):
        f"{item.name} {item.audio}".encode()


def test_a_pointer_of_git_lfs(tree, tmp_path):
    """A checkout without its large files says how to get them, for one recording and for all of them."""
    recordings(tree).write_bytes(POINTER)
    _, problems = read(tree, tmp_path)
    assert "run `git lfs pull`" in problems[recordings(tree).relative_to(tree.root).as_posix()]
    for path in tree.root.rglob("[0-9]*.wav"):
        path.write_bytes(POINTER)
    with pytest.raises(CorpusError, match="run `git lfs pull`"):
        read(tree, tmp_path)


def test_nothing_usable(tree, tmp_path):
    """A missing folder, an empty one and one of another corpus are each told in one line with the next step."""
    root = tmp_path / "elsewhere"
    section = tree.model_copy(update={"root": root})
    with pytest.raises(CorpusError, match=r"no such folder: .*elsewhere; `root` is relative to"):
        read(section, tmp_path)
    root.mkdir()
    with pytest.raises(
        CorpusError, match=r"expected files such as .*\.wav, found 0 with .*; let `root` lead to a copy of"
    ):
        read(section, tmp_path)
    (root / "hello.wav").write_bytes(b"RIFF")
    with pytest.raises(CorpusError, match=r"found 1 with .*, the first hello\.wav \(not named <") as error:
        read(section, tmp_path)
    assert "\n" not in str(error.value)
