"""What every test shares: checked shapes and a quiet machine."""

import os
from pathlib import Path

os.environ.setdefault("POT_BACKEND_DISABLE_TENSORFLOW", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small to share, and cores may be busy
# Models are trained in the test's own process: the workers that `strata train` starts import PyTorch for some seconds
# of work, and would be as many per process of the suite as there are cores.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

import pytest
from hypothesis import settings

from tests import checked

# Axis names in signatures are checked against the arrays that really pass, in every test run; of the trainers and the
# store all annotations are.
checked.install(["strata.trainers", "strata.store"], ["strata.extractors", "strata.pipeline"])

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("strata", deadline=None)
settings.load_profile("strata")


def pytest_addoption(parser):
    """`--slow` runs what takes minutes and guards what seldom changes."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


FIRST = [
    "extractors/test_tfhub.py",
    "pipeline/test_dvc_flows.py",
    "pipeline/extraction/test_cluster.py",
    "pipeline/test_dvc.py",
    "pipeline/stages/test_extract_crashes.py",
    "pipeline/commands/test_predict.py",
    "trainers/test_experiment.py",
    "pipeline/commands/layers/test_narrowing.py",
]
"""Files that take longest come first, so that no worker is left with one while the others have nothing to do.

Of two workers the one gets the first and the third, the other the second and the fourth, which share what they begin
with: a study under DVC, and the process that its commands are forked from.
"""


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked slow, and says how to run it; puts the longest files first."""
    here = Path(__file__).parent
    names = [item.path.relative_to(here).as_posix() for item in items]
    ranks = {name: FIRST.index(name) if name in FIRST else len(FIRST) for name in names}
    items.sort(key=lambda item: ranks[item.path.relative_to(here).as_posix()])
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
