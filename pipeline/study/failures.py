"""Utterances that a model cannot take: listed with their reasons in features/<view>.failures.csv and the like."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strata.pipeline.errors import StageError
from strata.pipeline.files import failure_table, write_if_changed
from strata.pipeline.progress import say


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
    tag: Mapping[str, str] = field(default_factory=dict)
    """Further columns, which say whose failures these are in a table that several share."""
    others: list[Mapping] = field(default_factory=list)
    """Rows of the others, left as they are."""
    notes: list[Mapping] = field(default_factory=list)
    """Rows of what can be used and is listed all the same; found anew at every run."""

    @classmethod
    def read(
        cls, path: Path, fingerprint: Mapping, contents: set[str], tag: Mapping[str, str] | None = None
    ) -> "Failures":
        """Those of an earlier run that still concern the corpus and the model."""
        identity = json.dumps(fingerprint, sort_keys=True).encode()
        failures = cls(path, hashlib.blake2b(identity, digest_size=8).hexdigest(), tag=tag or {})
        if failures.path.exists():
            for row in csv.DictReader(io.StringIO(failures.path.read_text(encoding="utf-8"))):
                if any(row.get(key) != value for key, value in failures.tag.items()):
                    failures.others.append(row)
                elif row["content"] in contents and row["model"] == failures.model:
                    failures.rows[row["content"]] = row
        return failures

    def add(self, utterance: str, audio: str, content: str, failure: Failure) -> None:
        """Lists one more."""
        self.rows[content] = self._row(utterance, audio, content, failure)

    def note(self, utterance: str, audio: str, content: str, reason: str) -> None:
        """Lists what can be used, but should be looked at."""
        self.notes.append(self._row(utterance, audio, content, Failure(reason)))

    def _row(self, utterance: str, audio: str, content: str, failure: Failure) -> Mapping:
        model = self.model if failure.lasting else ""
        named = {"utterance": utterance, "audio": audio, "content": content}
        return named | {"model": model, "reason": failure.reason} | self.tag

    def write(self) -> None:
        """Puts the table in place, if it has changed."""
        rows = [*self.others, *self.rows.values(), *self.notes]
        write_if_changed(self.path, failure_table(rows, extra=("content", "model", *self.tag)))


def judge(failures: Failures, name: str, total: int, limit: float, what: str = "utterances") -> None:
    """Says how many of `total` utterances, or of what else there is, failed.

    Raises:
        StageError: a larger share than the limit did.
    """
    count = len(failures.rows)
    if count:
        say(f"{name}: {count} of {total} {what} cannot be used; {failures.path} lists them with reasons")
    if count > limit * total:
        raise StageError(
            f"{count} of {total} {what} failed, more than extract.max_failed ({limit:.0%}); "
            "mend the files, or raise the limit in params.yaml"
        )
