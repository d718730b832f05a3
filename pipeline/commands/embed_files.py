"""`strata embed --model results/<experiment>/model FILE…`: audio in, its unified embeddings out, as one `.npy`.

Needs the model and the view's checkpoint, no study and no store: see `commands.predict`, whose way of computing files
it shares.
"""

import io
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from strata.extractors.audio import Channel
from strata.pipeline.commands import predict
from strata.pipeline.errors import StageError
from strata.pipeline.extraction import upstreams
from strata.pipeline.extraction.portions import named, portions
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import counted, say
from strata.pipeline.study import options
from strata.pipeline.study.failures import Failure


def add_arguments(parser: ArgumentParser) -> None:
    """What `strata embed` takes besides: see `strata.pipeline.cli`."""
    files = parser.add_argument_group("of audio files instead of a study's utterances")
    files.add_argument("--model", type=Path, metavar="FOLDER", help="results/<experiment>/model: NAMEs are files then")
    files.add_argument("--output", type=Path, metavar="FILE", help="the .npy to write, a row for each file")
    files.add_argument("--device", default="auto", help="see predict")
    files.add_argument("--batch-s", type=float, metavar="SECONDS", help="see predict")
    files.add_argument("--channel", type=options.channel, metavar="CHANNEL", help="see predict")
    of_study = parser.get_default("call")
    parser.set_defaults(call=lambda given: (_of_files if given.model or given.output else of_study)(given))


def _of_files(given: Namespace) -> None:
    if not (given.model and given.output and given.names):
        raise ValueError("expected --model FOLDER --output FILE.npy and files of audio; without them, names of embed")
    how = (options.folder_of(given), given.device, given.batch_s, given.channel)
    run(given.model, given.names, given.output, *how)


def run(
    model: Path,
    files: Sequence[str],
    output: Path,
    study: Path | None,
    device: str,
    batch_s: float | None,
    channel: Channel,
) -> None:
    """Writes the embeddings of the files, float32 [files, dim], in their order; NaN where one cannot be used.

    Args:
        model: its folder, or the one of the experiment's results that holds it.
        files: of audio; `-` stands for those that standard input names, one per line.
        output: the `.npy` file.
        study: where relative folders of checkpoints begin; None: in the study around the model, else here.
        device: see `extractors.load`.
        batch_s: see `extractors.load`.
        channel: the one that is heard of files with several; None: the mean of all.

    Raises:
        StageError: no model, one without an embedding, or files that could not be used; the others' embeddings have
            been written by then.
    """
    if output.suffix != ".npy":
        raise StageError(f"--output: expected a file that ends in .npy, got {output}")
    from strata.trainers.evaluation.predictor import Predictor  # torch, only now

    folder = predict.find(model)
    predictor, config = Predictor.load(folder)
    width = predictor.embedding_dim
    found: list[np.ndarray] = []
    failures = 0
    with ExitStack() as stack:
        views = upstreams.load(folder, config, study, device, batch_s, stack)
        predict.say_notices(config)
        for portion in portions(views, named(files), channel):
            part = np.full((len(portion.files), width), np.nan, np.float32)
            if portion.rows:
                part[portion.rows] = predictor.embed(portion.features)
            for file, outcome in zip(portion.files, portion.outcomes, strict=True):
                if isinstance(outcome, Failure):
                    failures += 1
                    say(f"{file}: {outcome.reason}")
            found.append(part)
    embeddings = np.concatenate(found) if found else np.empty((0, width), np.float32)
    buffer = io.BytesIO()
    np.save(buffer, embeddings)
    write_if_changed(output, buffer.getvalue())
    say(f"{output}: {counted(len(embeddings), 'embedding')} of {counted(width, 'number')}")
    if failures:
        raise StageError(
            f"{failures} of {len(embeddings)} files cannot be used, their rows are NaN; mend them, or leave them out"
        )
