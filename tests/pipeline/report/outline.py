"""A page taken apart: its elements, its sections, and what it draws by itself."""

import json
import re
from html.parser import HTMLParser

VOID = {"meta", "path", "use", "image", "input", "br", "link", "img"}


class Outline(HTMLParser):
    """The page's elements, their attributes, and its ids; complains of what is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        """Notes the element."""
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Notes an element without content."""
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        """Holds the end against the element that is open."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict]:
        """Attributes of the elements of these kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def section(page: str, id: str) -> str:
    """The HTML of one section."""
    return page.split(f'<section id="{id}">')[1].split("</section>")[0]


def drawings(page: str) -> dict:
    """What the page draws by itself."""
    return json.loads(re.search(r'<script type="application/json" id="drawings">(.*?)</script>', page, re.DOTALL)[1])


def drawn(page: str) -> list[str]:
    """The pictures of experiments, told as experiment, kind and task."""
    found = []
    for key, experiment in drawings(page)["experiments"].items():
        found += [f"{key} {'points' if 'points' in t else 'confusion'} {t['name']}" for t in experiment["tasks"]]
        found += [f"{key} losses {group['name']}" for group in experiment["curves"]]
    return found
