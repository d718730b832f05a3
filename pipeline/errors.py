"""The error of a stage: one line that says what was expected, what was found, and the next step."""


class StageError(ValueError):
    """A stage that cannot go on, or went on and left too much undone."""
