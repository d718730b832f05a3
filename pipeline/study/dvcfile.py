"""What the stages tell DVC, and what DVC tells the stages."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strata.pipeline.errors import StageError
from strata.pipeline.progress import say
from strata.pipeline.study import yaml12
from strata.pipeline.study.folder import Study
from strata.pipeline.study.soundness import Known

LEFT_ALONE = (".tmp", ".lock", ".partial")
"""Endings of the files that .dvcignore keeps from DVC."""


def mend(study: Study) -> None:
    """Leads dvc.yaml of a study made by an earlier version over: stage `corpus` runs at every `dvc repro`.

    Then DVC need not hash folders of recordings, in which anything may lie that it stumbles over. Earlier versions
    wrote them into the stage's dependencies, and their names into its `meta`; both go.
    """
    path = study.folder / "dvc.yaml"
    if study.params_file.name != "params.yaml" or not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    stage = (yaml12.load(text) or {}).get("stages", {}).get("corpus")
    if stage is None or "always_changed" in stage:
        return

    def change(content: dict) -> None:
        stage = content["stages"]["corpus"]
        watched = stage.pop("meta", {}).get("watched", [])
        stage["deps"] = [dep for dep in stage.get("deps", []) if dep not in watched]
        stage["always_changed"] = True

    _write(path, yaml12.rewritten(text, change))
    say(f"{path}: stage corpus runs at every `dvc repro` from now on, and lists no recordings any more")


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


def bring(study: Study, stage: str, *paths: Path) -> str:
    """Fetches files of a stage that are not as dvc.lock lists them: absent, or those of another revision.

    A file that DVC does not know was made here, and stays: `dvc pull` replaces none.

    Returns:
        why one that is listed is still not here; empty where none is lacking.
    """
    outs = _lock(study).get("stages", {}).get(stage, {}).get("outs", [])
    wanted = {study.folder / out["path"]: out.get("md5") for out in outs}
    lacking = [path for path in paths if path in wanted and md5(path) != wanted[path]]
    if not lacking:
        return ""
    say(f"{', '.join(map(str, lacking))}: not as dvc.lock lists {'it' if len(lacking) == 1 else 'them'}, dvc pull")
    reason = _pull(study, lacking)
    absent = [path for path in lacking if not path.exists()]
    return f"{absent[0]} is listed in dvc.lock but is not here, and `dvc pull` says: {reason}" if absent else ""


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
    reason = _pull(study, [study.store(view)])
    if still := lacking(study, view):
        raise StageError(f"{still}, and `dvc pull` says: {reason}")


def forget_store(folder: Path, view: str) -> bool:
    """Strikes the stage that made a view's store from dvc.lock, so that it can be made anew; whether it was there."""
    content = _lock(Study(folder / "params.yaml"))
    if content.get("stages", {}).pop(f"extract@{view}", None) is None:
        return False
    _write(folder / "dvc.lock", yaml12.dump(content))
    return True


def _pull(study: Study, paths: Sequence[Path]) -> str:
    """Asks DVC for what dvc.lock lists; its first words, of which only a failure makes a reason."""
    names = [path.relative_to(study.folder).as_posix() for path in paths]
    command = [sys.executable, "-m", "dvc", "pull", "--quiet", *names]
    done = subprocess.run(command, cwd=study.folder, capture_output=True, text=True)
    return ((done.stderr + done.stdout).strip().splitlines() or ["nothing was fetched"])[0]


def is_as_listed(study: Study, view: str) -> bool:
    """Whether a view's store is, to the byte, what dvc.lock lists as made from today's section. Reads it all."""
    wanted = listed(study, view).md5
    return bool(wanted) and md5(study.store(view)) == wanted


def md5(path: Path) -> str:
    """What DVC knows a file by, or a folder, of which it lists the files; empty where there is none."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if not path.is_dir():
        return ""
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix not in LEFT_ALONE]
    names = {file.relative_to(path).as_posix(): file for file in files}
    entries = [{"md5": md5(names[name]), "relpath": name} for name in sorted(names)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


def _lock(study: Study) -> dict:
    path = study.folder / "dvc.lock"
    return (yaml12.load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
