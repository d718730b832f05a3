"""Talk and progress on stderr; data and tables go to stdout. Bars only where somebody is watching."""

import sys
from numbers import Real

from tqdm import tqdm


def say(line: str) -> None:
    """One line for whoever runs the command; does not break a progress bar."""
    tqdm.write(line, file=sys.stderr)


def noun(count: object, one: str, several: str = "") -> str:
    """The word for that many: `fold` of one, `folds` of none or several.

    Args:
        count: how many.
        one: the singular.
        several: the plural, where it takes more than an s.
    """
    return one if count == 1 else several or f"{one}s"


def counted(count: object, one: str, several: str = "") -> str:
    """How many there are of something, in words: `1 fold`, `1,234 utterances`, a dash for what is no number.

    Arguments as for `noun`.
    """
    return f"{count:,.0f} {noun(count, one, several)}" if isinstance(count, Real) else f"– {noun(count, one, several)}"


def amount(seconds: float) -> str:
    """How much audio there is: in hours, or in seconds where these would round to nothing."""
    return f"{seconds / 3600:.2f} h of audio" if seconds >= 36 else f"{seconds:.3g} s of audio"


def speed(audio_s: float, seconds: float) -> str:
    """How fast so much audio went through, with two digits at least however slow that was."""
    rate = audio_s / max(seconds, 1e-9)
    return f"{rate:.0f} h of audio per hour" if rate >= 10 else f"{rate:.2g} h of audio per hour"


def bar(total: float, unit: str, title: str) -> tqdm:
    """A progress bar with rate and time left; silent when stderr is not a terminal."""
    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return tqdm(total=total, unit=unit, desc=title, bar_format=layout, disable=None, leave=False, file=sys.stderr)
