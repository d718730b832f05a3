"""What a result follows from, and which manifest it names."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from strata.pipeline.stages import identity

CONFIG = {"views": ["mfcc"], "new": "does nothing"}


@pytest.fixture
def result(tmp_path):
    """A study's manifest, and a result that was made before the manifest got its present rows, and sections a key."""
    study = SimpleNamespace(manifest=tmp_path / "manifest.parquet")
    study.manifest.write_bytes(b"today's rows")
    file = tmp_path / "metrics.json"
    provenance = {"manifest": "yesterday's", "code": "1"}
    file.write_text(json.dumps({"cell": "c311", "provenance": provenance, "config": {"views": ["mfcc"]}, "tasks": {}}))
    return study, file


def test_a_result_that_is_up_to_date_names_the_manifest_and_the_section_of_today(result):
    """It follows from them as well, so nothing may say that it was made from another state."""
    study, file = result
    assert identity.up_to_date(study, file, "c311", CONFIG)
    found = json.loads(file.read_text())
    today = hashlib.blake2b(b"today's rows", digest_size=16).hexdigest()
    provenance = {"manifest": today, "code": "1"}
    assert found == {"cell": "c311", "provenance": provenance, "config": CONFIG, "tasks": {}}
    before = file.stat().st_mtime_ns
    assert identity.up_to_date(study, file, "c311", CONFIG)
    assert file.stat().st_mtime_ns == before


def test_a_result_of_something_else_keeps_what_it_names(result):
    """And is not up to date; nor is one that cannot be read."""
    study, file = result
    before = file.read_text()
    assert not identity.up_to_date(study, file, "other", CONFIG)
    assert file.read_text() == before
    file.write_text("{")
    assert not identity.up_to_date(study, file, "c311", CONFIG)
    assert not identity.up_to_date(study, file.with_name("absent.json"), "c311", CONFIG)
