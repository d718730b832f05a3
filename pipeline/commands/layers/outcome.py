"""What an elimination found, as results/eliminate/<name>/elimination.json has it, and the view that it was found of.

Read by `commands.layers` and what it calls. Knows no model and no store.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strata.extractors.miniatures import PREFIX
from strata.extractors.sources import LOCAL_DIRECTORY
from strata.extractors.view import View, parse
from strata.pipeline.errors import StageError
from strata.pipeline.results.eliminations import known_spreads
from strata.pipeline.show.names import layer_height
from strata.pipeline.study.folder import Study

FILE = "elimination.json"


@dataclass(frozen=True)
class EliminationOutcome:
    """The part of the file that matters here."""

    file: Path
    name: str
    view: str
    pooling: str
    layer_names: tuple[str, ...]
    """All layers that took part."""
    support: tuple[str, ...]
    """Those kept, in the order of the model."""
    ranking: Mapping[str, int]
    """1 for a layer that is kept, then upwards to the one that went first."""
    best_round: int
    """From 1, which is the round of all layers."""
    rounds: tuple[Mapping, ...]
    """As in the file; spreads of a single value left out."""
    nested: Mapping
    """Scores on test data of what was chosen without them, fold by fold; empty where there are none."""
    fingerprint: Mapping[str, object]
    """Of the store that the layers were read from."""
    chosen_on_all: bool
    """Whether the choice was made on all utterances, for want of a split that the corpus gives."""

    @classmethod
    def read(cls, results: Path) -> "EliminationOutcome":
        """That of a folder of results, or of the file in it.

        Raises:
            StageError: there is none, or it cannot be read.
        """
        file = results if results.suffix == ".json" else results / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            spreads = known_spreads(content)
            outcome = cls(
                file=file,
                name=content["name"],
                view=content["view"],
                pooling=content["pooling"],
                layer_names=tuple(content["layer_names"]),
                support=tuple(sorted(content["support"], key=layer_height)),
                ranking=dict(content["ranking"]),
                best_round=int(content["best_round"]),
                rounds=tuple(_without(found, spreads) for found in content["rounds"]),
                nested=_without((content.get("nested") or {}).get("test") or {}, ("sd",) * ("test_sd" in spreads)),
                fingerprint=dict(content["provenance"]["views"][content["view"]]["fingerprint"]),
                chosen_on_all=not content.get("config", {}).get("folds", {}).get("given"),
            )
            outcome._check()
        except (FileNotFoundError, NotADirectoryError):
            raise StageError(
                f"no {file}: expected the results of an elimination, such as results/eliminate/wavlm; "
                "`strata eliminate` makes them"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise StageError(f"{file} cannot be read ({_reason(error)}); run `strata eliminate` again") from error
        return outcome

    def _check(self) -> None:
        """Raises one of the errors of a file that cannot be read where something does not fit together."""
        if not self.support or not {*self.support} <= {*self.layer_names} <= {*self.ranking}:
            raise ValueError(f"it keeps {list(self.support)} of {list(self.layer_names)}")
        if not 1 <= self.best_round <= len(self.rounds):
            raise ValueError(f"best_round {self.best_round} of {len(self.rounds)}")
        for found in (self.best, self.all_layers):
            float(found["valid"]["mean"])

    @property
    def all_layers(self) -> Mapping:
        """The first round."""
        return self.rounds[0]

    @property
    def best(self) -> Mapping:
        """The chosen round."""
        return self.rounds[self.best_round - 1]

    @property
    def highest(self) -> str:
        """The highest layer kept, after which the model can be cut."""
        return self.support[-1]

    @property
    def is_cut(self) -> bool:
        """Whether a layer above all those kept goes."""
        return layer_height(self.highest) < max(map(layer_height, self.layer_names))

    @property
    def dropped(self) -> list[str]:
        """The layers that go, the first one first."""
        gone = [layer for layer in self.layer_names if layer not in self.support]
        return sorted(gone, key=lambda layer: -self.ranking[layer])


def section_of(study: Study, outcome: EliminationOutcome) -> View:
    """The view's section of params, once it is known to be that of the model whose layers were eliminated.

    Raises:
        StageError: params.yaml has no such view, or one of another model, or one without layers to choose from.
    """
    views = study.params.views
    if outcome.view not in views:
        raise StageError(
            f"{study.params_file} has no views.{outcome.view}, which {outcome.file} is about; "
            f"it has {', '.join(views) or 'none'}"
        )
    section = views[outcome.view]
    if "layers" not in type(section).model_fields:
        raise StageError(
            f"views.{outcome.view}: expected a family whose model can be cut after a layer (transformers, text), "
            f"found {section.family}, which gives one layer; there is nothing to leave out"
        )
    was = (outcome.fingerprint.get("family"), outcome.fingerprint.get("source"))
    is_folder = was[1] == LOCAL_DIRECTORY and not section.source.startswith(PREFIX)
    if section.family != was[0] or not (section.source == was[1] or is_folder):
        raise StageError(
            f"views.{outcome.view} of {study.params_file} is another view than {outcome.file} was made from: found "
            f"{section.family}, {section.source}, expected {was[0]}, {was[1]}; run `strata extract {outcome.view}` and "
            f"`strata eliminate {outcome.name}`"
        )
    return section


def with_layers(section: View, layers: Sequence[str], **changes: object) -> View:
    """The view's section with these layers, as a list."""
    numbers = [int(layer) if layer.isdecimal() else layer for layer in layers]
    return parse({**section.model_dump(mode="json"), "layers": numbers, **changes})


def _without(found: Mapping, spreads: Sequence[str]) -> dict:
    """The entries of a mapping without the spreads that are not among those."""
    return {key: value for key, value in found.items() if key in spreads or not key.endswith("sd")}


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
