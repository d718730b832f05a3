"""An edit of a params file: the key has its value, and no other byte is another."""

import pytest

from strata.pipeline.commands.layers.editing import with_value
from strata.pipeline.errors import StageError
from strata.pipeline.study import yaml12

VALUE = [0, 2, "last_hidden_state"]
WRITTEN = "[0, 2, last_hidden_state]"

CASES = {
    "flow": (
        'views:   # all\n  wavlm: {family: x, source: "a:b"} # a comment\n  mfcc:  {family: mfcc}\n',
        'views:   # all\n  wavlm: {family: x, source: "a:b", layers: LIST} # a comment\n  mfcc:  {family: mfcc}\n',
    ),
    "flow, there already": (
        "views: {wavlm: {family: x, layers: [0,  1], frames: [1]}}  # end",
        "views: {wavlm: {family: x, layers: LIST, frames: [1]}}  # end",
    ),
    "flow over lines": (
        "views:\n  wavlm: {family: x,   # one\n          source: 'y', # two\n  }\n",
        "views:\n  wavlm: {family: x,   # one\n          source: 'y', layers: LIST, # two\n  }\n",
    ),
    "block": (
        "views:\n    wavlm:  # large\n        family: x\n        source: y  # why\n\n    # another\n    mfcc: {}\n",
        "views:\n    wavlm:  # large\n        family: x\n        source: y  # why\n        layers: LIST\n\n"
        "    # another\n    mfcc: {}\n",
    ),
    "block at the end of a file": (
        "views:\n  wavlm:\n    family: x",
        "views:\n  wavlm:\n    family: x\n    layers: LIST",
    ),
    "block that ends in a list": (
        "views:\n  wavlm:\n    family: x\n    frames:\n    - 1 # one\n    - 2\ntasks: {}\n",
        "views:\n  wavlm:\n    family: x\n    frames:\n    - 1 # one\n    - 2\n    layers: LIST\ntasks: {}\n",
    ),
    "block, a word": (
        "views:\n  wavlm:\n    layers:   all  # 25\n    family: x\n",
        "views:\n  wavlm:\n    layers:   LIST  # 25\n    family: x\n",
    ),
    "block, a list": (
        "views:\n  wavlm:\n    layers: # some\n      - 0\n      - 5 # the last\n    # next\n    family: x\n",
        "views:\n  wavlm:\n    layers: LIST # some\n    # next\n    family: x\n",
    ),
    "block, upto": (
        "views:\n  wavlm:\n    family: x\n    layers:\n      upto: 5",
        "views:\n  wavlm:\n    family: x\n    layers: LIST",
    ),
    "Windows": (
        "views:\r\n  wavlm:\r\n    family: x # y\r\n  mfcc: {}\r\n",
        "views:\r\n  wavlm:\r\n    family: x # y\r\n    layers: LIST\r\n  mfcc: {}\r\n",
    ),
    "not ASCII": (
        "# λ, 🎙\nviews: # ünd\n  wavlm: {family: x} # ö\n",
        "# λ, 🎙\nviews: # ünd\n  wavlm: {family: x, layers: LIST} # ö\n",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_only_the_value_changes(case):
    """By hand, for every way to write a mapping and a list."""
    before, after = CASES[case]
    found = with_value(before, ("views", "wavlm", "layers"), VALUE)
    assert found == after.replace("LIST", WRITTEN)
    assert yaml12.load(found)["views"]["wavlm"]["layers"] == VALUE


@pytest.mark.parametrize("case", CASES)
def test_a_second_edit_changes_nothing(case):
    """Not a byte."""
    once = with_value(CASES[case][0], ("views", "wavlm", "layers"), VALUE)
    assert with_value(once, ("views", "wavlm", "layers"), VALUE) == once


@pytest.mark.parametrize(
    "text",
    [
        "views:\n  one: &base {family: x, layers: all}\n  wavlm: *base\n",
        "views:\n  wavlm: &base {family: x, layers: all}\n  one: *base\n",
        "views:\n  one: {layers: &all [0, 1]}\n  wavlm: {family: x, layers: *all}\n",
        "views:\n  wavlm: {family: x, layers: &all [0, 1]}\n  one: {layers: *all}\n",
        "base: &base {wavlm: {family: x}}\nviews:\n  <<: *base\n",
    ],
    ids=["an alias", "its anchor", "an alias as the value", "its anchor as the value", "a merge above"],
)
def test_what_would_change_something_else_is_refused(text):
    """An alias makes two sections one: the user is told what to write."""
    with pytest.raises(
        StageError, match=r"views.wavlm cannot be edited .* write `layers: \[0, 2, last_hidden_state\]`"
    ):
        with_value(text, ("views", "wavlm", "layers"), VALUE)


def test_a_section_that_merges_another_gets_a_key_of_its_own():
    """Whose value it then has, and the other has not."""
    before = "views:\n  one: &base {family: x, layers: all}\n  wavlm:\n    <<: *base # as one\n"
    after = f"{before}    layers: {WRITTEN}\n"
    assert with_value(before, ("views", "wavlm", "layers"), VALUE) == after
