"""What several stages' tests begin with."""

import pytest


@pytest.fixture
def framed(study):
    """Two views that keep frames, with enough recordings for several blocks; listed, not extracted."""
    study.params["views"]["mfcc"]["frames"] = ["mfcc"]
    study.params["views"]["wavlm"]["frames"] = [2]
    study.write_params().add(176)
    study.succeeds("corpus")
    return study
