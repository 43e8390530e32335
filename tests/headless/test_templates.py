"""Editor files become what ComfyUI's editor itself would send.

Its answers (graphToPrompt of the versions in `editor/record.py`) are kept in `editor/`: for the
official templates, whose files are in a package of their own, and for files made by hand.
"""

import json
from importlib.metadata import version

import pytest
from facewright.headless.workflows.specs import specs_of
from facewright.headless.workflows.workflow import WorkflowError, read_workflow, to_api

REFUSED = {
    **dict.fromkeys(
        (
            "api_hunyuan3d_model2uv",
            "api_hunyuan3d_part",
            "api_hunyuan3d_retopo_uv",
            "api_hunyuan3d_smart_topology",
        ),
        "only the editor makes",
    ),
    # Nodes of packs that were not there: the editor sends them without a class.
    "template_rob_realistic_2k_images_quick_variations": "ImageRemoveAlpha+",
    "templates_rob_realistic_2k_images_quick_variations.app": "ImageRemoveAlpha+",
    "templates_mjm_looped_restyler": "GetImageSizeAndCount",
}

BETTER = {
    # A node of a pack that is not there and leads nowhere: the editor sends it without a class.
    "foreign_unlinked",
    # The editor runs the nodes of a muted or bypassed group node.
    "group_node_mode_2",
    "group_node_mode_4",
    # The editor takes no link of such a file.
    "links_as_dicts_version_0.4",
    # A seed without the value behind it, and widgets by name: the editor shifts their values.
    "seed_none",
    "widgets_by_name",
}
"""Files of which more is kept than the editor keeps."""
UNCLEAR = {
    "link_missing_from_table": "leads nowhere",
    "record_audio_widget": "only the editor makes",
    "two_nodes_of_one_id": "have the number 7",
}
"""Files of which the editor makes something."""


@pytest.fixture(scope="module")
def specs(record):
    return specs_of(record.kept(record.OBJECT_INFO))


def plain(api):
    """What makes a difference to a server: as JSON text, where 1 is 1.0 and not true."""
    nodes = {k: [n.get("class_type"), n["inputs"]] for k, n in api.items()}
    return json.dumps(json.loads(json.dumps(nodes), parse_int=float), sort_keys=True)


def compared(workflows, answers, specs):
    """Names of those that convert to something else, and sentences on those that are refused."""
    different, refused = set(), {}
    for name, workflow in workflows.items():
        sent = answers[name]
        try:
            api = to_api(read_workflow(workflow), specs)
        except WorkflowError as error:
            refused[name] = str(error)
            continue
        if "error" in sent or plain(api) != plain(sent["output"]):
            different.add(name)
    return different, refused


def test_official_templates(record, official, specs):
    recorded, installed = record.VERSIONS[record.PACKAGE], version(record.PACKAGE)
    if installed != recorded:
        pytest.skip(f"answers are kept for {record.PACKAGE} {recorded}, and {installed} is here")
    answers = record.kept(record.TEMPLATES)
    different, refused = compared(official, answers, specs)
    # The editor itself has no answer for it: its curve widget cannot be copied.
    unanswered = {name for name, sent in answers.items() if "error" in sent}
    assert unanswered == {"basic_image_color_adjustment"}
    assert different <= unanswered
    assert refused.keys() - unanswered == REFUSED.keys()
    for name, words in REFUSED.items():
        assert words in refused[name]
    equal = len(official) - len(refused.keys() | unanswered)
    assert equal >= 0.98 * len(official) > 490


def test_what_no_template_has(record, specs):
    different, refused = compared(record.made(), record.kept(record.MADE), specs)
    assert different == BETTER
    assert refused.keys() == UNCLEAR.keys()
    for name, words in UNCLEAR.items():
        assert words in refused[name]
