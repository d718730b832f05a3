"""The experiment that tests vary."""

from strata.trainers.spec import Experiment, Folds

ALL = ["speaker", "emotion", "gender", "age"]


def experiment(**changes):
    options = {"views": ["a"], "tasks": ALL, "epochs": 40, "folds": Folds(k=3, stratify="speaker")}
    return Experiment(**options | changes)
