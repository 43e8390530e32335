"""Results on nodes in ComfyUI's editor, in a headless Chromium: after the job, and after more.

Both node modes, where the editor has both. What is needed, see `programs` in conftest.py; where
pictures go, `screenshots`.
"""

import pytest

pytestmark = pytest.mark.comfyui

SCORES = ("FacewrightImageScore", "FacewrightIdentityScore")
ALL = ("FacewrightDoctor", *SCORES)


@pytest.fixture(scope="module")
def seen(server, drive, screenshots):
    """What one browser saw, by node mode."""
    modes = ["classic", "vue"]
    return drive("results.mjs", 900, address=server.address, out=str(screenshots), modes=modes)


def texts(shown):
    return {kind: node["text"] for kind, node in shown.items()}


def test_every_text_stands_on_its_node_after_the_job(mode):
    (job,) = mode["told"]
    assert job["event"] == "execution_success" and set(job["texts"]) == set(ALL)
    assert texts(mode["shown"]) == job["texts"]
    for node in mode["shown"].values():
        assert node["boxes"] == 1 and node["readOnly"] and node["room"]
        assert node["height"] >= 48 and node["wraps"] == "pre-wrap"  # line breaks stay
    report = mode["shown"]["FacewrightDoctor"]
    assert report["whole"] > 5 * report["height"]  # scrolls


def test_a_table_is_shown_where_there_is_something_to_compare(mode):
    assert mode["pictures"]["FacewrightImageScore"] == 1
    assert "FacewrightIdentityScore" not in mode["pictures"]  # a single pair


def test_a_result_is_no_input_and_no_edit(mode):
    before, after, later = (mode[name] for name in ("before", "after", "clicked"))
    assert before["api"] == after["api"] and before["values"] == after["values"]
    assert after["kept"] == list(SCORES)  # what the doctor says is about this machine
    if before["sizes"] == later["sizes"]:  # some editors fit nodes to their widgets
        assert before["undo"] == later["undo"]


def test_pictures_do_not_hold_the_text_of_an_earlier_run(mode):
    jobs = mode["told"] + mode["queued"]
    assert len(jobs) == 4 and not any("facewright_result" in job["workflow"] for job in jobs)


def test_a_saved_workflow_opens_with_what_it_said(mode):
    (job,) = mode["told"]
    assert texts(mode["opened"]) == {kind: job["texts"][kind] for kind in SCORES}


def test_another_tab_and_undo_take_nothing_away(mode):
    (job,) = mode["told"]
    undone = mode["undone"]
    assert texts(mode["back"]) == texts(undone["shown"]) == texts(undone["again"]) == job["texts"]
    assert undone["undone"] == undone["from"] == undone["redone"] - 30


def test_of_several_jobs_the_last_one_stays(mode):
    assert [job["event"] for job in mode["queued"]] == ["execution_success"] * 3
    assert texts(mode["last"]) == mode["queued"][-1]["texts"]


def test_a_copy_in_another_tab_keeps_its_own(mode):
    there = mode["elsewhere"]
    assert there["busy"]
    assert there["before"] == there["there"] != there["here"]
    assert there["here"].startswith("PSNR") and "SSIM" not in there["here"]


def test_text_is_text_and_of_a_long_one_the_beginning_is_kept(mode):
    elements, text, lines, kept = mode["hostile"]
    assert (elements, text) == (0, '<img id="hostile" src="x">\n{{ 1 + 1 }}')
    assert lines == 5000 and kept[:2] == ["picture 0", "picture 1"]
    assert kept[-1] == f"and {5000 - (len(kept) - 1)} more lines: run again to see them"
    assert 500 < len(kept) < 1000


def test_nodes_in_subgraphs_have_their_results_after_a_reload_too(mode):
    if mode["subgraph"] is None:
        pytest.skip("this editor has no subgraphs")
    (job,) = mode["subgraph"]["told"]
    assert texts(mode["subgraph"]["shown"]) == job["texts"]
    assert texts(mode["reloaded"]) == {kind: job["texts"][kind] for kind in SCORES}


def test_the_editor_reports_no_fault(mode):
    # An old editor sets a setting before it has a workflow.
    known = "TypeError: Cannot read properties of undefined (reading 'id')"
    assert [fault for fault in mode["faults"] if fault != known] == []
