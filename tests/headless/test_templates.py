"""Editor files become what ComfyUI's editor itself would send.

Its answers (graphToPrompt of the versions in `editor/record.py`) are kept in `editor/`: for the
official templates, whose files are in a package of their own, and for files made by hand.
"""

import importlib.util
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from facewright.headless.workflows.specs import specs_of
from facewright.headless.workflows.workflow import WorkflowError, read_workflow, to_api

FOLDER = Path(__file__).with_name("editor")
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


@pytest.fixture(scope="module")
def record():
    """The module that recorded the answers."""
    spec = importlib.util.spec_from_file_location("facewright_record", FOLDER / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def specs(record):
    return specs_of(record.kept(record.OBJECT_INFO))


def plain(api):
    """What makes a difference to a server: as JSON text, where 1 is 1.0 and not true."""
    nodes = {k: [n.get("class_type"), n["inputs"]] for k, n in api.items()}
    return json.dumps(json.loads(json.dumps(nodes), parse_int=float), sort_keys=True)


def compared(files, answers, specs):
    """Names of files that convert to something else, and sentences on those that are refused."""
    different, refused = [], {}
    for name, path in files.items():
        sent = answers[name]
        try:
            api = to_api(read_workflow(json.loads(path.read_text("utf-8"))), specs)
        except WorkflowError as error:
            refused[name] = str(error)
            continue
        if "error" in sent or plain(api) != plain(sent["output"]):
            different.append(name)
    return different, refused


def test_official_templates(record, specs):
    recorded = record.VERSIONS[record.PACKAGE]
    try:
        installed = version(record.PACKAGE)
    except PackageNotFoundError:
        installed = "none"
    if installed != recorded:
        pytest.skip(f"answers are kept for {record.PACKAGE} {recorded}, and {installed} is here")
    files, answers = record.template_files(), record.kept(record.TEMPLATES)
    different, refused = compared(files, answers, specs)
    # The editor itself has no answer for it: its curve widget cannot be copied.
    unanswered = {name for name, sent in answers.items() if "error" in sent}
    assert unanswered == {"basic_image_color_adjustment"}
    assert set(different) <= unanswered
    assert refused.keys() - unanswered == REFUSED.keys()
    for name, words in REFUSED.items():
        assert words in refused[name]
    equal = len(files) - len(refused.keys() | unanswered)
    assert equal >= 0.98 * len(files) > 490
