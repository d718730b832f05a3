"""What the finished models of an experiment answered, on disk until all of them have: a kill costs those in training.

A file for each model, written whole or not at all: its outputs, and its weights where they are wanted themselves.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from strata.trainers.models.heads import build
from strata.trainers.training.jobs import Job, Trained

OUTPUTS, MODEL, DIGEST = "outputs/", "model/", "digest"


class Kept:
    """The files below one folder, of one experiment on the same data."""

    def __init__(self, folder: Path, identity: str, tell: Callable[[str], None] = warnings.warn):
        """Reads and writes nothing yet.

        Args:
            folder: its own; files of another experiment or other data that lie there count for nothing.
            identity: a hash of all that the models follow from.
            tell: called with a line, the same each time, where nothing can be kept.
        """
        self.folder, self.identity, self.tell = folder, identity, tell

    def read(self, jobs: Sequence[Job]) -> dict[int, Trained]:
        """What came of those jobs that were finished, by their numbers."""
        found = {number: self._read(number, job) for number, job in enumerate(jobs) if self._file(number).exists()}
        return {number: trained for number, trained in found.items() if trained}

    def note(self, number: int, trained: Trained) -> None:
        """Keeps what came of a job, to the bit; of one that could not be done, nothing.

        What cannot be written costs only a run that is ended: it is told, and training goes on.
        """
        if trained.error:
            return
        try:
            self._write(number, trained)
        except (SafetensorError, OSError) as error:
            why = getattr(error, "strerror", None) or str(error).split(" at path")[0]
            self.tell(
                f"what finished models answer cannot be kept ({why}): training goes on, but a run that is ended loses "
                "every cell that is not complete; make room for the results"
            )

    def _write(self, number: int, trained: Trained) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {OUTPUTS + task: torch.from_numpy(np.ascontiguousarray(x)) for task, x in trained.outputs.items()}
        if trained.model is not None:
            tensors |= {MODEL + name: values.contiguous() for name, values in trained.model.state_dict().items()}
        partial = self._file(number).with_suffix(".partial")
        told = {"curve": json.dumps(trained.curve), "seconds": json.dumps(trained.seconds)}
        told |= {"identity": self.identity}
        save_file(tensors, partial, told | {DIGEST: _digest(tensors, told)})
        os.replace(partial, self._file(number))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"

    def _read(self, number: int, job: Job) -> Trained | None:
        """What came of a job; None where the file is damaged, or of another experiment or other data."""
        try:
            with safe_open(self._file(number), "pt") as file:
                told = file.metadata() or {}
                if told.get("identity") != self.identity:
                    return None
                # A file has keys, and is no mapping.
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if told.pop(DIGEST) != _digest(tensors, told):
                return None
            model = None
            if job.fold is None:
                shapes = [values.shape[1:] for values in job.features]
                model = build(shapes, job.experiment, {target.name: target.num_outputs for target in job.targets})
                model.load_state_dict(_below(MODEL, tensors))
            outputs = {task: values.numpy() for task, values in _below(OUTPUTS, tensors).items()}
            curve = [tuple(epoch) for epoch in json.loads(told["curve"])]
            return Trained(model, curve, outputs, json.loads(told["seconds"]))
        except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError):
            return None


def _digest(tensors: Mapping[str, torch.Tensor], told: Mapping[str, str]) -> str:
    """A hash of what a file holds: safetensors has no checksum."""
    found = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        found.update(json.dumps([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
