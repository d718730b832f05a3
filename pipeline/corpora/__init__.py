"""Corpora: where the recordings come from, one adapter per file.

    for item in adapter(section.adapter).utterances(section, folder):
        ...  # an Utterance, or a Problem to be listed

To add an adapter, write a module with a section model and a generator `utterances(section, folder)`, and name both
below. `contract.py` says what it promises. Nothing here decodes audio or knows the manifest.
"""

from types import ModuleType
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from strata.pipeline.corpora import (
    baved,
    crema_d,
    demo,
    emo_db,
    folder,
    iemocap,
    prompts,
    speech_commands,
    timit,
    voxceleb1,
)
from strata.pipeline.corpora.contract import CorpusError, CorpusSection, Problem, Utterance
from strata.pipeline.errors import nearest

__all__ = ["ADAPTERS", "Corpus", "CorpusError", "CorpusSection", "Problem", "Utterance", "adapter"]

ADAPTERS: dict[str, ModuleType] = {
    "baved": baved,
    "crema-d": crema_d,
    "demo": demo,
    "emo-db": emo_db,
    "folder": folder,
    "iemocap": iemocap,
    "prompts": prompts,
    "speech-commands": speech_commands,
    "timit": timit,
    "voxceleb1": voxceleb1,
}
"""Module of each adapter, by the name that `params.yaml` calls it."""


def adapter(name: str) -> ModuleType:
    """The module that reads corpora of this kind with `utterances(section, folder) -> Iterator[Utterance | Problem]`.

    Raises:
        ValueError: there is no adapter of this name.
    """
    if name in ADAPTERS:
        return ADAPTERS[name]
    close = nearest(name, ADAPTERS)
    hint = f"did you mean {close!r}? " if close else ""
    raise ValueError(f"unknown corpus adapter {name!r}: {hint}known are {', '.join(sorted(ADAPTERS))}")


def _names_a_known_adapter(section: Any) -> Any:
    # Pydantic's own words for a wrong tag speak of tags and unions, and suggest nothing.
    if isinstance(section, dict):
        if "adapter" not in section:
            raise ValueError(f"no `adapter`: expected one of {', '.join(sorted(ADAPTERS))}")
        adapter(str(section["adapter"]))
    return section


Corpus = Annotated[
    baved.Baved
    | crema_d.CremaD
    | demo.Demo
    | emo_db.EmoDB
    | folder.Folder
    | iemocap.Iemocap
    | prompts.Prompts
    | speech_commands.SpeechCommands
    | timit.Timit
    | voxceleb1.VoxCeleb1,
    Field(discriminator="adapter"),
    BeforeValidator(_names_a_known_adapter),
]
"""Type of one section under `corpora` in `params.yaml`."""
