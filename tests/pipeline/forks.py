"""Commands in processes that a test is about to kill: forks of one that has imported everything (fixture `forked`)."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from strata.pipeline import cli


def run(folder: Path, environment: Mapping[str, str], *command: str) -> None:
    """One command in the folder of a study, as a process group of its own that says nothing."""
    os.setsid()
    os.environ.update(environment)
    os.chdir(folder)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    raise SystemExit(cli.main([*command]))


def run_to_the_first_commit(folder: Path, environment: Mapping[str, str], *command: str) -> None:
    """The same, ended by SIGKILL as soon as a block is committed."""
    from strata.store import FeatureStore

    commit = FeatureStore.commit

    def commit_and_die(*arguments, **options):
        commit(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    FeatureStore.commit = commit_and_die
    run(folder, environment, *command)
