import numpy as np
import pandas as pd
import pytest

from strata.trainers.inputs.data import Dataset
from strata.trainers.spec import Task

NUM, DIM_A, DIM_B = 113, 37, 29  # distinct primes: swapped axes cannot pass


@pytest.fixture
def tasks():
    return {
        "speaker": Task(kind="classification", weight=0.33),
        "emotion": Task(kind="classification", weight=0.33),
        "gender": Task(kind="binary", label="sex", weight=0.33),
        "age": Task(kind="regression", weight=0.33),
    }


@pytest.fixture
def data():
    """View a knows the speaker, view b the emotion; a fifth of the emotions and a third of the ages are unlabelled."""
    rng = np.random.default_rng(0)
    speaker, emotion = rng.integers(0, 5, NUM), rng.integers(0, 3, NUM)
    a = rng.normal(size=(5, DIM_A))[speaker] + 0.5 * rng.normal(size=(NUM, DIM_A))
    b = rng.normal(size=(3, DIM_B))[emotion] + 0.5 * rng.normal(size=(NUM, DIM_B))
    labels = pd.DataFrame(
        {
            "speaker": [f"s{i}" for i in speaker],
            "emotion": [None if i % 5 == 0 else "abc"[e] for i, e in enumerate(emotion)],
            "sex": ["female" if s % 2 else "male" for s in speaker],
            "age": [np.nan if i % 3 == 0 else 20.0 + 7 * s for i, s in enumerate(speaker)],
        }
    )
    names = [f"c/{i}" for i in range(NUM)]
    features = {"a": a[:, None].astype(np.float32), "b": b[:, None].astype(np.float32)}
    return Dataset(names, names, labels, features)
