"""YAML as DVC reads it: version 1.2, by the very loader that DVC uses.

params.yaml, dvc.yaml, dvc.lock and recipes are read by DVC and by Strata, and have to mean the same to both: `3e1` is a
number, `no` is a word, a key that stands twice is a mistake. Knows no file and no section. (`hyperparams.yaml` of a
SpeechBrain checkpoint is of another dialect, and read in `extractors.speechbrain_yaml`.)
"""

import io
import re
from collections.abc import Callable
from typing import Any

_TWICE = re.compile(r'found duplicate key "(.*)" with value', re.S)


class NotYAML(ValueError):
    """A text that is not YAML, or not as DVC takes it: one line, with the place."""


def load(text: str) -> Any:
    """What a text says; None where it says nothing.

    Raises:
        NotYAML: the text cannot be read, or a mapping has a key twice.
    """
    return _read(text, _loader().load)


def compose(text: str) -> Any:
    """The tree of nodes of a text, each with where it begins and ends; None where there is none.

    Raises:
        NotYAML: the text cannot be read.
    """
    return _read(text, _loader(pure=True).compose)


def dump(value: object, flow: bool = False) -> str:
    """A value as the text that `load` turns into it again, keys in their order.

    Args:
        value: mappings, lists, texts, numbers, truth values and None.
        flow: on one line, in braces and brackets.
    """
    yaml = _loader()
    yaml.default_flow_style = flow
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 2**31 - 1 if flow else 100
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()


def rewritten(text: str, change: Callable[[dict], None]) -> str:
    """A file's text after a change of its content, comments and order kept.

    Args:
        text: of a file that holds a mapping.
        change: changes the mapping in place.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 2**31 - 1
    content = yaml.load(text)
    change(content)
    text = io.StringIO()
    yaml.dump(content, text)
    return text.getvalue()


def _loader(pure: bool = False):
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=pure)


def _read(text: str, how: Callable[[str], Any]) -> Any:
    from ruamel.yaml import YAMLError
    from ruamel.yaml.constructor import DuplicateKeyError

    try:
        return how(text)
    except DuplicateKeyError as error:
        twice = _TWICE.match(error.problem or "")
        key = f"the key {twice[1]!r}" if twice else "a key"
        raise NotYAML(f"line {error.problem_mark.line + 1}: {key} stands twice in one section; keep one") from None
    except (YAMLError, ValueError, LookupError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        if isinstance(error, LookupError):  # ruamel.yaml's, of `!!bool x` and `!!int ''`
            what = f"a tag such as !!int before what is none ({what})"
        raise NotYAML(f"line {mark.line + 1}: {what}" if mark else what) from None
