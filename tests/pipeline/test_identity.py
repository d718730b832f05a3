"""What a result follows from, and which manifest it names."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from strata.pipeline.stages import identity


@pytest.fixture
def result(tmp_path):
    """A study's manifest, and a result that was made before the manifest got its present rows."""
    study = SimpleNamespace(manifest=tmp_path / "manifest.parquet")
    study.manifest.write_bytes(b"today's rows")
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"cell": "c311", "provenance": {"manifest": "yesterday's", "code": "1"}, "tasks": {}}))
    return study, file


def test_a_result_that_is_up_to_date_names_the_manifest_of_today(result):
    """It follows from it as well, so nothing may say that it was made from another state."""
    study, file = result
    assert identity.up_to_date(study, file, "c311")
    found = json.loads(file.read_text())
    today = hashlib.blake2b(b"today's rows", digest_size=16).hexdigest()
    assert found == {"cell": "c311", "provenance": {"manifest": today, "code": "1"}, "tasks": {}}


def test_a_result_of_something_else_keeps_what_it_names(result):
    """And is not up to date; nor is one that cannot be read."""
    study, file = result
    before = file.read_text()
    assert not identity.up_to_date(study, file, "other")
    assert file.read_text() == before
    file.write_text("{")
    assert not identity.up_to_date(study, file, "c311")
    assert not identity.up_to_date(study, file.with_name("absent.json"), "c311")
