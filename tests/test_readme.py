"""The README says what is so."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from strata.extractors import miniatures
from strata.extractors.view import parse as parse_view
from strata.pipeline import cli
from strata.pipeline.commands.init import recipes
from strata.pipeline.corpora import ADAPTERS, Corpus
from strata.pipeline.study import yaml12
from strata.pipeline.study.params import parse
from strata.store import FeatureStore

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
COMMANDS = set(re.findall(r"\bstrata ([a-z]+)", TEXT))
MAKE = set(re.findall(r"\bmake ([a-z]+)", TEXT)) - {"every"}


def test_its_two_commands_are_demo_and_test():
    """And CI runs them."""
    shown = [line for block in re.findall(r"```console\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    assert shown[:2] == ["$ make demo", "$ make test"]
    ci = (ROOT / ".ci/run").read_text()
    assert all(f"\nmake {target}\n" in ci for target in ("demo", "test", "lint"))


@pytest.mark.parametrize("target", sorted(MAKE))
def test_every_make_target_it_names_is_there(target):
    """In the Makefile."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_it_names_has_help_with_an_example(command, capsys):
    """And there is none that it leaves out."""
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: strata {command}" in " ".join(capsys.readouterr().out.split())
    assert set(cli.COMMANDS) == COMMANDS


def test_its_example_parameters_are_valid():
    """Every key of them."""
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S):
        parse(yaml12.load(block))


def test_its_tables_name_the_packages_recipes_and_files_that_exist():
    """The tree as a table."""
    packages = set(re.findall(r"^\| `(\w+)/`", TEXT, re.M))
    assert packages == {file.parent.name for file in ROOT.glob("*/__init__.py")} | {"tests"}
    assert f"a recipe: {', '.join(recipes())}" in TEXT
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_it_says_that_the_demo_is_synthetic_and_its_weights_random():
    """Beside the numbers."""
    before_table = TEXT[: TEXT.index("Scores out of fold")]
    assert "**synthetic**" in before_table
    assert "**miniatures with random weights**" in before_table


def test_its_demo_table_is_of_the_experiments_in_params():
    """Setups, views and encoders, in order."""
    params = parse(yaml12.load((ROOT / "params.yaml").read_text()))
    wanted = [(e.setup, " + ".join(e.views), e.encoder) for e in params.experiments.values()]
    shown = re.findall(r"^(SVST|SVMT|MVMT-concat|TANGO) +(\S+(?: \+ \S+)?) +(\w+) +\d", TEXT, re.M)
    assert shown == wanted


def test_its_table_of_views_can_be_written_into_params():
    """Each section is a view that the code knows; an ellipsis stands for the family above it."""
    sections = re.findall(r"^\| [^|]+ \| `(\{family[^`]+\}|… [^`]+)`", TEXT, re.M)
    assert len(sections) >= 15
    for section in sections:
        written = section if section.startswith("{") else f"{{family: transformers, {section.removeprefix('… ')}}}"
        parse_view(yaml12.load(written))


def test_its_table_of_corpora_is_what_the_adapters_read(tmp_path):
    """Each row's example is a recording of that corpus, with the labels that the row names, from where it says."""
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w/-]+\.(?:wav|WAV))`[^|]* \| ([^|]+) \| \[[^]]+\]\(([^)]+)\)", TEXT, re.M)
    assert {row[0] for row in rows} == set(ADAPTERS) - {"demo", "folder", "prompts"}
    for name, example, labels, source in rows:
        (tmp_path / name / example).parent.mkdir(parents=True)
        (tmp_path / name / example).touch()
        section = TypeAdapter(Corpus).validate_python({"adapter": name, "root": name})
        (item,) = ADAPTERS[name].utterances(section, tmp_path)
        assert set(item.labels) == {"speaker", *re.findall(r"`(\w+)`", labels)}
        assert f"`{item.labels['speaker']}`" in TEXT
        assert source == ADAPTERS[name].SOURCE


def test_it_names_every_miniature():
    """And no other."""
    sentence = re.search(r"`source: \"miniature:(\w+)\"`((?:, ?\n?`[\w-]+`)+)", TEXT)
    named = {sentence[1], *re.findall(r"`([\w-]+)`", sentence[2])}
    assert named == {*miniatures.TRANSFORMERS, *miniatures.TEXT, *miniatures.SPEECHBRAIN, *miniatures.TFHUB}


@pytest.mark.parametrize("dim", [768, 1024])
def test_its_code_runs_on_stores_of_published_widths(dim, tmp_path, monkeypatch):
    """Every block of Python, as it stands, in a study whose store is as wide as a published model."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert blocks
    keys = [f"{row:032x}" for row in range(5)]
    (tmp_path / "data").mkdir()
    pd.DataFrame({"content": keys}).to_parquet(tmp_path / "data/manifest.parquet")
    layers = [str(layer) for layer in range(13)]
    store = FeatureStore.create(
        tmp_path / "features/wavlm.zarr", fingerprint={}, layer_names=layers, dim=dim, frame_layers=["12"]
    )
    rng = np.random.default_rng(dim)
    pooled = rng.normal(size=(5, 13, dim)).astype(np.float32)
    frames = [rng.normal(size=(n, dim)).astype(np.float32) for n in (1, 2, 3, 5, 7)]
    store.append(keys, pooled, [1, 2, 3, 5, 7], {"12": frames})
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        scope, said = {}, {}
        for line in block.splitlines():
            if line.startswith("store."):  # what is looked at, and must be what was put in
                said[line.split("(")[0]] = eval(line, scope)
            else:
                exec(line, scope)
        np.testing.assert_array_equal(said["store.pooled"], pooled[:, [7, 8]])
        np.testing.assert_array_equal(said["store.dask"].compute(scheduler="synchronous"), pooled)
        np.testing.assert_array_equal(said["store.zarr"][store.row_numbers(keys)], pooled)
        for found, expected in zip(said["store.frames"], frames, strict=True):
            np.testing.assert_array_equal(found, expected)
