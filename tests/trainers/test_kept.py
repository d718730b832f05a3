"""What finished models answered is kept until their experiment is complete."""

import dataclasses
import errno

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from strata.trainers.evaluation import kept
from strata.trainers.evaluation.experiment import plan, run_all
from strata.trainers.evaluation.kept import Kept
from strata.trainers.inputs.data import TrainingError
from strata.trainers.models.heads import build
from strata.trainers.spec import Folds
from strata.trainers.training import jobs
from tests.trainers.experiments import experiment


@pytest.fixture
def planned(data, tasks, tmp_path):
    """Makes the plan of two folds and a final model whose answers are kept, by its identity."""
    how = experiment(epochs=2, folds=Folds(k=2), tasks=["speaker", "age"])

    def make(identity="this"):
        return dataclasses.replace(plan(how, tasks, data), kept=Kept(tmp_path / "kept", identity))

    return make


@pytest.fixture
def trained(monkeypatch):
    """The folds of the models that are trained."""
    folds, real = [], jobs.train

    def train(job, watch=lambda epoch, loss: None):
        folds.append(job.fold)
        return real(job, watch)

    monkeypatch.setattr(jobs, "train", train)
    return folds


class _EndedError(Exception):
    """Stands for a kill."""


def _ended_after(count: int, planned, identity="this") -> None:
    done = []

    def progress():
        done.append(1)
        if len(done) == count:
            raise _EndedError

    with pytest.raises(_EndedError):
        list(run_all([lambda: planned(identity)], progress))


@pytest.mark.parametrize("done", [1, 3])
def test_only_what_was_in_training_is_trained_again(done, planned, trained):
    """And every output is the same to the bit: scores, predictions, curves and the final model's weights."""
    (made,) = run_all([lambda: planned("whole")])
    trained.clear()
    _ended_after(done, planned)
    assert trained == [0, 1, None][:done]
    trained.clear()
    (found,) = run_all([planned])
    assert trained == [0, 1, None][done:]
    pd.testing.assert_frame_equal(found.predictions, made.predictions, check_exact=True)
    pd.testing.assert_frame_equal(found.curves, made.curves, check_exact=True)
    assert found.metrics == made.metrics
    assert found.seen == made.seen
    weights, expected = found.predictor.models.state_dict(), made.predictor.models.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_what_follows_from_something_else_counts_for_nothing(planned, trained):
    """Other data, another section, or a file that is damaged: the model is trained anew."""
    _ended_after(2, planned, "before")
    trained.clear()
    (found,) = run_all([planned])
    assert trained == [0, 1, None]
    file = planned().kept.folder / "1.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    trained.clear()
    (again,) = run_all([planned])
    assert trained == [1]
    pd.testing.assert_frame_equal(found.predictions, again.predictions, check_exact=True)


def test_a_flipped_bit_is_noticed(planned, trained):
    """Anywhere in the values, where the file's own format would not tell: the model is trained anew."""
    (expected,) = run_all([planned])
    file = planned().kept.folder / "0.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for at in (header, (header + len(whole)) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        trained.clear()
        (found,) = run_all([planned])
        assert trained == [0]
        pd.testing.assert_frame_equal(found.predictions, expected.predictions, check_exact=True)


def test_weights_that_do_not_fit_are_trained_anew(planned, trained):
    """Whole files all the same, such as one of another version of the models; no cell fails for ever."""
    made = planned()
    job = made.jobs[2]
    assert job.fold is None
    other = build([values.shape[1:] for values in job.features], job.experiment, {"speaker": 9})
    made.kept.note(2, jobs.Trained(other, [], {}, 0.25))
    (found,) = run_all([planned])
    assert trained == [0, 1, None]
    assert not isinstance(found, Exception)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device", "x"), SafetensorError("I/O error")])
def test_what_cannot_be_kept_is_told_and_costs_no_training(error, planned, monkeypatch):
    """A full disk, as Python and as safetensors have it: the same line each time, so that a run can say it once."""
    (expected,) = run_all([lambda: planned("whole")])

    def full(*arguments):
        raise error

    monkeypatch.setattr(kept, "save_file", full)
    made, told = planned(), []
    made.kept.tell = told.append
    (found,) = run_all([lambda: made])
    pd.testing.assert_frame_equal(found.predictions, expected.predictions, check_exact=True)
    assert len(told) == 3
    (line,) = set(told)
    assert line.startswith(f"what finished models answer cannot be kept ({getattr(error, 'strerror', 'I/O error')}): ")


def test_curves_and_outputs_come_back_as_they_were(planned):
    """Losses that are no number too; whatever kind of number the outputs are."""
    made = planned()
    outputs = {"speaker": np.float32([[0.1, np.nan]]), "a/b": np.float64([[1 / 3]]), "none": np.empty((0, 2), "f4")}
    curve = [(1, 0.1, float("inf")), (2, 1 / 3, 0.2)]
    made.kept.note(0, jobs.Trained(None, curve, outputs, 0.25))
    made.kept.note(1, jobs.Trained(None, [], {}, 0.25, TrainingError("diverged")))
    found = made.kept.read(made.jobs)
    assert found.keys() == {0}
    assert (found[0].curve, found[0].seconds) == (curve, 0.25)
    for name, values in outputs.items():
        np.testing.assert_array_equal(found[0].outputs[name], values)
        assert found[0].outputs[name].dtype == values.dtype
