"""What is installed: one package, `strata`, and nothing that a user's own files could stand in the way of."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile

from tests.imports import PACKAGES, ROOT

setuptools = pytest.importorskip("setuptools", minversion="77", reason="builds the wheel: setuptools>=77")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the tree, so that nothing of an earlier build gets in."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    built = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = (tree / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """The environment of a process that finds the wheel's `strata`."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def test_a_wheel_holds_one_package(wheel):
    """All files of the packages, below `strata/`, and what describes it; no `store` in anybody's environment."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {
        "strata",
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info",
    }
    here = {file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()}
    here = {f"strata/{file.relative_to(ROOT).as_posix()}" for file in here if "__pycache__" not in file.parts}
    assert {name for name in names if name.startswith("strata/")} == here


def test_the_packages_of_a_wheel_can_be_imported(installed, tmp_path):
    """By the names that everything has once it is installed."""
    code = f"import json; from strata import {', '.join(PACKAGES)}; import strata.pipeline.cli; "
    code += f"print(json.dumps([module.__path__[0] for module in ({', '.join(PACKAGES)})]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(Path(installed["PYTHONPATH"], "strata", package)) for package in PACKAGES]


def test_a_users_own_files_are_in_nobodys_way(installed, tmp_path):
    """A study's folder may hold a store.py and the like: no command imports what is not Strata's."""
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("raise SystemExit('a file of the user was imported')\n")
    (tmp_path / "recordings").mkdir()
    for number in range(4):
        samples = [0.3 * ((step * (number + 3)) % 101 - 50) / 50 for step in range(8000)]
        soundfile.write(tmp_path / "recordings" / f"{number}.wav", samples, 16_000)
    table = "file_name,speaker\n" + "".join(f"{number}.wav,{'ab'[number % 2]}\n" for number in range(4))
    (tmp_path / "recordings" / "metadata.csv").write_text(table)
    (tmp_path / "params.yaml").write_text(
        "corpora:\n  mine: {adapter: folder, root: recordings}\nviews:\n  mfcc: {family: mfcc}\n"
    )
    for arguments in ("--help", "corpus", "extract", "store verify features/mfcc.zarr"):
        command = [sys.executable, "-m", "strata.pipeline.cli", *arguments.split()]  # looks here before anywhere else
        done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "4 rows, all of them as they were written" in done.stderr
