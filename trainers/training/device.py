"""Where a model and its batches lie: `cpu`, `cuda`, or `auto`, a GPU where there is one."""

import torch

from strata.trainers.inputs.data import TrainingError


def resolved(name: str) -> torch.device:
    """The device of that name on this machine.

    Raises:
        TrainingError: a GPU is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    if name != "cpu" and not there:
        raise TrainingError(
            f"train.device: expected a GPU for {name}, found none that PyTorch {torch.__version__} can use; write auto "
            "or cpu, or install a build of PyTorch for this GPU"
        )
    return torch.device(name)
