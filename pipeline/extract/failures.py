"""Utterances that a view cannot take: listed with their reasons in features/<view>.failures.csv."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.files import failure_table, write_if_changed
from pipeline.study import Study


@dataclass(frozen=True)
class Failure:
    """Why one utterance cannot be used."""

    reason: str
    lasting: bool = False
    """Whether it lies in the recording and the model, so that trying again would be in vain."""


@dataclass
class Failures:
    """The table; lasting failures are remembered, so that the same model skips them."""

    path: Path
    model: str
    """Identity of the extractor: another one may succeed."""
    rows: dict[str, Mapping] = field(default_factory=dict)
    """By content."""

    @classmethod
    def read(cls, study: Study, view: str, fingerprint: Mapping, contents: set[str]) -> "Failures":
        """Those of an earlier run that still concern the corpus and the model."""
        identity = json.dumps(fingerprint, sort_keys=True).encode()
        failures = cls(study.extract_failures(view), hashlib.blake2b(identity, digest_size=8).hexdigest())
        if failures.path.exists():
            for row in csv.DictReader(io.StringIO(failures.path.read_text(encoding="utf-8"))):
                if row["content"] in contents and row["model"] == failures.model:
                    failures.rows[row["content"]] = row
        return failures

    def add(self, utterance: str, audio: str, content: str, failure: Failure) -> None:
        """Lists one more."""
        model = self.model if failure.lasting else ""
        named = {"utterance": utterance, "audio": audio, "content": content}
        self.rows[content] = named | {"model": model, "reason": failure.reason}

    def write(self) -> None:
        """Puts the table in place, if it has changed."""
        write_if_changed(self.path, failure_table(self.rows.values(), extra=("content", "model")))
