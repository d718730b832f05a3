"""`strata predict --model results/<experiment>/model FILE…`: audio in, every task's answer out.

Reads a model that `strata train` wrote, which is all that it needs besides the views' checkpoints: no study, no store.
Files are decoded ahead of the models, portion by portion, and predicted in their order; what is printed, and how, is
for `commands.predictions`. A file that cannot be used gets a line that says why, and the others their predictions.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from strata import extractors
from strata.extractors.audio import Channel
from strata.extractors.contract import SAMPLING_RATE
from strata.extractors.links import dangling
from strata.extractors.miniatures import PREFIX
from strata.pipeline.commands.predictions import FilePrediction, Lines, Table, single
from strata.pipeline.errors import StageError
from strata.pipeline.extraction import upstreams
from strata.pipeline.extraction.portions import STDIN, Portion, named, portions
from strata.pipeline.extraction.upstreams import Upstream
from strata.pipeline.progress import say
from strata.pipeline.show import notices
from strata.pipeline.study import options
from strata.pipeline.study.failures import Failure

if TYPE_CHECKING:
    from strata.trainers.evaluation.predictor import Predictor

_DEEPEST = 4  # levels of folders below the one given in which models are looked for, to name them


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.description = (
        "Every task's answer to each file, with its probability. The answers are those of the experiment's one final "
        "model. How good such models are is not to be seen here, least of all on recordings of the corpora: read "
        "metrics.json for that, whose scores are of utterances that a model had not been trained on."
    )
    parser.epilog = "example: strata predict --model results/tango/model recordings/*.wav"
    options.add_debug(parser)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="results/<experiment>/model, wherever it lies"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="of audio; - reads names of files from stdin, one per line"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each file, on a line of its own")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument(
        "--batch-s", type=float, metavar="SECONDS", help="of audio in a batch, at most; default: the device decides"
    )
    parser.add_argument(
        "--channel",
        type=options.channel,
        metavar="CHANNEL",
        help="left, right, 0, 1, …: the one that is heard of files with several; default: the mean of all",
    )
    parser.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="of a study, beside which relative folders of checkpoints begin; need not exist. Default: that of the "
        "study around the model, else params.yaml here or above",
    )
    parser.set_defaults(call=_call)


def _call(given: Namespace) -> None:
    how = (options.folder_of(given), given.device, given.batch_s, given.channel, given.json)
    run(given.model, given.files, *how)


def run(
    model: Path,
    files: Sequence[str],
    study: Path | None,
    device: str,
    batch_s: float | None,
    channel: Channel,
    as_json: bool,
) -> None:
    """Prints the predictions of a model, a line for each file.

    Args:
        model: its folder, or the one of the experiment's results that holds it.
        files: of audio; `-` stands for those that standard input names, one per line.
        study: where relative folders of checkpoints begin; None: in the study around the model, else here.
        device: see `extractors.load`.
        batch_s: see `extractors.load`.
        channel: the one that is heard of files with several; None: the mean of all.
        as_json: prints a JSON object for each file and no table.

    Raises:
        StageError: no model, one of other views than can be had here, or files that could not be used; what could be
            predicted has been printed by then.
    """
    if batch_s is not None and not batch_s > 0:
        raise StageError(f"--batch-s: expected a positive number of seconds of audio, got {batch_s:g}")
    from strata.trainers.evaluation.predictor import Predictor  # torch, only now

    folder = find(model)
    predictor, config = Predictor.load(folder)
    with ExitStack() as stack:
        views = upstreams.load(folder, config, study, device, batch_s, stack)
        say_notices(config)
        output = Lines() if as_json else Table(predictor.targets, files if STDIN not in files else None)
        total = failed = 0
        for file, outcome in _predictions(predictor, views, named(files), channel):
            total += 1
            failed += isinstance(outcome, Failure)
            output.print(file, outcome)
    if failed:
        raise StageError(f"{failed} of {total} files cannot be used, their lines say why; mend them, or leave them out")


def find(model: Path) -> Path:
    """The folder of a model: the one given, or `model` below it.

    Raises:
        StageError: there is no model in either; where some lie deeper, they are named.
    """
    for folder in (model, model / "model"):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    found = "none" if model.is_dir() else dangling(model) or "no such folder"
    levels = (sorted(model.glob("*/" * depth + "model/config.json")) for depth in range(1, _DEEPEST + 1))
    deeper = [str(file.parent) for file in next(filter(None, levels), [])]
    step = "`strata train` writes results/<experiment>/model, unless the experiment says `final: false`"
    if deeper:
        step = f"name one of those below it: {', '.join(deeper[:3])}{', …' if len(deeper) > 3 else ''}"
    raise StageError(f"{model}: expected a model (config.json and model.safetensors), found {found}; {step}")


def say_notices(config: Mapping[str, object]) -> None:
    """Why the predictions are none, or what may not be done with them, on one line."""
    views = config["views"]
    miniatures = [name for name, section in views.items() if str(section.get("source", "")).startswith(PREFIX)]
    reasons = [notice.sentence for notice in notices.about(config.get("synthetic_corpora", []), miniatures)]
    families = {section["family"] for section in views.values()}
    reasons += [f"{extractors.NOTICES[family]}." for family in sorted(families & extractors.NOTICES.keys())]
    if reasons:
        say(" ".join(reasons))


def _predictions(
    predictor: "Predictor", views: Mapping[str, Upstream], names: Iterable[str], channel: Channel
) -> Iterator[tuple[str, FilePrediction | Failure]]:
    """Every file with what the model says of it, in order."""
    for portion in portions(views, names, channel):
        if portion.rows:
            _predict(predictor, portion)
        yield from zip(portion.files, portion.outcomes, strict=True)


def _predict(predictor: "Predictor", portion: Portion) -> None:
    """Puts the model's predictions in the place of the waveforms."""
    given = predictor(portion.features)
    numbers = [predicted if shares is None else shares.sum(axis=1) for predicted, shares in given.values()]
    finite = np.isfinite(np.stack(numbers).astype(np.float64)).all(axis=0)
    for place, row in enumerate(portion.rows):
        if not finite[place]:
            portion.outcomes[row] = Failure(
                "the answers are not finite: nothing that the model was trained on is like it"
            )
            continue
        tasks = {task: single(predictor.targets[task], *given[task], place) for task in predictor.targets}
        portion.outcomes[row] = FilePrediction(len(portion.outcomes[row]) / SAMPLING_RATE, tasks)
