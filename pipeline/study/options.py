"""Options of the command line that commands share: which study is meant, and which of its sections.

Every module of a command has a function `add_arguments`: see `strata.pipeline.cli`.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from strata.pipeline.study import where
from strata.pipeline.study.folder import Study


def add_debug(parser: ArgumentParser) -> None:
    """What every command takes."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_study(parser: ArgumentParser) -> None:
    """What every command of a study takes."""
    add_debug(parser)
    parser.add_argument(
        "--params", type=Path, metavar="FILE", help="default: params.yaml here, or in the nearest folder above"
    )


def add_names(parser: ArgumentParser, what: str) -> None:
    """Names of entries of a section, of which `what` stands for one."""
    parser.add_argument("names", nargs="*", metavar=what, help="all of params.yaml where none is given")


def add_stage(parser: ArgumentParser, run: Callable[[Study, list[str]], None], what: str, example: str) -> None:
    """All that a stage takes which works on the entries of a section.

    Args:
        parser: of the stage.
        run: the stage: is given the study, and the names.
        what: stands for the name of an entry.
        example: a command line.
    """
    parser.epilog = f"example: {example}"
    add_study(parser)
    add_names(parser, what)
    parser.set_defaults(call=lambda options: run(study_of(options), options.names))


def study_of(options: Namespace) -> Study:
    """The study that the options mean: the one named, else that of this folder or of the nearest one above."""
    return Study(options.params or where.here())


def folder_of(options: Namespace) -> Path | None:
    """The folder of the study that is named; None where none is."""
    return None if options.params is None else options.params.parent


def channel(text: str) -> str | int:
    """A channel as `corpora.NAME.channel` has it.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text in ("left", "right"):
        return text
    if not text.isdecimal():
        raise ArgumentTypeError(f"expected left, right or a number counted from 0, got {text!r}")
    return int(text)
