"""What makes results anew and what does not: code that is tidied up, numbers of parts that are raised."""

import ast
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

import strata.trainers
from strata.pipeline.stages.cells import Cell
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Sources
from strata.trainers import revisions

TRAINERS = Path(strata.trainers.__path__[0])
STAGES = ("train", "eliminate", "tune", "embed", "downstream")


@pytest.fixture(scope="module")
def whole(new_study, silence, tmp_path_factory):
    """A study with a result of every stage that trains, all of it on MFCCs."""
    study = new_study(tmp_path_factory.mktemp("whole") / "study", silence).add(24)
    study.rows = [f"{row},{'test' if i % 3 == 0 else 'train'}" for i, row in enumerate(study.rows)]
    (study.recordings / "metadata.csv").write_text("\n".join(["file_name,speaker,pitch,split", *study.rows]) + "\n")
    shared = {"folds": {"given": "split", "validation": 0.25}, "epochs": 2}
    mfcc = shared | {"views": ["mfcc"], "tasks": ["speaker"]}
    study.params |= {
        "views": {"mfcc": {"family": "mfcc"}},
        "experiments": {
            "probe": mfcc | {"encoder": "linear"},
            "convolutions": mfcc | {"grid": {"encoder": ["cnn"]}},
            "one": mfcc | {"encoder": "unified", "layers": "all", "shared": 5, "embedding": 7},
        },
        "eliminate": {"mfcc": shared | {"view": "mfcc", "tasks": ["speaker"]}},
        "tune": {"rates": {"experiment": "probe", "space": {"batch_size": [8, 16]}, "trials": 2, "search": "random"}},
        "embed": {"unified": {"experiment": "one"}},
        "downstream": {
            "pitch": shared | {"views": ["unified"], "tasks": ["pitch"]},
            "same": {"views": ["unified"], "verify": "speaker", "folds": shared["folds"]},
        },
    }
    study.write_params()
    for stage in ("corpus", "extract", *STAGES):
        study.succeeds(stage)
    return study


def written(study) -> dict[str, int]:
    """When each file of a result or an embedding was written."""
    files = [path for folder in ("results", "embeddings") for path in (study.folder / folder).rglob("*")]
    return {str(path): path.stat().st_mtime_ns for path in files if path.is_file() and path.suffix != ".lock"}


def tidied(code: Path) -> None:
    """Comments, docstrings, names of private functions, and a file more: what changes no value."""
    files = sorted(code.rglob("*.py"))
    words = Counter(word for file in files for word in set(re.findall(r"\w+", file.read_text())))
    for file in files:
        text = file.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("_") and words[node.name] == 1:
                text = re.sub(rf"\b{node.name}\b", f"{node.name}_by_another_name", text)
        file.write_text(text.replace('"""', '"""Tidied up. ', 1) + "\n# A comment.\n")
    (code / "new_system.py").write_text('"""Nothing that anybody uses yet."""\n\nREVISION = 7\n')


def copied(code: Path, to: Path) -> Path:
    """The trainers in a folder `to` that goes before what is installed, beside the packages as they are."""
    (to / "strata").mkdir()
    for package in code.parent.iterdir():
        if package.is_dir() and package.name != "trainers":
            (to / "strata" / package.name).symlink_to(package.resolve())
    return shutil.copytree(code, to / "strata" / "trainers", ignore=shutil.ignore_patterns("__pycache__"))


def test_tidying_up_the_trainers_retrains_nothing(whole, tmp_path):
    """A comment, a docstring, a renamed function and a new file: every stage is up to date, and no file is touched."""
    here = copied(TRAINERS, tmp_path)
    tidied(here)
    assert "_by_another_name" in "".join(file.read_text() for file in here.rglob("*.py"))
    before = written(whole)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from strata import trainers
from strata.pipeline.cli import main
print("trainers of", trainers.__path__)
for stage in {STAGES}:
    main([stage])
"""
    said = whole.process(sys.executable, "-c", code)
    assert f"trainers of ['{here}" in said
    names = "probe: up to date|convolutions: 1 cell up to date|one: up to date|mfcc: up to date|rates: up to date|"
    names += "unified: up to date|downstream/pitch: up to date|downstream/same: up to date"
    for line in names.split("|"):
        assert line in said, said
    assert written(whole) == before


def test_a_raised_number_retrains_what_uses_the_part(whole, tmp_path, capsys, monkeypatch):
    """And nothing else: convolutions are nobody's business who has none."""
    study = whole.copied(tmp_path / "copy", capsys)
    monkeypatch.setitem(revisions.REVISIONS, "encoder cnn", 2)
    said = study.succeeds("train")
    assert "probe: up to date" in said
    assert "one: up to date" in said
    assert "convolutions: 1 of 1 cell to train" in said
    assert "convolutions: 1 cell up to date" in study.succeeds("train")
    for part, stage in (("importance weights", "eliminate"), ("search random", "tune"), ("plda", "downstream")):
        before = written(study)
        monkeypatch.setitem(revisions.REVISIONS, part, 2)
        for each in STAGES:
            study.succeeds(each)
        after = written(study)
        again = {Path(path).relative_to(study.folder).parts[1] for path in after if after[path] != before.get(path)}
        assert again == {stage}, part


def test_an_identity_changes_with_the_numbers_of_its_own_parts_alone(whole, monkeypatch):
    """Of every experiment, with the number of every part."""
    study = Study(whole.folder / "params.yaml")
    sources = Sources(study)

    def identities() -> dict[str, tuple[str, set[str]]]:
        found = {}
        for name in study.params.experiments:
            for title, experiment in study.params.cells(name).items():
                cell = Cell.of(sources, f"{name}/{title}", {}, experiment)
                found[cell.title] = cell.identity, set(revisions.of(experiment, cell.tasks))
        return found

    before = identities()
    assert len({identity for identity, _ in before.values()}) == 3
    for part in revisions.REVISIONS:
        with monkeypatch.context() as patch:
            patch.setitem(revisions.REVISIONS, part, 2)
            after = identities()
        for title, (identity, parts) in before.items():
            assert (after[title][0] != identity) == (part in parts), (title, part)
