"""What the stages tell DVC, and what DVC tells the stages."""

import os
from pathlib import Path

from pipeline.progress import say
from pipeline.study import Study


def watch_corpora(study: Study) -> None:
    """Makes every corpus's root a dependency of stage `corpus` in dvc.yaml, so that `dvc repro` sees new recordings.

    DVC cannot take a list of dependencies from params.yaml, so this line of dvc.yaml is kept in step with it here.
    """
    path = study.folder / "dvc.yaml"
    if not path.exists():
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(path)
    stage = (content or {}).get("stages", {}).get("corpus")
    if stage is None:
        return
    roots = [section.watched(study.folder) for section in study.params.corpora.values()]
    wanted = [str(r) if r.is_absolute() else os.path.relpath(r, study.folder) for r in roots if r is not None]
    new = [root for root in dict.fromkeys(wanted) if root not in stage.setdefault("deps", [])]
    if new:
        stage["deps"].extend(new)
        partial = path.with_name("dvc.yaml.tmp")
        with open(partial, "w", encoding="utf-8") as file:
            yaml.dump(content, file)
        partial.replace(path)
        say(f"{path}: stage corpus now watches {', '.join(new)}")


def lists_output(study: Study, output: Path) -> bool:
    """Whether dvc.lock says that a stage made `output`."""
    import yaml

    try:
        lock = yaml.safe_load((study.folder / "dvc.lock").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    name = output.relative_to(study.folder).as_posix()
    stages = (lock or {}).get("stages", {}).values()
    return any(out.get("path") == name for stage in stages for out in stage.get("outs", []))
