"""Talk and progress on stderr; data and tables go to stdout. Bars only where somebody is watching."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """One line for whoever runs the command; does not break a progress bar."""
    tqdm.write(line, file=sys.stderr)


def bar(total: float, unit: str, title: str) -> tqdm:
    """A progress bar with rate and time left; silent when stderr is not a terminal."""
    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return tqdm(total=total, unit=unit, desc=title, bar_format=layout, disable=None, leave=False, file=sys.stderr)
