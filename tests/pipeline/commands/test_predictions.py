"""How answers are printed: a table whose columns stand still, or a line of JSON each."""

import json

import numpy as np

from strata.pipeline.commands import predict
from strata.pipeline.commands.predictions import FilePrediction, Lines, Prediction, Table
from strata.pipeline.study.failures import Failure
from strata.trainers.inputs.data import Targets
from strata.trainers.spec import Task

GOALS = {
    "speaker": Targets("speaker", Task(kind="classification"), np.empty(0), ("anna", "bartholomew")),
    "age": Targets("age", Task(kind="regression"), np.empty(0), ()),
}


def test_a_tables_columns_do_not_move(capsys):
    """Their widths are those of the classes' names; long names of files lose their beginning."""
    long = "some/very/long/way/to/a/file/that/is/called/y.wav"
    table = Table(GOALS, ["x.wav", long])
    answer = Prediction("anna", {"anna": 0.934, "bartholomew": 0.066})
    table.print("x.wav", FilePrediction(1.0, {"speaker": answer, "age": Prediction(41.2, None)}))
    table.print(long, Failure("missing"))
    sure = Prediction("bartholomew", {"anna": 0.0, "bartholomew": 1.0})
    table.print("a\nb.wav", FilePrediction(1.0, {"speaker": sure, "age": Prediction(-0.001, None)}))
    assert capsys.readouterr().out.splitlines() == [
        "file                                      speaker                     age",
        "─" * 73,
        "x.wav                                     anna (93 %)               41.20",
        f"…{long[-39:]}  missing",
        "a�b.wav                                   bartholomew (100 %)        0.00",
    ]


def test_numbers_in_json_have_no_more_digits_than_they_have(capsys):
    """A float32 of 0.93 is written as 0.93; a value has them all, as a time in seconds needs."""
    values = np.array([0.93, 0.07], np.float32)
    answers = {
        "speaker": predict.single(GOALS["speaker"], np.array(["anna"], object), values[None], 0),
        "age": predict.single(GOALS["age"], np.array([1_700_000_041.25]), None, 0),
    }
    Lines().print("x.wav", FilePrediction(1.23456, answers))
    speaker = {"answer": "anna", "probability": 0.93, "probabilities": {"anna": 0.93, "bartholomew": 0.07}}
    wanted = {"file": "x.wav", "duration_s": 1.235, "tasks": {"speaker": speaker, "age": {"answer": 1_700_000_041.25}}}
    assert json.loads(capsys.readouterr().out) == wanted
