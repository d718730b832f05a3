"""A file of verification trials → pairs of utterances, as `trainers.evaluation.verification` takes them.

Reads the form of VoxCeleb's lists (`veri_test.txt`): a line per trial, `1` for one speaker or `0` for two, then two
utterances. An utterance is named by its id (`corpus/…`) or by its name within its corpus, each with or without the
extension of an audio file. Knows no speakers and no embeddings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from strata.pipeline.corpora.contract import AUDIO_SUFFIXES
from strata.pipeline.errors import StageError
from strata.pipeline.progress import say
from strata.pipeline.study.links import reachable

FORM = "`0|1 first second`"


def named(trials: Sequence[tuple[int, int, bool]], utterances: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Trials by the names of their utterances: as they are whatever order the utterances have."""
    return [(utterances[first], utterances[second], is_target) for first, second, is_target in trials]


def read(path: Path, utterances: Sequence[str]) -> list[tuple[int, int, bool]]:
    """The trials of a file, as places in `utterances`, and whether they are of one speaker.

    Trials with a name that none of the utterances has are left out; one line says how many.

    Args:
        path: the file.
        utterances: ids of those that can be compared.

    Raises:
        StageError: no such file, a line of another form, a name that two utterances have, or no trial that is left.
    """
    try:
        lines = reachable(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path} cannot be read as a list of trials ({error}); expected lines {FORM}") from error
    places = _places(utterances)
    trials, unknown, num_trials = [], {}, 0
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise StageError(f"{path}, line {number}: expected {FORM}, found {line.strip()[:80]!r}")
        num_trials += 1
        found = [places.get(name, places.get(_bare(name))) for name in fields[1:]]
        for name, place in zip(fields[1:], found, strict=True):
            if place is None:
                unknown.setdefault(name)
            elif len(place) > 1:
                which = " and ".join(utterances[each] for each in place[:2])
                raise StageError(f"{path}, line {number}: {name!r} may be {which}; write the id of the one meant")
        if None not in found:
            trials.append((found[0][0], found[1][0], fields[0] == "1"))
    if not trials:
        example = f"; {next(iter(unknown))!r} is none of {len(utterances)} such as {utterances[0]!r}" if unknown else ""
        raise StageError(f"{path}: none of its {num_trials} trials can be used{example}: expected lines {FORM}")
    if unknown:
        say(
            f"{path.name}: {num_trials - len(trials)} of {num_trials} trials are left out, which name "
            f"{len(unknown)} utterances that are not there, such as {next(iter(unknown))}"
        )
    return trials


def _places(utterances: Sequence[str]) -> Mapping[str, list[int]]:
    """Where the utterances of a name are; a whole id goes before a name within a corpus, and both before bare names."""
    places: dict[str, list[int]] = {utterance: [place] for place, utterance in enumerate(utterances)}
    within = [utterance.split("/", 1)[-1] for utterance in utterances]
    for names in (within, list(map(_bare, utterances)), list(map(_bare, within))):
        found: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            found.setdefault(name, []).append(place)
        places = found | places
    return places


def _bare(name: str) -> str:
    """A name without the extension of an audio file."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name
