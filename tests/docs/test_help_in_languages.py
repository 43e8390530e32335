"""Help pages in other languages against the English ones: none missing, none out of date."""

import json
import re
from dataclasses import astuple

import pytest
from facewright.docs.build import BEGIN, END, LOCALES, PAGES, page_path, schemas, translated
from facewright.docs.languages import ENGLISH, LANGUAGES

WHOLE = ("zh", "ja", "es")
"""Languages with a page for every node; the other ones may have some."""
SCHEMAS = {schema.node_id: schema for schema in schemas()}
THERE = [
    (node_id, language)
    for node_id in SCHEMAS
    for language in sorted(LANGUAGES.keys() - {"en"})
    if page_path(node_id, language).exists()
]
# ComfyUI's own nodes that the pages name, by the titles its languages give them.
CORE = json.loads((LOCALES.parent / "tests" / "docs" / "core_nodes.json").read_text("utf-8"))


def names(language):
    """English titles of nodes, without brackets -> what they are called."""
    theirs = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    ours = {s.display_name: theirs[node_id]["display_name"] for node_id, s in SCHEMAS.items()}
    core = {english: there[language] for english, there in CORE.items()}
    return core | {plain(name): plain(title) for name, title in (ours | core).items()}


def plain(title):
    return re.sub(r"\s*\(.*\)$", "", title)


def sockets(language):
    """Ids of inputs and names of outputs -> what they are called, in whichever node."""
    theirs = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    found = {}
    for node_id, schema in SCHEMAS.items():
        for i in schema.inputs:
            found.setdefault(i.id, set()).add(theirs[node_id]["inputs"][i.id]["name"])
        for index, o in enumerate(schema.outputs):
            name = theirs[node_id]["outputs"][str(index)]["name"]
            found.setdefault(o.display_name or o.id, set()).add(name)
    return found


def by_hand(node_id, language="en"):
    text = page_path(node_id, language).read_text("utf-8").partition("\n")[2]
    return text.partition(BEGIN)[0] + text.partition(END)[2]


@pytest.mark.parametrize("language", WHOLE)
def test_no_page_is_missing(language):
    assert [node_id for node_id in SCHEMAS if not page_path(node_id, language).exists()] == []


def test_no_page_is_left_over():
    known = {page_path(i, language) for i in SCHEMAS for language in LANGUAGES if language != "en"}
    known |= {PAGES / node_id / "en.md" for node_id in SCHEMAS}
    assert {*PAGES.glob("*/*.md")} <= known


@pytest.mark.parametrize(("node_id", "language"), THERE)
def test_a_page_translates_what_the_english_one_says_now(node_id, language):
    """Lists and title are in test_help_pages.py: whatever follows from schemas is up to date."""
    mark = translated(page_path(node_id).read_text("utf-8"))
    assert by_hand(node_id, language).endswith(f"\n{mark}\n"), (
        "The English page has changed: bring this one up to date, take its last line out, and "
        "run python -m facewright.docs.build."
    )


@pytest.mark.parametrize(("node_id", "language"), THERE)
def test_a_page_has_the_parts_of_the_english_one(node_id, language):
    ours, theirs = by_hand(node_id), by_hand(node_id, language)
    same = dict(zip(astuple(ENGLISH), astuple(LANGUAGES[language]), strict=True))
    wanted = [same.get(title) for title in re.findall("^## (.+)$", ours, re.MULTILINE)]
    found = re.findall("^## (.+)$", theirs, re.MULTILINE)
    assert [title if wish else None for wish, title in zip(wanted, found, strict=True)] == wanted
    for kept in (
        r"\]\((images/[^)]+)\)",  # pictures
        r'^\* \*\*"(.+?)"\*\* ',  # messages, which are English; without the space nothing is bold
        r"`workflows/\w+\.json`",
        r"`(?:facewright|models|--)[^`]*`",
    ):
        assert re.findall(kept, ours, re.MULTILINE) == re.findall(kept, theirs, re.MULTILINE)
    points = [len(re.findall(r"^\* ", text, re.MULTILINE)) for text in (ours, theirs)]
    assert points[0] == points[1]


@pytest.mark.parametrize(("node_id", "language"), THERE)
def test_a_page_calls_nodes_and_sockets_by_the_names_they_bear(node_id, language):
    ours, theirs = by_hand(node_id), by_hand(node_id, language)
    titles, called = names(language), sockets(language)
    wrong = []
    for name in re.findall(r"(?<!\*)\*([A-Z][^*]*)\*(?!\*)", ours):
        name = " ".join(name.split())
        title = titles.get(name, titles.get(plain(name)))
        if title and title not in theirs:
            wrong.append(title)
    for word in set(re.findall(r"`([^`]+)`", ours)):
        there = called.get(word, {word})
        if not any(f"`{name}`" in theirs for name in {*there, word}):
            wrong.append(f"`{' or '.join(there)}`")
    number = re.compile(r"\d+(?:\.\d+)?")
    wrong += sorted(set(number.findall(ours)) - set(number.findall(theirs)))
    assert wrong == []


@pytest.mark.parametrize(("node_id", "language"), THERE)
def test_what_should_be_bold_is_bold(node_id, language):
    """Between letters that need no spaces, stars next to a comma or bracket stay stars."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt()
    shown = markdown.render(page_path(node_id, language).read_text("utf-8"))
    assert "**" not in re.sub("<code>.*?</code>", "", shown)
