"""The command `strata`: one subcommand per stage, one line per error.

Nothing heavy is imported before a subcommand needs it.
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

from strata.pipeline.errors import one_line
from strata.pipeline.study import where

STAGES = {
    "corpus": ("list the recordings of all corpora in data/manifest.parquet", None, "strata corpus"),
    "transcribe": ("turn recordings into text, by the recognisers of params.yaml", "NAME", "strata transcribe asr"),
    "extract": ("compute the hidden states that the stores lack", "VIEW", "strata extract wavlm xvector"),
    "train": ("train and score experiments on cached views", "EXPERIMENT", "strata train tango"),
    "tune": ("search an experiment's hyperparameters, on validation data alone", "NAME", "strata tune learning"),
    "eliminate": ("rank and drop layers of a view, one by one", "NAME", "strata eliminate wavlm"),
    "embed": ("keep the unified embedding of a trained model for all utterances", "NAME", "strata embed unified"),
    "downstream": (
        "train and score single-layer models, or verify speakers, on embeddings",
        "NAME",
        "strata downstream age",
    ),
    "report": ("write report/index.html and print the comparison", None, "strata report"),
}
"""Help, what its arguments name (all of them where none is given), and an example of each stage."""
STORE_ACTIONS = {
    "info": "print what a store says of itself, as JSON",
    "verify": "read every value and name the damaged blocks",
    "export": "write the store as one HDF5 file, for MATLAB, h5py or another machine",
    "import": "bring the rows of an exported file into a store, new or of the same view; rows that it has stay",
    "drop": "remove a store, so that it is computed anew",
}
"""Help of each action on one store; export and import take a file as well."""
BENCH_ACTIONS = {
    "extract": (
        "measure how fast this machine extracts views, on a sample of the study's recordings; no store is touched",
        "VIEW",
        "strata bench extract wavlm",
    ),
}
"""Help, what its arguments name, and an example of each measurement."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        _run(options)
    except KeyboardInterrupt:
        print("strata: interrupted; what was committed stays, and the next run goes on from there", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # at once: threads may be in the middle of a block, which a store survives
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        print(f"strata: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as every other error is said."""

    def error(self, message: str):
        """One line, exit status 1."""
        self.exit(1, f"strata: {message}; `{self.prog} --help` shows what it takes\n")


def _parser() -> argparse.ArgumentParser:
    # One shared parent, so that the options may stand before or behind the command's own arguments.
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common = argparse.ArgumentParser(add_help=False, parents=[every])
    common.add_argument(
        "--params", type=Path, metavar="FILE", help="default: params.yaml here, or in the nearest folder above"
    )
    parser = _Parser(
        prog="strata",
        description="Hidden states of frozen speech models, laid down once; light heads trained on them.",
        epilog="Every stage reads params.yaml of the current folder, or of the nearest one above it, and writes below "
        "that folder. `dvc repro` runs all.",
    )
    parser.add_argument("--version", action="version", version=version("strata-speech"))
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    init = commands.add_parser(
        "init",
        help="make a study's folder from a recipe",
        parents=[common],
        epilog="example: strata init ../mystudy --recipe demo",
    )
    init.add_argument("folder", type=Path)
    init.add_argument(
        "--recipe", default="demo", help="one of those that come with the package; a wrong name lists them"
    )
    store = commands.add_parser(
        "store",
        help="look into a store, check it, export, import or drop it",
        epilog="example: strata store verify features/wavlm.zarr",
    )
    actions = store.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_ in STORE_ACTIONS.items():
        example = f"example: strata store {name} features/wavlm.zarr"
        action = actions.add_parser(name, help=help_, description=help_, parents=[common], epilog=example)
        action.add_argument("path", type=Path, metavar="PATH", help="the store, such as features/wavlm.zarr")
        if name in ("export", "import"):
            action.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: PATH with the suffix .h5")
    bench = commands.add_parser(
        "bench",
        help="measure how fast this machine is on this study",
        epilog="example: strata bench extract wavlm",
    )
    actions = bench.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (help_, argument, example) in BENCH_ACTIONS.items():
        action = actions.add_parser(name, help=help_, description=help_, parents=[common], epilog=f"example: {example}")
        action.add_argument("names", nargs="*", metavar=argument, help="all of params.yaml where none is given")
        action.add_argument("--seconds", type=float, default=120.0, help="of audio in the sample; default: 120")
        action.add_argument("--json", action="store_true", help="print all that was measured as JSON")
    _add_predict(commands, every)
    _add_layers(commands, every)
    compare = commands.add_parser(
        "compare",
        help="test whether experiments differ, on the same folds",
        description="How each further experiment differs from the first: mean difference over the folds, effect size, "
        "p value, and the p value corrected for the number of comparisons.",
        parents=[common],
        epilog="example: strata compare svmt/demo/wavlm pairs/demo/wavlm+x-vector",
    )
    compare.add_argument(
        "names", nargs="+", metavar="EXPERIMENT", help="as its folder below results/; a grid's name means all its cells"
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for name, (help_, argument, example) in STAGES.items():
        command = commands.add_parser(
            name, help=help_, description=help_, parents=[common], epilog=f"example: {example}"
        )
        if name == "report":
            command.add_argument("--summary", action="store_true", help="only print; leave the page as it is")
        if name == "embed":
            _add_files(command)
        if argument:
            command.add_argument("names", nargs="*", metavar=argument, help="all of params.yaml where none is given")
    return parser


def _add_files(embed: argparse.ArgumentParser) -> None:
    files = embed.add_argument_group("of audio files instead of a study's utterances")
    files.add_argument("--model", type=Path, metavar="FOLDER", help="results/<experiment>/model: NAMEs are files then")
    files.add_argument("--output", type=Path, metavar="FILE", help="the .npy to write, a row for each file")
    files.add_argument("--device", default="auto", help="see predict")
    files.add_argument("--batch-s", type=float, metavar="SECONDS", help="see predict")
    files.add_argument("--channel", type=_channel, metavar="CHANNEL", help="see predict")


def _channel(text: str) -> str | int:
    """A channel as `corpora.NAME.channel` has it."""
    if text in ("left", "right"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected left, right or a number counted from 0, got {text!r}")
    return int(text)


def _add_predict(commands: argparse._SubParsersAction, every: argparse.ArgumentParser) -> None:
    predict = commands.add_parser(
        "predict",
        help="tell what a trained model says of audio files",
        description="Every task's answer to each file, with its probability. The answers are those of the experiment's "
        "one final model. How good such models are is not to be seen here, least of all on recordings of the corpora: "
        "read metrics.json for that, whose scores are of utterances that a model had not been trained on.",
        parents=[every],
        epilog="example: strata predict --model results/tango/model recordings/*.wav",
    )
    predict.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="results/<experiment>/model, wherever it lies"
    )
    predict.add_argument(
        "files", nargs="+", metavar="FILE", help="of audio; - reads names of files from stdin, one per line"
    )
    predict.add_argument("--json", action="store_true", help="print a JSON object for each file, on a line of its own")
    predict.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    predict.add_argument(
        "--batch-s", type=float, metavar="SECONDS", help="of audio in a batch, at most; default: the device decides"
    )
    predict.add_argument(
        "--channel",
        type=_channel,
        metavar="CHANNEL",
        help="left, right, 0, 1, …: the one that is heard of files with several; default: the mean of all",
    )
    predict.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="of a study, beside which relative folders of checkpoints begin; need not exist. Default: that of the "
        "study around the model, else params.yaml here or above",
    )


def _add_layers(commands: argparse._SubParsersAction, every: argparse.ArgumentParser) -> None:
    layers = commands.add_parser(
        "layers",
        help="tell which layers an elimination kept, and what cutting the model after them saves",
        description="The layers that an elimination kept, their scores beside those of all layers, and what cutting "
        "the model after the highest of them saves. With --write the view is narrowed to them: in the params file, and "
        "in its store, whose rows are copied. The wide store is kept in wide/ until you remove it.",
        parents=[every],
        epilog="example: strata layers results/eliminate/wavlm --write params.yaml",
    )
    layers.add_argument("results", type=Path, metavar="RESULTS", help="folder of an elimination's results")
    layers.add_argument(
        "--write", type=Path, metavar="FILE", help="the params file whose view, and the store beside it, are narrowed"
    )
    layers.add_argument("--no-time", dest="time", action="store_false", help="run neither the whole nor the cut model")
    layers.add_argument("--json", action="store_true", help="print a JSON object instead of tables")
    layers.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="of the study; default: that of --write, that of the study around RESULTS, or params.yaml here or above",
    )


PLACES = {
    "report": "strata.pipeline.report",
    "compare": "strata.pipeline.commands.compare",
    "bench": "strata.pipeline.commands.bench",
}
"""Modules of the commands that are no stage of `stages/`."""


def _run(options: argparse.Namespace) -> None:
    if options.command == "init":
        from strata.pipeline.commands import init

        init.run(options.folder, options.recipe)
        return
    if options.command == "store":
        from strata.pipeline.commands import store

        store.ACTIONS[options.action](options.path, *([options.file] if "file" in options else []))
        return
    if options.command == "predict":
        from strata.pipeline.commands import predict

        study = None if options.params is None else options.params.parent
        predict.run(options.model, options.files, study, options.device, options.batch_s, options.channel, options.json)
        return
    if options.command == "embed" and (options.model or options.output):
        if not (options.model and options.output and options.names):
            raise ValueError(
                "expected --model FOLDER --output FILE.npy and files of audio; without them, names of embed"
            )
        from strata.pipeline.commands import embed_files

        study = None if options.params is None else options.params.parent
        how = (study, options.device, options.batch_s, options.channel)
        embed_files.run(options.model, options.names, options.output, *how)
        return
    if options.command == "layers":
        from strata.pipeline.commands import layers

        layers.run(options.results, options.params, options.write, options.time, options.json)
        return
    from importlib import import_module

    from strata.pipeline.study.folder import Study

    stage = import_module(PLACES.get(options.command, f"strata.pipeline.stages.{options.command}"))
    study = Study(options.params or where.here())
    if options.command == "compare":
        stage.run(study, options.names, options.json)
        return
    if options.command == "bench":
        getattr(stage, options.action)(study, options.names, options.seconds, options.json)
        return
    if "names" in options:
        stage.run(study, options.names)
    elif "summary" in options:
        stage.run(study, options.summary)
    else:
        stage.run(study)


if __name__ == "__main__":
    sys.exit(main())
