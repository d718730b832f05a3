"""One dialect: what DVC reads in a YAML file is what Strata reads in it."""

import ast

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.pipeline.study import yaml12
from tests.imports import ROOT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3e1", 30.0),
        ("1e-4", 1e-4),
        ("1.5E+3", 1500.0),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("y", "y"),
        ("true", True),
        ("010", 10),
        ("0o10", 8),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("~", None),
        ('"3e1"', "3e1"),
        ("[no, 2e0]", ["no", 2.0]),
    ],
)
def test_a_scalar_is_what_it_is_in_yaml_1_2(written, meant):
    """Of the dialects' differences the dangerous ones: numbers that were texts, and words that were truth values."""
    found = yaml12.load(f"key: {written}")["key"]
    assert found == meant
    assert type(found) is type(meant)
    assert parse_yaml(f"key: {written}", "x") == {"key": meant}


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("views:\n  mfcc: {family: mfcc}\n  wavlm: {}\n  mfcc: {}\n", 4, "mfcc"),
        ("views: {a: 1,\n  b: 2, 'a': 3}", 2, "a"),
        ("tasks: {}\n# again\ntasks:\n  age: {}\n", 3, "tasks"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(text, line, key):
    """Wherever it stands: DVC refuses the file too, and nobody's second thought wins in silence."""
    with pytest.raises(yaml12.NotYAML, match=rf"^line {line}: the key '{key}' stands twice"):
        yaml12.load(text)
    with pytest.raises(YAMLFileCorruptedError):
        parse_yaml(text, "x")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1\nb: 2",
        "a: \0",
        "a: *b",
        "a: !!python/name:os.system",
        "a: 2020-13-45",
        "a: 1\n---\nb: 2",
        "a:\n\t- 1",
        "a: !!bool x",
        "a: !!int ''",
    ],
)
def test_what_is_no_yaml_is_one_line(text):
    """Whatever is wrong with it."""
    with pytest.raises(yaml12.NotYAML) as error:
        yaml12.load(text)
    assert "\n" not in str(error.value)


def test_anchors_and_merges_are_those_of_dvc():
    """A merged mapping gives way to the keys beside it; an anchor that is used twice is a mistake for both."""
    text = "base: &base {epochs: 3, rate: 1e-3}\none: {<<: *base, epochs: 5}\ntwo: *base\n"
    assert yaml12.load(text) == parse_yaml(text, "x")
    assert yaml12.load(text)["one"] == {"epochs": 5, "rate": 1e-3}


LOOKALIKES = ["no", "3e1", "0o10", "1_0", "2020-01-01", "~", "", "= ", "<<", "null", "1e5", "y", "010", "- a", ":0"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"])) | st.sampled_from(LOOKALIKES)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True),
        st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
        max_size=5,
    ),
    st.booleans(),
)
def test_what_is_written_is_read_again_by_both(value, flow):
    """Texts that look like numbers, dates or truth values stay texts, on one line or on many."""
    text = yaml12.dump(value, flow)
    assert yaml12.load(text) == value
    assert parse_yaml(text, "x") == value
    assert not flow or text.count("\n") == 1


def test_nothing_else_reads_or_writes_yaml():
    """But what SpeechBrain wrote, in a dialect of its own."""
    own = {"pipeline/study/yaml12.py", "extractors/speechbrain_yaml.py"}
    for package in ("extractors", "store", "trainers", "pipeline", "recipes", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            name = file.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(file.read_text())):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if name not in own:
                    assert not {"yaml", "ruamel.yaml", "hyperpyyaml"} & set(modules), name
