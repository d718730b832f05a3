"""A number: one output, standardised while it is trained, in the label's unit ever after.

Values keep the precision in which they were given, float64, from the label to the prediction: a time in seconds since
1970 differs from the next in the tenth digit, where float32 has seven. Only what a loss is given is float32.
"""

import numpy as np

from strata.trainers.scale import is_constant
from strata.trainers.tasks.contract import Kind

MOST = 1e150
"""That a label may be: the squares of larger ones are not finite."""


class Regression(Kind):
    """Targets are float64, NaN where unlabelled."""

    name = "regression"
    losses = ("rmse", "mse", "mae", "ccc")
    metrics = ("rmse", "mae", "r2", "ccc")
    unlabelled = float("nan")
    most_classes = 0

    def read(self, labels):
        """See `Kind.read`."""
        import pandas as pd

        values = pd.to_numeric(labels, errors="coerce").to_numpy(np.float64, copy=True, na_value=np.nan)
        unread = labels[np.isnan(values) & labels.notna().to_numpy()]
        if len(unread):
            raise ValueError(f"must be a number, found {unread.iloc[0]!r}")
        beyond = labels[np.abs(values) > MOST]
        if len(beyond):
            raise ValueError(
                f"must be a finite number, at most ± {MOST:g}, found {beyond.iloc[0]} "
                f"({len(beyond)} of {int(labels.notna().sum())} labels); mend them, or leave them empty"
            )
        if len(np.unique(values[~np.isnan(values)])) < 2:
            raise ValueError("has fewer than two distinct values; nothing to learn")
        return values, ()

    def known(self, targets):
        """See `Kind.known`."""
        return ~np.isnan(targets)

    def num_outputs(self, classes):
        """One."""
        return 1

    def scaled(self, targets, train):
        """Targets with mean 0 and deviation 1 over the training utterances, float32 within ± 1e15.

        So their squares are finite. Constant ones are only centred; how little counts as constant is judged by float64,
        in which labels are kept, since two that differ were given as different (`trainers.scale`).
        """
        known = targets[train][self.known(targets[train])].astype(np.float64)
        mean, sd = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        scale = 1.0 if is_constant(mean, sd, np.float64) else sd
        return np.clip((targets - mean) / scale, -1e15, 1e15).astype(np.float32), mean, scale

    def names(self, targets, classes):
        """The numbers themselves."""
        return targets

    def numbers(self, names, classes):
        """See `Kind.numbers`."""
        return names.to_numpy(np.float64)

    def predictions(self, outputs):
        """The output, which has no probability."""
        return outputs[:, 0], None

    def scores(self, true, predicted):
        """Root mean squared and mean absolute error, R², concordance (CCC).

        Of fewer than two utterances, or of a constant label, R² and CCC are 0 unless the prediction is exact, and then
        1; so is the CCC of a constant prediction.
        """
        from strata.trainers.tasks.metrics import of_numbers

        return of_numbers(true, predicted)

    def comparable(self, primary):
        """Concordance, whatever the primary metric: errors have units, and one bad R² would outweigh all others."""
        return "ccc"

    def guess(self, train):
        """The mean."""
        return train.mean()
