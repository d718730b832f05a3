"""When numbers count as constant, and how far one value may lie from the others once they are standardised.

Used wherever a spread is divided by: the inputs of heads (`inputs.standardise`), embeddings before PLDA
(`evaluation.verification`), regression targets (`inputs.data`), maps of the report. Knows arrays and nothing else.
"""

import numpy as np

CLIP = 30.0
"""Standardised inputs are kept within ± this many standard deviations, in training, in prediction and in a saved model
alike: among n values none lies further out than √n of their own deviations, so that what does is a click, an overflow
or a column that hardly varied in the training data. One such value moves an answer no further than this."""
ROUNDING = 4.0
"""Spread, in units in the last place of the mean, up to which it is rounding and not information."""


def is_constant(mean: np.ndarray | float, sd: np.ndarray | float, kind: type = np.float32) -> np.ndarray | np.bool_:
    """Whether a spread is no more than rounding makes.

    It is judged by the magnitude of the values, since rounding is relative: 16.6667 ± 8e-7 is constant in float32, and
    1e-9 ± 1e-9 is not. (scikit-learn learned the same about its StandardScaler: issues 19527 and 19726, PR 19788.)

    Args:
        mean: of the values.
        sd: their standard deviation.
        kind: the floating-point type in which the values were given.
    """
    about = np.finfo(kind)
    return sd <= np.maximum(ROUNDING * about.eps * np.abs(mean), about.tiny)


def divisor(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """What centred float32 columns are divided by: their standard deviation, and infinity where they are constant.

    Nothing can be learned of a constant column, so that it is 0 whatever comes later: whoever sees another value in it
    has no weight that was trained for it.
    """
    return np.where(is_constant(mean, sd), np.inf, sd)
