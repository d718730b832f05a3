"""What a long stage has done so far: one line of JSON for each step, below a line that tells what all follow from.

A step is on disk as soon as it is noted, and a kill costs at most the line that was being written. Notes of other data
or another configuration are moved aside, not lost. Knows nothing of what the steps are.
"""

import json
import os
from pathlib import Path

from strata.pipeline.errors import StageError
from strata.pipeline.files import write_if_changed
from strata.pipeline.progress import say


class Journal:
    """`with Journal(file, identity, name) as journal:` — `journal.steps` are those there are, `note` adds one."""

    def __init__(self, path: Path, identity: str, name: str):
        """Names what is to be gone on with.

        Args:
            path: the file, `….jsonl`.
            identity: a hash of all that the steps follow from.
            name: what the stage works on, for messages.
        """
        self.path, self.name = path, name
        self.header = json.dumps({"cell": identity}) + "\n"

    def __enter__(self) -> "Journal":
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        lines = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
        if lines and lines[0] != self.header:
            if len(lines) > 1:
                aside = self.path.with_name(f"{self.path.stem}.previous.jsonl")
                os.replace(self.path, aside)
                say(
                    f"{self.name}: its section, its data or the code have changed: it begins anew; the "
                    f"{len(lines) - 1} {self.path.stem} so far are in {aside}"
                )
            lines = []
        try:
            self.steps = [json.loads(line) for line in lines[1:]]
        except ValueError as error:
            raise StageError(f"{self.path} is damaged ({error}); remove it, and all of it is done anew") from None
        write_if_changed(self.path, "".join([self.header, *lines[1:]]).encode())  # at once: a kill here loses nothing
        self.file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def note(self, step: object) -> None:
        """Adds a step that JSON can hold."""
        self.file.write(json.dumps(step) + "\n")
        self.file.flush()
