"""params.yaml: every knob, checked as a whole before anything expensive begins.

Each section's model lives with the code that reads it; here they are put together and their cross-references checked.
An unknown key is an error that suggests the nearest known one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from strata.extractors.links import dangling
from strata.extractors.recogniser import RecogniserSection
from strata.extractors.view import FAMILIES, View, fields
from strata.pipeline.corpora import Corpus
from strata.pipeline.errors import StageError, suggestion
from strata.pipeline.study import yaml12
from strata.trainers.search import grid
from strata.trainers.search.space import Space
from strata.trainers.search.unused import DECIDING, refuse_unused
from strata.trainers.spec import Downstream, Elimination, Embed, Experiment, Section, Task, Tune, Verification

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
"""Names become file names."""
_STAGE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
StageName = Annotated[str, StringConstraints(pattern=_STAGE_NAME)]
"""Names of what has a DVC stage each, which depends on the section `views.<name>`: DVC takes a dot for nesting."""

Names = Annotated[
    list[str], Field(min_length=1), BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
"""One name, or a list of them."""

RESERVED = ("downstream", "eliminate", "embed", "extract", "tune")
"""Folders of `results/` that are not experiments."""


class ParamsError(StageError):
    """A params.yaml that cannot be used as it is."""


class ExtractStage(Section):
    """How `strata extract` runs; none of it changes a value."""

    device: str = "auto"
    workers: int = Field(1, ge=1)
    """Processes on this machine, each with a device of its own where there are several; 1 is this process itself."""
    scheduler: str | None = Field(None, pattern=r"^[a-z]+://")
    """Address of a running Dask scheduler, `tcp://host:8786`, whose workers compute instead."""
    max_failed: float = Field(0.05, ge=0, le=1)
    """Share of utterances that a view cannot take past which the stage fails."""
    batch_s: float | None = Field(None, gt=0)
    """Seconds of audio per batch, padding included; chosen by device where not given."""


class TrainStage(Section):
    """How models are trained; none of it changes what a result follows from, though a GPU rounds otherwise."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """A GPU where there is one, unless said otherwise."""
    workers: int | None = Field(None, ge=1)
    """Models that are trained side by side; where not given, one for every core that this process may use; on
    a GPU one."""
    scheduler: str | None = Field(None, pattern=r"^[a-z]+://")
    """Address of a running Dask scheduler, `tcp://host:8786`, whose workers train instead."""


class TSNE(Section):
    """Pictures of raw vectors: one for every view named, coloured by every label named."""

    view: Names
    """One view, several, or `all` of them."""
    label: Names
    layer: str | int | None = None

    @property
    def named_views(self) -> list[str]:
        """The views that are named one by one."""
        return [] if self.view == ["all"] else self.view


class ReportStage(Section):
    """What `strata report` shows beyond the tables."""

    tsne: list[TSNE] = []


def _which_downstream(section: object) -> str:
    return "verification" if isinstance(section, Verification | Mapping) and "verify" in dict(section) else "heads"


DownstreamSection = Annotated[
    Annotated[Downstream, Tag("heads")] | Annotated[Verification, Tag("verification")],
    Discriminator(_which_downstream),
]
"""One entry of `downstream`."""


class Params(Section):
    """The whole of params.yaml."""

    corpora: dict[Name, Corpus] = Field(min_length=1)
    transcribe: dict[Name, RecogniserSection] = {}
    """Recognisers, whose texts are the column `transcript_<name>` of the manifest's rows."""
    views: dict[StageName, View] = {}
    tasks: dict[Name, Task] = {}
    experiments: dict[StageName, Experiment] = {}
    eliminate: dict[StageName, Elimination] = {}
    tune: dict[StageName, Tune] = {}
    embed: dict[StageName, Embed] = {}
    downstream: dict[StageName, DownstreamSection] = {}
    extract: ExtractStage = ExtractStage()
    train: TrainStage = TrainStage()
    report: ReportStage = ReportStage()

    @model_validator(mode="after")
    def _names_exist(self):
        uses = [
            (f"experiments.{name}", cell.corpora, cell.views, cell.tasks)
            for name in self.experiments
            for cell in self.cells(name).values()
        ]
        uses += [(f"eliminate.{name}", e.corpora, [e.view], e.tasks) for name, e in self.eliminate.items()]
        uses += [(f"transcribe.{name}", r.corpora, [], []) for name, r in self.transcribe.items()]
        uses += [(f"tasks.{name}", task.corpora, [], []) for name, task in self.tasks.items()]
        uses += [(f"embed.{name}", e.corpora, [], []) for name, e in self.embed.items()]
        for where, corpora, views, tasks in uses:
            _require(where, "corpus", corpora, self.corpora)
            _require(where, "view", views, self.views)
            _require(where, "task", tasks, self.tasks)
        for name, tune in self.tune.items():
            _require(f"tune.{name}", "experiment", [tune.experiment], self.experiments)
            space = self.space(name)
            _require(f"tune.{name}", "view", space.views, self.views)
            try:
                space.refuse_unread()
            except ValueError as error:
                raise ValueError(f"tune.{name}: {error}") from None
        for name, embed in self.embed.items():
            # Of a grid one cell: whether there is such a cell shows when its model is looked for.
            section, _, cell = embed.experiment.partition("/")
            _require(f"embed.{name}", "experiment", [section], self.experiments)
            found = self.cells(section).get(cell)
            if found is not None and found.encoder != "unified":
                raise ValueError(
                    f"embed.{name}: expected an experiment with an embedding, found {embed.experiment} with the "
                    f"encoder {found.encoder}; name one with encoder: unified"
                )
        for name, section in self.downstream.items():
            # Its corpora and tasks may be yet to come: what is lacking is skipped, with a line.
            _require(f"downstream.{name}", "embed", section.views, self.embed)
            _require(f"downstream.{name}", "task", getattr(section, "tasks", []), self.tasks)
        for picture in self.report.tsne:
            _require("report.tsne", "view", picture.named_views, self.views)
        for name, section in self.experiments.items():
            searches = [search for search, tune in self.tune.items() if tune.experiment == name]
            trials = (trial for search in searches for trial in self.space(search).variants(DECIDING))
            self._refuse_unused(f"experiments.{name}", section, self.cells(name).values(), trials)
        for name, section in self.downstream.items():
            if isinstance(section, Experiment):
                self._refuse_unused(f"downstream.{name}", section, [section])
        for name in RESERVED:
            if name in self.experiments:
                raise ValueError(f"experiments.{name}: this name is reserved; choose another")
        return self

    @staticmethod
    def _refuse_unused(
        where: str, section: Experiment, cells: Iterable[Experiment], trials: Iterable[Experiment] = ()
    ) -> None:
        try:
            refuse_unused(section, cells, trials)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def cells(self, name: str) -> dict[str, Experiment]:
        """The experiments that one section stands for, by the folder of each below `results/<name>`.

        Raises:
            ValueError: a grid that cannot be.
        """
        try:
            return grid.cells(self.experiments[name], list(self.corpora))
        except ValueError as error:
            raise ValueError(f"experiments.{name}: {error}") from None

    def space(self, name: str) -> Space:
        """What one search may try: see trainers.search.space.

        Raises:
            ValueError: a space that cannot be.
        """
        tune = self.tune[name]
        try:
            return Space(tune, self.experiments[tune.experiment])
        except ValueError as error:
            raise ValueError(f"tune.{name}: {error}") from None


def load(path: Path) -> Params:
    """Reads and checks a params file.

    Raises:
        ParamsError: no such file, not YAML, or not as it must be; the message has one line per mistake.
    """
    return parse(read(path), path)


def read(path: Path) -> object:
    """What a params file says, as DVC reads it (`pipeline.study.yaml12`), unchecked.

    Raises:
        ParamsError: no such file, or not YAML.
    """
    try:
        return yaml12.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if lost := dangling(path):
            raise ParamsError(f"{path} is {lost}") from None
        raise ParamsError(
            f"no {path}: call it in a study's folder or below it (`strata init FOLDER` makes one), or give the file "
            "with --params"
        ) from None
    except (yaml12.NotYAML, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def parse(content: object, path: Path | str = "params.yaml") -> Params:
    """Checks the content of a params file; `path` is only for messages."""
    if not isinstance(content, Mapping):
        raise ParamsError(f"{path}: expected sections such as corpora and views, found {type(content).__name__}")
    content = {name: section for name, section in content.items() if section is not None}  # `eliminate:` is empty
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        # A union reports every alternative that did not fit; the first is the one that says most.
        mistakes = {}
        for item in error.errors():
            mistakes.setdefault(_where(item["loc"], content), _what(item))
        raise ParamsError("; ".join(f"{path}: {w + ': ' if w else ''}{m}" for w, m in mistakes.items())) from None


def _require(where: str, what: str, names: list[str], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(
                f"{where}: unknown {what} {name!r}{suggestion(name, known)}; known: {', '.join(known) or 'none'}"
            )


def _where(location: tuple, content: object) -> str:
    """The path of a mistake as the user wrote it, without the names of alternatives that pydantic puts in between."""
    path = []
    for part in location[:-1]:
        if (isinstance(content, Mapping) and part in content) or (isinstance(content, list) and isinstance(part, int)):
            path.append(str(part))
            content = content[part]
    last = location[-1] if location else ""
    is_family = len(location) == 3 and location[0] == "views" and last in FAMILIES  # said of a view as a whole
    if is_family or (isinstance(last, str) and ("[" in last or "(" in last)):  # the name of an alternative
        last = ""
    return ".".join([*path, *([str(last)] if last != "" else [])])


def _what(item: Mapping) -> str:
    if item["type"] == "extra_forbidden":
        section, key = item["loc"][0], item["loc"][-1]
        if section == "views" and len(item["loc"]) == 4:
            known = fields(family := item["loc"][2])
            return f"unknown key{suggestion(str(key), known)}; family {family} knows {', '.join(known)}"
        return "unknown key" + suggestion(str(key), _known_keys(section) - {key})
    if item["type"] == "union_tag_invalid":
        key, tag = item["ctx"]["discriminator"].strip("'"), item["ctx"]["tag"]
        known = [name.strip("'") for name in item["ctx"]["expected_tags"].split(", ")]
        return f"unknown {key} {tag!r}{suggestion(tag, known)}; known: {', '.join(known)}"
    if (pattern := item.get("ctx", {}).get("pattern")) in (_NAME, _STAGE_NAME):
        dots = ", dots" if pattern == _NAME else ""
        return f"expected a name of letters, digits{dots}, dashes and underlines, found {item['input']!r}"
    if item["type"] in _EXPECTED:
        return f"expected {_EXPECTED[item['type']]}, found {item['input']!r}"
    if item["type"] == "literal_error":
        known = item["ctx"]["expected"]
        close = suggestion(str(item["input"]), re.findall("'([^']*)'", known))
        return f"expected {known}, found {item['input']!r}{close}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] in ("missing", "value_error"):
        return "is missing" if item["type"] == "missing" else message
    return f"{message[0].lower()}{message[1:]}, found {item['input']!r}"


_EXPECTED = {
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list, in brackets",
    "list_type": "a list, in brackets",
    "dict_type": "a mapping of names to sections",
}
"""What pydantic says in words of its own."""


def _known_keys(section: str) -> set[str]:
    field = Params.model_fields.get(section)
    return set(_keys(field.annotation)) if field else set(Params.model_fields)


def _keys(annotation) -> Iterator[str]:
    """Names of all fields of the models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield name
            yield from _keys(field.annotation)
    elif get_origin(annotation) in (Union, Annotated, dict, list) or get_args(annotation):
        for part in get_args(annotation):
            yield from _keys(part)
