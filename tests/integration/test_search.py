"""What ComfyUI's search boxes find, typed into in a headless Chromium; help in one's language; and
what new nodes start with.

What is needed, see `programs` in conftest.py.
"""

import pytest
from facewright.docs.build import page_path
from facewright.nodes import all_nodes

pytestmark = pytest.mark.comfyui

NAMES = {s.node_id: s.display_name for s in (node.GET_SCHEMA() for node in all_nodes())}
ONE_STEP, MODEL, VIDEO = (
    NAMES[f"Facewright{node}"] for node in ("OneStepRestore", "RestoreWithModel", "RestoreVideo")
)
DETECT, PASTE = NAMES["FacewrightDetectFaces"], NAMES["FacewrightPasteFaces"]
LORA = NAMES["FacewrightLoadLoRA"]
# What each search has to find; the first name of a list comes first of this pack's nodes.
BY_NAME = {
    "lora": [LORA],
    "load lora": [LORA],
    "restore face": [ONE_STEP, MODEL, VIDEO],
    "detect face": [DETECT],
    "paste face": [PASTE],
    "gfpgan": [MODEL],
    "codeformer": [MODEL],
    "osdface": [NAMES["FacewrightVREEncode"], ONE_STEP],
    "honestface": [NAMES["FacewrightLoadNanoHonestface"], ONE_STEP],
    "missing models": [NAMES["FacewrightDoctor"]],
}
BY_PHRASE = {
    "face restoration": [ONE_STEP, MODEL, VIDEO],
    "face enhance": [ONE_STEP, MODEL, VIDEO],
    "face detailer": [DETECT, PASTE, ONE_STEP, MODEL],
    "upscale face": [ONE_STEP, MODEL, VIDEO],
    "deblur": [ONE_STEP, MODEL, VIDEO],
    "old photo": [ONE_STEP, MODEL],
    "restoreformer": [MODEL],
    "face crop": [DETECT],
}
PHRASES_SINCE = (1, 49)
"""The first of the supported editors that searches phrases, not names alone."""
HELP = ("FacewrightDetectFaces", "FacewrightMatchPeople")
LANGUAGES = ("en", "zh", "ja", "es")
SAVED = {
    "FacewrightLoadFaceAnalyzer": ["skimage", True],
    "FacewrightOneStepRestore": [399, "sample", 5, "increment", 4],
}


@pytest.fixture(scope="module")
def seen(server, drive):
    return drive(
        "search.mjs",
        600,
        address=server.address,
        searches=[*BY_NAME, *BY_PHRASE],
        help=HELP,
        languages=LANGUAGES,
        saved=SAVED,
    )


@pytest.mark.parametrize("box", ["default", "v1 (legacy)"])
def test_words_that_people_type_find_our_nodes(seen, box):
    if box not in seen["found"]:
        pytest.skip("this editor has one search box")
    version = tuple(map(int, seen["version"].split(".")[:2]))
    wanted = BY_NAME | (BY_PHRASE if version >= PHRASES_SINCE else {})
    wrong = {}
    for words, names in wanted.items():
        found = [name for name in seen["found"][box][words] if name in NAMES.values()]
        if not {*names} <= {*found} or found[0] != names[0]:
            wrong[words] = found
    assert wrong == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_comes_in_the_readers_language_without_an_error(seen, language):
    there = seen["help"][language]
    assert there["failed"] == []
    for node_id, shown in there["pages"].items():
        title = page_path(node_id, language).read_text("utf-8").partition("\n")[0]
        assert shown["text"].startswith(title.removeprefix("# "))
        assert all(shown["pictures"]) and len(shown["pictures"]) == 1


def test_fresh_nodes_start_well_and_saved_ones_as_they_were(seen):
    for (detector, restorer), expected in zip(
        seen["fresh"], [("auto", "fixed"), ("skimage", "increment")], strict=True
    ):
        assert (detector["backend"], restorer["control_after_generate"]) == expected
