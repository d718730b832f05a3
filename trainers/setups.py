"""What papers call a configuration of views, tasks and fusion: the name of its row in results and tables.

The one home of these names: `Experiment.setup` gives them, results keep them, the report asks by the constants.
"""

SVST, SVMT = "SVST", "SVMT"
"""One view; one task, or several (TANGO §4)."""
CONCAT, TANGO = "MVMT-concat", "TANGO"
"""Several views, joined side by side or by transport in both directions."""
FORTH, BACK = "TANGO x1->x2", "TANGO x2->x1"
"""Transport in one direction alone (TANGO's Tables 7 to 9)."""
WAVCSE, PLDA = "wavCSE", "PLDA"
"""The model with a unified embedding, and verification on it."""
IN_ORDER = (SVST, SVMT, CONCAT, TANGO)
"""As TANGO's tables have them."""
PER_TASK = "a model per task"
"""Behind the name of a setup that is otherwise one model for all tasks."""


def named(base: str, *also: str) -> str:
    """The name of a setup, and in what it differs from what bears the bare name."""
    return ", ".join([base, *filter(None, also)])


def base(setup: str) -> str:
    """A setup's name without what `named` put behind it."""
    return setup.split(", ", 1)[0]
