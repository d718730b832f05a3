"""The frozen models that a trained head reads: from what its configuration says of its views, checked to be the same.

Reads the views' sections, layers and fingerprints in `model/config.json`; hands over [layers, dim] for every waveform,
the very values that a store would hold. A model is cut after the highest layer that is read, which changes none of
them: the fingerprint may then differ in `layers` and `frames`, and in nothing else. A family whose library wants a
process for itself gets one. Knows no head, no task and no file of audio.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from strata import extractors
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.miniatures import PREFIX
from strata.extractors.sources import LOCAL_DIRECTORY
from strata.extractors.view import LAST_HIDDEN_STATE, TextView, TransformersView, View, parse
from strata.pipeline.errors import StageError
from strata.pipeline.extraction.work import checked
from strata.pipeline.study import where
from strata.pipeline.study.failures import Failure
from strata.store import differences


class Upstream:
    """One view's model, cut to the layers that are read. Weights are loaded when it first computes."""

    def __init__(self, view: str, section: View, layers: Sequence[str], how: Mapping[str, object], stack: ExitStack):
        """Makes the extractor, here or where it runs.

        Args:
            view: its name.
            section: which model.
            layers: names of those that are read, in the order in which they are.
            how: `device`, `batch_s` and `folder`, see `extractors.load`.
            stack: closes what is opened here.

        Raises:
            StageError: the view cannot be loaded; see `ViewError`.
        """
        self._view, self._pool = view, None
        arguments = (_cut(section, layers), tuple(layers), dict(how))
        try:
            if section.family in extractors.OWN_PROCESS:
                self._pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
                self._elsewhere(_serve, arguments)
            else:
                self._model = _Model(*arguments)
            self.fingerprint: Mapping[str, object] = self._ask("fingerprint")
            """Of the cut model."""
            self.min_samples: int = self._ask("min_samples")
            """See `AudioExtractor.min_samples`."""
        except extractors.ViewError as error:
            raise StageError(f"view {view}: {error}") from error

    @property
    def batch_s(self) -> float:
        """Most seconds of audio in a batch; 0 where there are none. Loads the weights."""
        return self._ask("batch_s") or 0.0

    def __call__(
        self, waveforms: Sequence[Float32[np.ndarray, " _"]]
    ) -> list[Float32[np.ndarray, "layers dim"] | Failure]:
        """Of each waveform at 16 kHz that the model can take, or why there is none."""
        return self._ask("values", waveforms)

    def _ask(self, what: str, *arguments: object) -> object:
        return self._elsewhere(_answer, what, *arguments) if self._pool else self._model.answer(what, *arguments)

    def _elsewhere(self, function: Callable, *arguments: object) -> object:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise StageError(
                f"view {self._view}: the process that computes it has ended; too little memory? try a smaller --batch-s"
            ) from error


class _Model:
    """The extractor, with the rows of its layers that are read."""

    def __init__(self, section: View, layers: Sequence[str], how: Mapping[str, object]):
        self._extractor = extractors.load(section, **how)
        self._layers = layers

    def answer(self, what: str, *arguments: object) -> object:
        """A property of the extractor, or `values` of waveforms."""
        return self._values(*arguments) if what == "values" else getattr(self._extractor, what)

    def _values(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray | Failure]:
        if not waveforms:
            return []
        names, dtype = self._extractor.layer_names, self._extractor.fingerprint["compute_dtype"]
        rows = [names.index(layer) for layer in self._layers]
        try:
            found = [checked(states, dtype) for states in self._extractor.extract(waveforms, SAMPLING_RATE)]
            return [one if isinstance(one, Failure) else one.pooled[rows] for one in found]
        except MemoryError as error:
            if len(waveforms) == 1:
                return [Failure(str(error))]
        # Behind the exception, which keeps alive what memory ran out of with.
        middle = len(waveforms) // 2
        return self._values(waveforms[:middle]) + self._values(waveforms[middle:])


_served: list[_Model] = []
"""The one model of a process that has been started for it."""


def _serve(arguments: tuple) -> None:
    _served[:] = [_Model(*arguments)]


def _answer(what: str, *arguments: object) -> object:
    return _served[0].answer(what, *arguments)


def load(
    model: Path,
    config: Mapping[str, object],
    study: Path | None,
    device: str,
    batch_s: float | None,
    stack: ExitStack,
) -> dict[str, Upstream]:
    """The upstreams of a trained model's views, by name and in its order, each the one that it was trained on.

    Args:
        model: the model's folder.
        config: what its config.json says.
        study: where relative folders of checkpoints begin; None: in the study around the model, in that around
            this folder, or in this folder.
        device: see `extractors.load`.
        batch_s: see `extractors.load`.
        stack: closes what is opened here.

    Raises:
        StageError: a view reads texts, its checkpoint is not here, or it is another one than the model's.
    """
    try:
        names = config["experiment"]["views"]
        views = {name: parse(config["views"][name]) for name in names}
        layers = {name: tuple(config["layers"][name]) for name in names}
        recorded = {name: dict(config["provenance"]["views"][name]["fingerprint"]) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"{model / 'config.json'}: expected section, layers and fingerprint of every view, found none that can be "
            f"used ({type(error).__name__}: {error}); train it again"
        ) from error
    for name, section in views.items():
        if isinstance(section, TextView):
            raise StageError(
                f"{model} reads transcripts (view {name}, column {section.columns[0]}), which audio files do not "
                "bring; predict with an experiment whose views are all of audio"
            )
    found = {}
    for name, section in views.items():
        section, folder = _located(name, section, recorded[name], _places(model, study), stack)
        how = {"device": device, "batch_s": batch_s, "folder": folder}
        found[name] = Upstream(name, section, layers[name], how, stack)
        _compare(model, name, recorded[name], found[name].fingerprint, layers[name])
    return found


def _places(model: Path, study: Path | None) -> list[Path]:
    """Where relative folders may begin; the first is a study's, unless there is none and this folder is the only."""
    if study is not None:
        return [study]
    found = (where.above(model), where.above(Path.cwd()))
    return [*dict.fromkeys(file.parent for file in found if file), Path.cwd()]


def _located(
    name: str, section: View, recorded: Mapping[str, object], places: Sequence[Path], stack: ExitStack
) -> tuple[View, Path]:
    """The section with the very revision that was used, and the folder in which its source begins."""
    source = getattr(section, "source", None)
    if source is not None and recorded.get("source") == LOCAL_DIRECTORY:
        candidates = [place / Path(source).expanduser() for place in places]
        for place, candidate in zip(places, candidates, strict=True):
            if candidate.is_dir():
                return section, place
        raise StageError(
            f"view {name}: expected the folder of its checkpoint at {' or '.join(dict.fromkeys(map(str, candidates)))},"
            " found none; copy it there, or name the params file of the study that it lies beside with --params"
        )
    if recorded.get("revision") and "revision" in type(section).model_fields:
        section = section.model_copy(update={"revision": recorded["revision"]})  # a branch may have moved on
    if source is not None and source.startswith(PREFIX) and not (places[0] / "params.yaml").is_file():
        return section, Path(stack.enter_context(tempfile.TemporaryDirectory()))  # no study to keep a miniature in
    return section, places[0]


def _cut(section: View, layers: Sequence[str]) -> View:
    """The section without what a head does not read."""
    if "frames" in type(section).model_fields:
        section = section.model_copy(update={"frames": ()})
    if not isinstance(section, TransformersView) or section.logits:
        return section
    numbers = [layer if layer == LAST_HIDDEN_STATE else int(layer) for layer in layers]
    return parse({**section.model_dump(mode="json"), "layers": numbers})


def _compare(
    model: Path, name: str, recorded: dict[str, object], found: Mapping[str, object], layers: Sequence[str]
) -> None:
    """Raises StageError unless a cut model's values are those of the layers that a head was trained on."""
    here = dict(found) | {"frames": recorded.get("frames")}
    if set(layers) <= set(recorded.get("layers") or ()):
        here["layers"] = recorded["layers"]
    if here != recorded:
        fields = differences(recorded, here, ("trained on", "here"))
        raise StageError(
            f"view {name}: expected the model that {model} was trained on, found another ({fields}); bring that "
            "checkpoint here, or train again on this one"
        )
