"""Stores under DVC as users pass them on: append, go back, push, clone, pull one view, be killed half-way."""

import copy
import hashlib
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from strata import extractors
from strata.pipeline.study.folder import Study
from strata.store import FeatureStore, Journal
from strata.store.blocks import Rows

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def commit(study):
    study.process("git", "add", "--all")
    study.process("git", "commit", "--quiet", "--message", "features")
    return study


def clone(study, name="elsewhere"):
    """The study on another box: what git has and nothing of DVC's."""
    study.process("git", "clone", "--quiet", ".", f"../{name}")
    other = copy.copy(study)
    other.folder = study.folder.with_name(name)
    assert not path(other).exists()
    assert not (other.folder / ".dvc" / "cache").exists()
    return other


def path(study, view="mfcc") -> Path:
    return Study(study.folder / "params.yaml").store(view)


def values(study, view="mfcc") -> dict[str, np.ndarray]:
    """All rows of a store, which must be sound."""
    store = FeatureStore.open(path(study, view))
    assert store.verify() == []
    return dict(zip(store.keys, store.pooled(), strict=True))


def holds(store: dict, rows: dict) -> bool:
    """Whether a store has these rows with these very values."""
    return all(key in store and np.array_equal(store[key], row) for key, row in rows.items())


def computed(said: str) -> dict[str, int]:
    """Utterances computed per view, from what the runs said."""
    return {view: int(count) for view, count in re.findall(r"^(\w+): computed (\d+) utterances", said, re.MULTILINE)}


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def assert_cache_is_whole(study) -> None:
    """DVC trusts its cache's file names; here they are held to the contents."""
    cached = [file for file in (study.folder / ".dvc/cache/files/md5").rglob("*") if file.is_file()]
    assert cached
    for file in cached:
        name = (file.parent.name + file.name).removesuffix(".dir")
        assert hashlib.md5(file.read_bytes()).hexdigest() == name, file


@pytest.mark.slow
def test_every_revision_can_be_brought_back_and_appended_to(shelved):
    """An append keeps old rows and computes the new ones; neither going back nor a second branch harms the first."""
    old = values(shelved)
    assert len(old) == 24
    shelved.add(7)
    assert computed(shelved.process("dvc", "repro", "extract")) == {"mfcc": 7, "few": 7}
    new = values(shelved)
    assert len(new) == 31
    assert holds(new, old)
    commit(shelved).process("git", "branch", "newer")

    shelved.process("git", "checkout", "--quiet", "-b", "side", "HEAD~1")
    shelved.process("dvc", "checkout", "extract")
    assert values(shelved).keys() == old.keys()
    assert holds(values(shelved), old)
    shelved.add(5)
    assert computed(shelved.process("dvc", "repro", "extract")) == {"mfcc": 12, "few": 12}
    assert len(values(shelved)) == 36
    commit(shelved)

    shelved.process("git", "checkout", "--quiet", "newer")
    shelved.process("dvc", "checkout", "extract")
    assert values(shelved).keys() == new.keys()
    assert holds(values(shelved), new)
    assert_cache_is_whole(shelved)


def test_one_pulled_view_is_appended_to_elsewhere(shelved):
    """A clone that pulls one view computes the new rows of that view; the other stops, and stops no other."""
    old = values(shelved)
    box = clone(shelved)
    box.process("dvc", "pull", "extract@mfcc")
    assert holds(values(box), old)
    box.add(11)
    said = box.process("dvc", "repro", "--keep-going", "extract", check=False)
    assert computed(said) == {"mfcc": 11}
    assert "features/few.zarr is listed in dvc.lock but is not here: run `dvc pull` first" in said
    assert len(values(box)) == 35
    assert holds(values(box), old)

    line = box.fails("extract")  # both views: one is up to date, the other absent
    assert line.startswith("strata: view few:")
    assert "run `dvc pull` first" in line
    assert not path(box, "few").exists()

    box.process("dvc", "push", "extract@mfcc")
    commit(box)
    shelved.process("git", "pull", "--quiet", "../elsewhere", "HEAD")
    shelved.process("dvc", "pull", "extract")
    assert holds(values(shelved), values(box))


def test_a_clone_without_its_stores_computes_nothing(shelved):
    """`strata extract` and `dvc repro extract` both say what to do, until it is done."""
    box = clone(shelved)
    assert "`dvc pull`" in box.fails("extract")  # there is no manifest either
    said = box.process("dvc", "repro", "--keep-going", "extract", check=False)
    assert said.count("run `dvc pull` first") == 2
    assert computed(said) == {}
    assert box.fails("extract").count("run `dvc pull` first") == 2
    assert files(box.folder / "features") == {".gitkeep"}

    box.params["views"]["other"] = {"family": "mfcc", "num_coefficients": 7}  # new here: no remote has it
    box.write_params()
    box.process("dvc", "pull", "--allow-missing")
    assert computed(box.process("dvc", "repro", "extract")) == {"other": 24}


def empty(store: Path) -> None:
    for file in files(store):
        (store / file).unlink()


def killed_while_checking_out(store: Path) -> None:
    """DVC puts files in place in the order of their names: of some blocks it had the keys and not yet the values."""
    for file in sorted(files(store))[-2:]:
        (store / file).unlink()
    (store / "pooled" / ".l1nk1ng.tmp").touch()


def without_keys(store: Path) -> None:
    for file in files(store / "key" / "c"):
        (store / "key" / "c" / file).unlink()


def test_a_store_that_is_half_here_is_neither_computed_anew_nor_committed(shelved):
    """What a killed `dvc pull` leaves is left as it is, until pulling again, or training, brings the rest."""
    before = values(shelved)
    box = clone(shelved)
    box.process("dvc", "pull", "--allow-missing")
    for spoil in (empty, killed_while_checking_out, without_keys):
        spoil(path(box))
        left = files(path(box))
        assert "run `dvc pull` first" in box.fails("extract", "mfcc")
        assert files(path(box)) == left
        box.process("dvc", "pull", "extract@mfcc")
        assert holds(values(box), before)

    without_keys(path(box))
    assert "dvc pull" in box.succeeds("train", "one")
    assert holds(values(box), before)

    lock = (box.folder / "dvc.lock").read_text()
    killed_while_checking_out(path(box))
    box.add(3)
    said = box.process("dvc", "repro", "extract@mfcc", check=False)
    assert "run `dvc pull` first" in said
    assert computed(said) == {}
    listed = lock[lock.index("extract@mfcc") : lock.index("extract@few")]
    assert listed in (box.folder / "dvc.lock").read_text()


KILLER = """
import os, signal, sys

if "extract" in sys.argv:
    from strata.store import FeatureStore

    commit = FeatureStore.commit

    def commit_and_die(store, *arguments, **options):
        commit(store, *arguments, **options)
        if len(store) >= 29:
            os.killpg(0, signal.SIGKILL)

    FeatureStore.commit = commit_and_die
"""


def test_a_killed_repro_goes_on_behind_the_last_block(shelved):
    """SIGKILL for DVC and the stage while rows are appended: what was committed stays and is not computed again, nor is
    what waits in the journal, which DVC sees nothing of."""
    shelved.params["views"]["slow"] = {"family": "mfcc", "num_coefficients": 7}
    shelved.write_params()
    extractor = extractors.load(shelved.params["views"]["slow"], folder=shelved.folder)
    FeatureStore.create(
        path(shelved, "slow"),
        fingerprint=extractor.fingerprint,
        layer_names=extractor.layer_names,
        dim=extractor.dim,
        frame_rate_hz=extractor.frame_rate_hz,
        block_rows=1,
    )
    command = ["dvc", "repro", "extract@slow"]
    shelved.process(*command)
    old = values(shelved, "slow")
    shelved.add(53)

    hooks = shelved.folder.parent / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(KILLER)
    code = str(Path(extractors.__file__).parents[1])
    environment = shelved.environment | {"PYTHONPATH": os.pathsep.join([str(hooks), code])}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.run(command, cwd=shelved.folder, env=environment, start_new_session=True, **quiet)
    assert run.returncode == -signal.SIGKILL
    kept = values(shelved, "slow")
    assert 29 <= len(kept) < 77
    assert holds(kept, old)

    store = FeatureStore.open(path(shelved, "slow"))
    journal = Journal(store.storage, store.header)
    waiting = store.missing(Study(shelved.folder / "params.yaml").read_manifest()["content"].tolist())[:3]
    made_up = np.ones((3, *store.pooled().shape[1:]), np.float32)
    journal.add(Rows(waiting, made_up, np.ones(3, np.int32), {}))
    assert "journal" not in shelved.process("dvc", "status", "--json", "train@one")
    assert computed(shelved.process(*command)) == {"slow": 77 - len(kept) - 3}
    assert holds(values(shelved, "slow"), kept)
    np.testing.assert_array_equal(FeatureStore.open(path(shelved, "slow")).pooled(waiting), made_up)
    assert not Path(journal.place).exists()
    assert "up to date" in shelved.succeeds("extract", "slow")


@pytest.mark.slow
def test_rows_that_dvc_does_not_know_are_lost_to_an_experiment_in_the_workspace(shelved):
    """As the README warns: `dvc exp run` begins with what dvc.lock lists. `--temp` and `dvc commit` spare the rows."""
    # `--temp` runs in another folder, where a relative root leads nowhere.
    shelved.params["corpora"]["tones"]["root"] = str(shelved.recordings)
    shelved.write_params()
    shelved.process("dvc", "repro", "extract@mfcc")
    commit(shelved)
    run = ["dvc", "exp", "run", "extract@mfcc"]

    def extract_more(count: int) -> dict:
        shelved.add(count).succeeds("corpus")
        assert computed(shelved.succeeds("extract", "mfcc")) == {"mfcc": count}
        return values(shelved)

    before = extract_more(3)
    assert computed(shelved.process(*run, "--temp")) == {"mfcc": 3}
    assert holds(values(shelved), before)
    assert computed(shelved.process(*run)) == {"mfcc": 3}  # the same three once more

    before = extract_more(5)
    shelved.process("dvc", "commit", "--force", "extract@mfcc")
    assert computed(shelved.process(*run)) == {}
    assert holds(values(shelved), before)


def test_a_shard_that_was_lost_here_is_damage_not_a_half_pulled_store(shelved):
    """Its rows are computed anew, and once more where another one goes before DVC has seen the repair."""
    shelved.add(100).process("dvc", "repro", "extract@mfcc")
    before = values(shelved)
    for _ in range(2):
        shards = sorted(path(shelved).glob("pooled/c/*/0/0"))
        shards[-1].unlink()
        assert "new of 124 utterances" in shelved.succeeds("extract", "mfcc")
        assert holds(values(shelved), before)
        assert "up to date" in shelved.succeeds("extract", "mfcc")


@pytest.mark.parametrize("rounds", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_boxes_go_on_round_after_round(shelved, rounds):
    """The commands of the README, literally, again and again: the one adds recordings, the other trains on them."""
    gpu = shelved
    gpu.process("git", "init", "--quiet", "--bare", "../origin")
    gpu.process("git", "remote", "add", "origin", "../origin")
    gpu.process("git", "push", "--quiet", "--set-upstream", "origin", "HEAD")
    gpu.process("git", "clone", "--quiet", "../origin", "../cpu")
    cpu = copy.copy(gpu)
    cpu.folder = gpu.folder.with_name("cpu")
    lines = [line for line in README.splitlines() if line.startswith(("gpu$", "cpu$"))]
    assert len(lines) == 5
    for number in range(1, rounds + 1):
        gpu.add(3)
        for line in lines:
            box, command = (gpu if line[:3] == "gpu" else cpu), line[4:].replace(" extract@wavlm extract@xvector", "")
            if box is cpu:  # there are no recordings
                gpu.recordings.rename(gpu.recordings.with_name("away"))
            said = box.process("bash", "-c", command.replace("corpus", "corpus extract@mfcc"))
            if box is cpu:
                gpu.recordings.with_name("away").rename(gpu.recordings)
            if "repro" in command:
                assert computed(said) == ({"mfcc": 3, "few": 3} if box is gpu else {})
        assert len(values(cpu)) == 24 + 3 * number
        assert not path(cpu, "few").exists()
        assert cpu.metrics("one")["provenance"]["views"]["mfcc"]["rows"] == 24 + 3 * number
