"""`strata init FOLDER --recipe NAME`: a study of one's own, a git and DVC repository with a recipe's parameters."""

import shutil
import subprocess
import sys
from argparse import ArgumentParser
from importlib.resources import files
from pathlib import Path

from strata.pipeline.errors import StageError
from strata.pipeline.progress import say
from strata.pipeline.study import options
from strata.pipeline.study.params import load

STUDY_FILES = {"stages.yaml": "dvc.yaml", "gitignore": ".gitignore", "dvcignore": ".dvcignore"}
"""Templates under `pipeline/study/templates/`, and what they are called in a study."""


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        file.name.removesuffix(".yaml") for file in files("strata.recipes").iterdir() if file.name.endswith(".yaml")
    )


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.epilog = "example: strata init ../mystudy --recipe demo"
    options.add_study(parser)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--recipe", default="demo", help="one of those that come with the package; a wrong name lists them"
    )
    parser.set_defaults(call=lambda given: run(given.folder, given.recipe))


def run(folder: Path, recipe: str) -> None:
    """Makes the folder, or completes one that an interrupted run left; files that are there are never replaced.

    Raises:
        StageError: an unknown recipe, or git or DVC cannot be run.
    """
    if recipe not in recipes():
        raise StageError(f"unknown recipe {recipe!r}; there are {', '.join(recipes())}")
    folder.mkdir(parents=True, exist_ok=True)
    kept = (folder / "params.yaml").exists()
    with files("strata.recipes").joinpath(f"{recipe}.yaml").open("rb") as source:
        _copy(source, folder / "params.yaml")
    for template, name in STUDY_FILES.items():
        with files("strata.pipeline.study").joinpath("templates", template).open("rb") as source:
            _copy(source, folder / name)
    for name in ("features", "embeddings", "results"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / ".gitkeep").touch()
    if not (folder / ".git").exists():
        _call(["git", "init", "--quiet"], folder)
    if not (folder / ".dvc").exists():
        dvc = [sys.executable, "-m", "dvc"]
        _call([*dvc, "init", "--quiet"], folder)
        for option, value in {
            "core.analytics": "false",
            "core.check_update": "false",
            "cache.type": "reflink,copy",
        }.items():
            _call([*dvc, "config", option, value], folder)
    load(folder / "params.yaml")
    if kept:
        say(f"{folder} had a params.yaml, which stays as it is: no recipe was copied; all else of a study is there")
        return
    say(f"{folder} is ready: edit {folder / 'params.yaml'}, then `cd {folder} && dvc repro`")


def _copy(source, path: Path) -> None:
    if not path.exists():
        with open(path, "wb") as file:
            shutil.copyfileobj(source, file)


def _call(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise StageError(
            f"{command[0]} is not installed, and a study is a git and DVC repository; install it"
        ) from None
    except subprocess.CalledProcessError as error:
        raise StageError(f"`{' '.join(command)}` failed in {folder}: {error.stderr.strip().splitlines()[-1]}") from None
