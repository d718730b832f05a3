"""`strata store export` and `import`, as a user calls them."""

import shutil

import pytest

from strata.pipeline import cli
from strata.store import FeatureStore


@pytest.fixture
def exported(study):
    """The path of a store, and of its export beside it."""
    study.succeeds("corpus")
    study.succeeds("extract", "mfcc")
    path = study.folder / "features/mfcc.zarr"
    assert f"{path.with_suffix('.h5')}: 24 rows, " in study.succeeds("store", "export", str(path))
    return path, path.with_suffix(".h5")


def test_an_export_is_carried_to_another_machine(study, exported):
    """One line of what was done; the extraction there finds everything computed."""
    path, file = exported
    before = FeatureStore.open(path)
    keys, values = before.keys, before.pooled()
    carried = file.rename(study.folder / "carried.h5")
    shutil.rmtree(path)
    said = study.succeeds("store", "import", str(path), str(carried))
    assert f"{path}: 24 rows, 24 of them new from {carried}" in said
    after = FeatureStore.open(path)
    assert after.keys == keys
    assert after.pooled().tobytes() == values.tobytes()
    assert "mfcc: up to date (24 of 24 utterances)" in study.succeeds("extract", "mfcc")
    assert "24 rows, all of them as they were written" in study.succeeds("store", "verify", str(path))


def test_importing_twice_adds_nothing(study, exported):
    """And says so; the file's default name is the export's."""
    assert "24 rows, 0 of them new" in study.succeeds("store", "import", str(exported[0]))


def test_what_cannot_be_done_is_one_line(study, exported):
    """With the next step."""
    path, file = exported
    assert "is there already: remove it, or name another file" in study.fails("store", "export", str(path))
    unknown, extractable = (str(path.with_name(f"{name}.zarr")) for name in ("mfc", "wavlm"))
    for action in ("info", "verify", "export"):
        line = study.fails("store", action, unknown)
        assert f"no store at {unknown}, did you mean 'mfcc.zarr'?; there are mfcc.zarr" in line
        assert "run `strata extract wavlm` first" in study.fails("store", action, extractable)
    assert "no file" in study.fails("store", "import", str(path.with_name("mfc.zarr")))
    assert "expected the path of a store such as" in study.fails("store", "export", str(file))
    assert "expected the path of a store such as" in study.fails("store", "import", str(file), str(file))
    file.write_bytes(file.read_bytes()[:-500])
    assert "truncated file" in study.fails("store", "import", str(path.with_name("new.zarr")), str(file))
    assert not path.with_name("new.zarr").exists()


def test_of_a_link_that_is_dropped_what_it_leads_to_stays(study, exported):
    """And is told: it may be another study's too. A link that leads nowhere goes as well."""
    path, _ = exported
    elsewhere = path.rename(study.folder / "elsewhere.zarr")
    path.symlink_to(elsewhere)
    said = study.succeeds("store", "drop", str(path))
    assert f"{path} is a link: what it leads to, {elsewhere}, stays where it is" in said
    assert not path.is_symlink()
    assert len(FeatureStore.open(elsewhere)) == 24
    path.symlink_to(study.folder / "nowhere")
    assert "a link" not in study.succeeds("store", "drop", str(path))
    assert not path.is_symlink()


@pytest.mark.parametrize("action", ["info", "verify", "export", "import", "drop"])
def test_every_action_has_help_with_an_example(action, capsys):
    """Its own."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["store", action, "--help"])
    assert stop.value.code == 0
    assert f"example: strata store {action} features/wavlm.zarr" in capsys.readouterr().out
