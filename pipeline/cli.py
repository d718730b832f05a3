"""The command `strata`: which module answers which command, and one line per error.

A command's module brings its arguments and what is called with them: `add_arguments(parser)` describes the command,
adds what it takes, and leaves what runs as the parser's default `call`, a function of the parsed options. Only the
module of the command at hand is imported, so that `strata --help` costs nothing.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from strata.pipeline.errors import one_line

COMMANDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "init": ("make a study's folder from a recipe", ("commands.init",)),
    "store": ("look into a store, check it, export, import or drop it", ("commands.store",)),
    "bench": ("measure how fast this machine is on this study", ("commands.bench",)),
    "predict": ("tell what a trained model says of audio files", ("commands.predict",)),
    "layers": (
        "tell which layers an elimination kept, and what cutting the model after them saves",
        ("commands.layers",),
    ),
    "compare": ("test whether experiments differ, on the same folds", ("commands.compare",)),
    "corpus": ("list the recordings of all corpora in data/manifest.parquet", ("stages.corpus",)),
    "transcribe": ("turn recordings into text, by the recognisers of params.yaml", ("stages.transcribe",)),
    "extract": ("compute the hidden states that the stores lack", ("stages.extract",)),
    "train": ("train and score experiments on cached views", ("stages.train",)),
    "tune": ("search an experiment's hyperparameters, on validation data alone", ("stages.tune",)),
    "eliminate": ("rank and drop layers of a view, one by one", ("stages.eliminate",)),
    "embed": (
        "keep the unified embedding of a trained model for all utterances",
        ("stages.embed", "commands.embed_files"),
    ),
    "downstream": (
        "train and score single-layer models, or verify speakers, on embeddings",
        ("stages.downstream",),
    ),
    "report": ("write report/index.html and print the comparison", ("report",)),
}
"""Help of each command, and its module below `strata.pipeline`; a second one adds to what the first one takes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        parser = _parser(next((word for word in arguments if not word.startswith("-")), None))
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help()
            return 0
        options.call(options)
    except KeyboardInterrupt:
        print("strata: interrupted; what was committed stays, and the next run goes on from there", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # at once: threads may be in the middle of a block, which a store survives
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in arguments:
            raise
        print(f"strata: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as every other error is said."""

    def error(self, message: str):
        """One line, exit status 1."""
        self.exit(1, f"strata: {message}; `{self.prog} --help` shows what it takes\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """All commands with their help, and the arguments of the one that is chosen."""
    parser = _Parser(
        prog="strata",
        description="Hidden states of frozen speech models, laid down once; light heads trained on them.",
        epilog="Every stage reads params.yaml of the current folder, or of the nearest one above it, and writes below "
        "that folder. `dvc repro` runs all.",
    )
    parser.add_argument("--version", action="version", version=version("strata-speech"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (help_, modules) in COMMANDS.items():
        command = commands.add_parser(name, help=help_, description=help_)
        for module in modules if name == chosen else ():
            import_module(f"strata.pipeline.{module}").add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
