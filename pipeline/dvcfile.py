"""What the stages tell DVC, and what DVC tells the stages."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StageError
from pipeline.progress import say
from pipeline.soundness import Known
from pipeline.study import Study

LEFT_ALONE = (".tmp", ".lock", ".partial")
"""Endings of the files that .dvcignore keeps from DVC."""


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


@dataclass(frozen=True)
class Listed:
    """What dvc.lock says of one view's store."""

    md5: str = ""
    num_files: int = 0


def listed(study: Study, view: str) -> Listed:
    """What dvc.lock lists; nothing where it lists no store, or one made from another section of params.yaml."""
    stage = _lock(study).get("stages", {}).get(f"extract@{view}", {})
    section = stage.get("params", {}).get("params.yaml", {}).get(f"views.{view}")
    if section is None or section != study.raw_params["views"][view]:
        return Listed()
    name = study.store(view).relative_to(study.folder).as_posix()
    outputs = [Listed(out["md5"], out.get("nfiles", 1)) for out in stage.get("outs", []) if out["path"] == name]
    return outputs[0] if outputs else Listed()


def lacking(study: Study, view: str) -> str:
    """What dvc.lock lists of this view's store and is not here, in words; empty where nothing is lacking.

    A killed `dvc pull` leaves some of the files, and `git checkout` alone those of another revision. Rows computed
    since only add files, so a count tells. Files of a store that once was whole on this machine were lost here: they
    are damage, which an extraction mends, and not lacking.
    """
    path, wanted = study.store(view), listed(study, view)
    here = sum(file.is_file() and file.suffix not in LEFT_ALONE for file in path.rglob("*"))
    if here >= wanted.num_files:
        return ""
    if here == 0:
        return f"{path} is listed in dvc.lock but is not here"
    if Known.read(study.folder, view).was_whole(path, wanted.md5, wanted.num_files):
        return ""
    return f"{path} has {here} of the {wanted.num_files} files that dvc.lock lists"


def is_elsewhere(study: Study, stage: str, path: Path) -> bool:
    """Whether dvc.lock lists a file that is not here, made from that stage's section of params.yaml as it is now."""
    entry = _lock(study).get("stages", {}).get(stage, {})
    section = entry.get("params", {}).get("params.yaml", {}).get(stage)
    if path.exists() or section is None or section != study.raw_params.get(stage):
        return False
    return any(out["path"] == path.relative_to(study.folder).as_posix() for out in entry.get("outs", []))


def pull(study: Study, view: str) -> None:
    """Fetches what is lacking of a view's store from the study's remote.

    Raises:
        StageError: it could not be fetched.
    """
    say(f"{lacking(study, view)}: dvc pull")
    path = study.store(view)
    command = [sys.executable, "-m", "dvc", "pull", "--quiet", path.relative_to(study.folder).as_posix()]
    done = subprocess.run(command, cwd=study.folder, capture_output=True, text=True)
    still = lacking(study, view)
    if still:
        reason = ((done.stderr + done.stdout).strip().splitlines() or ["nothing was fetched"])[0]
        raise StageError(f"{still}, and `dvc pull` says: {reason}")


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
