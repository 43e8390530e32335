"""Words of the generated lists in help pages, in each language that nodes are translated into."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Words:
    """A language's words around what the schemas say; braces stand for values."""

    inputs: str
    outputs: str
    in_a_graph: str
    advice: str
    trouble: str
    optional: str
    file: str
    toggle: str
    on: str
    off: str
    numbers: str
    steps: str
    text: str
    default: str
    chosen: str
    comma: str
    then: str
    line: str


LANGUAGES = {
    language: Words(**words)
    for language, words in json.loads(
        Path(__file__).with_suffix(".json").read_text("utf-8")
    ).items()
}
"""A language, as the editor calls it -> its words."""
ENGLISH = LANGUAGES["en"]
