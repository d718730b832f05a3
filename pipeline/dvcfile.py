"""What the stages tell DVC, and what DVC tells the stages."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.errors import StageError
from pipeline.progress import say
from pipeline.study import Study


def watch_corpora(study: Study) -> None:
    """Makes every corpus's root a dependency of stage `corpus` in dvc.yaml, so that `dvc repro` sees new recordings.

    DVC cannot take a list of dependencies from params.yaml, so this line of dvc.yaml is kept in step with it here.
    """
    path = study.folder / "dvc.yaml"
    if study.params_file.name != "params.yaml" or not path.exists():
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(path)
    stage = (content or {}).get("stages", {}).get("corpus")
    if stage is None:
        return
    roots = [section.watched(study.folder) for section in study.params.corpora.values()]
    roots = [root for root in roots if root is not None and root.exists()]
    wanted = list(dict.fromkeys(str(r) if r.is_absolute() else os.path.relpath(r, study.folder) for r in roots))
    before = list(stage.get("meta", {}).get("watched", []))
    if wanted != before:
        stage["deps"] = [dep for dep in stage.get("deps", []) if dep not in before] + wanted
        stage["meta"] = {"watched": wanted}
        _write(path, content)
        say(f"{path}: stage corpus watches {', '.join(wanted) or 'no folder any more'}")


def has_store(study: Study, view: str) -> bool:
    """Whether dvc.lock knows a store of this view, made from its section of params.yaml as it is now."""
    stage = _lock(study).get("stages", {}).get(f"extract@{view}", {})
    section = stage.get("params", {}).get("params.yaml", {}).get(f"views.{view}")
    return section is not None and section == study.raw_params["views"][view]


def pull(study: Study, output: Path) -> None:
    """Fetches one output from the study's remote.

    Raises:
        StageError: it could not be fetched.
    """
    say(f"{output} is not here but in dvc.lock: dvc pull")
    command = [sys.executable, "-m", "dvc", "pull", "--quiet", output.relative_to(study.folder).as_posix()]
    done = subprocess.run(command, cwd=study.folder, capture_output=True, text=True)
    if done.returncode or not output.exists():
        reason = (done.stderr.strip().splitlines() or ["nothing was fetched"])[0]
        raise StageError(f"{output} is listed in dvc.lock but is not here, and `dvc pull` says: {reason}")


def forget_store(folder: Path, view: str) -> bool:
    """Strikes the stage that made a view's store from dvc.lock, so that it can be made anew; whether it was there."""
    content = _lock(Study(folder / "params.yaml"))
    if content.get("stages", {}).pop(f"extract@{view}", None) is None:
        return False
    _write(folder / "dvc.lock", content)
    return True


def _lock(study: Study) -> dict:
    from ruamel.yaml import YAML

    path = study.folder / "dvc.lock"
    return YAML().load(path) if path.exists() else {}


def _write(path: Path, content: object) -> None:
    from ruamel.yaml import YAML

    partial = path.with_name(path.name + ".tmp")
    with open(partial, "w", encoding="utf-8") as file:
        YAML().dump(content, file)
    partial.replace(path)
