"""Who computes blocks: threads of this process, or Dask's workers in processes of their own, here or on other machines.

A runner is given a block's number with its recordings, and hands back what came of it, in whatever order. It knows
nothing of stores and commits: that is the stage's business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from strata.pipeline.errors import StageError
from strata.pipeline.extraction import work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.work import BlockResult, Extraction
from strata.pipeline.study import fingerprints

Result = TypeVar("Result")
Progress = Callable[[float], object]
"""Is told seconds of audio that are done."""


class Crashed(StageError):
    """Recordings that nobody could compute, because every process that tried was lost."""

    @classmethod
    def on(cls, recordings: Sequence[Recording]) -> "Crashed":
        """With the first of them by name."""
        return cls(
            f"{len(recordings)} utterances, the first {recordings[0].audio}, ended every process that computed them: "
            "too little memory, or a worker that is gone? What else could be computed is committed"
        )


class Runner(ABC):
    """Use as a context; processes are started when they are first needed."""

    def __init__(self, extraction: Extraction):
        self.extraction = extraction

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """Blocks that are computed at the same time."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Blocks that were submitted and have not come back."""

    @abstractmethod
    def ask(self, question: Callable[[Extraction], Result]) -> Result:
        """What a function of the extraction says where the blocks are computed."""

    def fingerprint(self, view: str, *, local: bool = False) -> Mapping[str, object]:
        """The fingerprint of the view's values, from memory, or from whoever computes them.

        Args:
            view: its name.
            local: nothing is fetched for it, wherever it is computed.

        Raises:
            ViewError: the view cannot be loaded.
            CheckpointAbsent: it would have to be fetched.
        """
        look = work.look_locally if local else work.look
        return fingerprints.remembered(
            Path(self.extraction.folder), view, self.extraction.section, lambda: self.ask(look)
        )

    @abstractmethod
    def submit(self, block: int, recordings: Sequence[Recording], progress: Progress) -> None:
        """Hands out one block."""

    @abstractmethod
    def finished(self) -> list[tuple[Sequence[Recording], BlockResult | Exception]]:
        """Waits until a block has come back; all that have."""

    def __enter__(self) -> "Runner":
        return self

    @abstractmethod
    def __exit__(self, *error) -> None: ...
