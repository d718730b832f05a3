"""One key of a params file gets another value, and every other byte stays: comments, quotes, layout, line endings.

A YAML library that writes a whole file anew changes its layout wherever its own taste differs. Here the parser only
tells where the key stands, the new value is put there, and what comes out is read again: had anything else changed, as
it might where an alias gives one value to two keys, the edit is refused. Knows no section and no meaning of a key.
"""

import copy
from collections.abc import Sequence

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from strata.pipeline.errors import StageError
from strata.pipeline.study import yaml12


def with_value(text: str, path: Sequence[str], value: Sequence[int | str]) -> str:
    """The text of a YAML file in which one key holds a list, written in brackets.

    Args:
        text: of the file.
        path: the names of the mappings in each other, and of the key, which need not be there yet; all others are.
        value: items that need no quotes.

    Raises:
        StageError: it cannot be put there without changing something else.
    """
    *parents, key = path
    written = f"[{', '.join(map(str, value))}]"
    expected = copy.deepcopy(yaml12.load(text))
    _mapping(expected, parents)[key] = list(value)
    try:
        node = yaml12.compose(text)
        for name in parents:
            (node,) = (inner for outer, inner in node.value if outer.value == name)
        edited = _edited(text, node, key, written)
        found = yaml12.load(edited)
    except (ValueError, IndexError):
        found = None
    if found != expected:
        raise StageError(
            f"{'.'.join(parents)} cannot be edited without changing something else (an alias or a merge of another "
            f"section?): write `{key}: {written}` there by hand"
        )
    return edited


def _mapping(content: dict, names: Sequence[str]) -> dict:
    """The mapping below these names, as it would be if nothing else shared it."""
    for name in names:
        content[name] = copy.deepcopy(content[name])
        content = content[name]
    return content


def _edited(text: str, mapping: MappingNode, key: str, written: str) -> str:
    for name, node in mapping.value:
        if name.value == key:
            return _replaced(text, name, node, written)
    last, value = mapping.value[-1]
    end = max(last.end_mark.index, _end(value))  # an alias ends where it is, its value somewhere above
    if mapping.flow_style:
        return f"{text[:end]}, {key}: {written}{text[end:]}"
    indent = " " * mapping.value[0][0].start_mark.column
    line_end = _line_end(text, end)
    line_break = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:line_end]}{line_break}{indent}{key}: {written}{text[line_end:]}"


def _replaced(text: str, name: Node, node: Node, written: str) -> str:
    start, end = node.start_mark.index, _end(node)
    if "\n" not in text[name.end_mark.index : start]:
        return text[:start] + written + text[end:]
    # A block below its key: what stands beside the key stays, the block's lines go.
    colon = text.index(":", name.end_mark.index) + 1
    block = text.rindex("\n", 0, start)
    return f"{text[:colon]} {written}{text[colon:block].rstrip()}{text[_line_end(text, end) :]}"


def _end(node: Node) -> int:
    """Where a value's text ends; what the parser calls the end of a block is where the next thing begins."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _line_end(text: str, place: int) -> int:
    """The end of a line, before its break."""
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    return end - (text[end - 1 : end] == "\r")
