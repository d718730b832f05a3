"""What is predicted: the kinds of tasks, one file each, behind one contract (`tasks.contract`).

Whoever asks for a kind's targets, losses, answers or scores asks the kind; nothing else branches on one. Known by their
names in params.yaml. Importing them imports neither PyTorch nor scikit-learn.
"""

from collections.abc import Mapping

from strata.trainers.tasks.binary import Binary
from strata.trainers.tasks.classification import Classification
from strata.trainers.tasks.contract import Kind
from strata.trainers.tasks.regression import Regression

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (Classification(), Binary(), Regression())}
"""Every kind by its name."""
