"""What went into a study and what it took: corpora, failures, timings, provenance.

Every number of a report leads back from here to the audio, the weights, the parameters and the code. Knows no scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strata.pipeline.progress import counted
from strata.pipeline.report.collect import Findings
from strata.pipeline.results.eliminations import EliminationResult
from strata.pipeline.results.experiments import ExperimentResult
from strata.pipeline.results.extractions import IN_FLOAT32, ExtractionResult
from strata.pipeline.results.reading import mapping
from strata.pipeline.results.searches import SearchResult
from strata.pipeline.show.tables import Cell, Column, Table, duration, is_number, number, size
from strata.pipeline.study import yaml12
from strata.pipeline.study.manifest import corpus_of

MOST_FAILURES = 200
"""Rows of a failures file that the page repeats; the file holds the rest."""


@dataclass(frozen=True)
class Dossier:
    """Where the numbers of one result come from."""

    name: str
    facts: tuple[tuple[str, str], ...]
    config: str
    """Its section of `params.yaml`, as YAML."""


def corpora(study: Findings) -> Table:
    """One row per corpus: how much there is, and how much of it each task can learn from."""
    manifest = study.manifest
    labels = {task: study.label(task) for task in study.params["tasks"]}
    labels = {task: label for task, label in labels.items() if label in manifest.columns}
    rows = []
    for corpus, part in manifest.groupby(corpus_of(manifest), sort=True):
        rows.append(
            (
                Cell(str(corpus)),
                Cell(str(len(part))),
                _took(float(part["duration_s"].sum())),
                Cell(str(part["speaker"].nunique())),
                Cell(f"{part['duration_s'].min():.1f}–{part['duration_s'].max():.1f}"),
                *(Cell(str(int(part[label].notna().sum()))) for label in labels.values()),
            )
        )
    columns = ("utterances", "audio", "speakers", "seconds each")
    return Table(
        "Corpora",
        (
            Column("corpus"),
            *(Column(title, numeric=True) for title in columns),
            *(Column(task, "labelled", numeric=True) for task in labels),
        ),
        tuple(rows),
    )


def failures(study: Findings) -> list[Table]:
    """One table for each failures file that has rows."""
    tables = []
    for name, rows in study.failures.items():
        shown = rows.head(MOST_FAILURES)
        rest = len(rows) - len(shown)
        tables.append(
            Table(
                f"{len(rows)} left out ({name})",
                (Column("utterance"), Column("audio"), Column("reason")),
                tuple(tuple(map(Cell, row)) for row in shown.itertuples(index=False)),
                notes=(f"{rest} more in {name}.",) if rest else (),
            )
        )
    return tables


def timings(study: Findings) -> list[Table]:
    """What extraction and training took."""
    tables = []
    if study.extractions:
        tables.append(
            Table(
                "The last extraction of each view that computed something",
                (
                    Column("view"),
                    *(Column(title, numeric=True) for title in ("utterances", "audio", "took", "× real time")),
                    *(Column(title, numeric=True) for title in ("rows written", "size", "failed")),
                ),
                tuple((Cell(view), *_extraction(found)) for view, found in study.extractions.items()),
            )
        )
    trained = [_trained(name, members) for name, members in _sections(study.experiments).items()]
    trained += [(Cell(e.name), Cell("eliminate"), _took(e.seconds)) for e in study.eliminations]
    trained += [(Cell(s.name), Cell("tune"), _took(s.seconds)) for s in study.searches]
    trained += [(Cell(d.name), Cell("downstream"), _took(d.seconds.get("total"))) for d in study.downstream]
    if trained:
        columns = (Column("name"), Column("stage"), Column("took", numeric=True))
        tables.append(Table("Training", columns, tuple(trained)))
    return tables


def _sections(experiments: Sequence[ExperimentResult]) -> dict[str, list[ExperimentResult]]:
    """The experiments by section of `params.yaml`: one each, or all cells of a grid."""
    sections: dict[str, list[ExperimentResult]] = {}
    for experiment in experiments:
        sections.setdefault(experiment.section, []).append(experiment)
    return sections


def _trained(name: str, members: Sequence[ExperimentResult]) -> tuple[Cell, ...]:
    seconds = [e.seconds.get("total") for e in members if is_number(e.seconds.get("total"))]
    stage = f"train, {counted(len(members), 'cell')}" if members[0].is_cell else "train"
    return Cell(name), Cell(stage), _took(sum(seconds) if seconds else None)


def _took(seconds: Any) -> Cell:
    return Cell(duration(seconds), value=seconds if is_number(seconds) else None)


def _extraction(found: ExtractionResult) -> list[Cell]:
    audio_s, seconds = found.audio_s, found.seconds
    speed = audio_s / seconds if is_number(audio_s) and is_number(seconds) and seconds > 0 else None
    return [
        Cell(number(found.utterances, 0)),
        _took(audio_s),
        _took(seconds),
        Cell(number(speed, 1)),
        Cell(number(found.rows, 0)),
        Cell(size(found.bytes), value=found.bytes if is_number(found.bytes) else None),
        Cell(number(found.failures, 0)),
    ]


def dossiers(study: Findings) -> list[Dossier]:
    """The provenance of every section that was run, as recorded then; cells of a grid tell theirs together."""
    found = []
    for name, members in _sections(study.experiments).items():
        facts = dict.fromkeys(fact for member in members for fact in _facts(member))
        config = members[0].config if not members[0].is_cell else mapping(study.params["experiments"].get(name))
        found.append(Dossier(name, tuple(facts), as_yaml(config)))
    others = (*study.eliminations, *study.searches, *study.downstream)
    return found + [Dossier(other.name, tuple(_facts(other)), as_yaml(other.config)) for other in others]


def _facts(result: ExperimentResult | EliminationResult | SearchResult) -> list[tuple[str, str]]:
    """What one result was made from."""
    recorded = result.provenance
    facts = [("code", _word(recorded.get("code"))), ("manifest", _word(recorded.get("manifest")))]
    for view, about in mapping(recorded.get("views")).items():
        about = mapping(about)
        facts.append((f"view {view}: layers read", ", ".join(map(str, result.layers.get(view, ())))))
        facts.append((f"view {view}: rows", _word(about.get("rows"))))
        if modules := about.get(IN_FLOAT32):
            facts.append((f"view {view}: modules computed in float32", ", ".join(map(str, modules))))
        facts += [(f"view {view}: {key}", _word(value)) for key, value in mapping(about.get("fingerprint")).items()]
    return facts + [
        (f"version of {name}", _word(version)) for name, version in mapping(recorded.get("versions")).items()
    ]


def disagreements(study: Findings) -> list[str]:
    """Views whose values were not the same for all results that used them, and manifests likewise."""
    seen: dict[str, set[str]] = {}
    for result in study.results:
        for view, about in mapping(result.provenance.get("views")).items():
            fingerprint = mapping(about).get("fingerprint")
            seen.setdefault(f"view {view}", set()).add(json.dumps(fingerprint, sort_keys=True, default=str))
        seen.setdefault("the manifest", set()).add(str(result.provenance.get("manifest")))
    return [
        f"Not all results were made from the same state of {what}." for what, states in seen.items() if len(states) > 1
    ]


def as_yaml(value: Mapping) -> str:
    """A mapping as the YAML that a user would write."""
    plain = json.loads(json.dumps(value, default=str))
    return yaml12.dump(plain) if plain else ""


def _word(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
