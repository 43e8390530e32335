"""Seeds of fresh and saved nodes, and what nodes say of the run before, in a headless Chromium.

Both node modes, where the editor has both. What is needed, see test_browser.py.
"""

import pytest
from facewright.core import demo
from facewright.core.lora.lacking import lacking

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

FIXED = ("FacewrightOneStepRestore", "FacewrightRestoreVideo")
REDRAWN = ("FacewrightDegrade", "KSampler")
GIVEN = [(kind, control) for kind in FIXED for control in ("randomize", "increment", "fixed")]
# As an artist goes to and fro: newer servers answer the later ones from what they remember.
RUNS = [
    {"weights": weights, "picture": picture}
    for weights, picture in (
        ("onestep", "group"),
        ("base", "group"),
        ("onestep", "group"),
        ("base", "group"),
        ("base", "group"),
        ("onestep", "face"),
        ("onestep", "group"),
    )
]


@pytest.fixture(scope="module")
def seen(server, drive):
    """What one browser saw, by node mode."""
    asked = {"fresh": [*FIXED, *REDRAWN], "given": GIVEN, "runs": RUNS}
    return drive("seeds.mjs", 900, address=server.address, modes=["classic", "vue"], **asked)


def test_seeds_of_fresh_nodes_stay_where_most_runs_do_not_depend_on_them(mode):
    fixed, redrawn = dict.fromkeys(FIXED, "fixed"), dict.fromkeys(REDRAWN, "randomize")
    assert mode["fresh"] == {**fixed, **redrawn}


def test_saved_nodes_keep_what_they_were_saved_with(mode):
    for kind, control in GIVEN:
        seen = mode["given"][f"{kind} {control}"]
        assert set(seen) >= {"opened", "copied", "undone"}
        assert seen == {key: [7, control] for key in seen}


def test_runs_leave_a_fresh_seed_as_it_is(mode):
    assert [run["event"] for run in mode["runs"]] == ["execution_success"] * len(RUNS)
    assert [run["seed"] for run in mode["runs"]] == [[0, "fixed"]] * len(RUNS)


def test_a_model_without_its_lora_is_told_of_until_a_run_with_it(mode):
    warnings = {"onestep": "", "base": lacking(whole=False, changed=())}
    expected = [warnings[run["weights"]] for run in RUNS]
    assert [run["warning"] for run in mode["runs"]] == expected
    assert [run["kept"] for run in mode["runs"]] == expected


def test_pictures_on_nodes_are_of_the_last_run(mode):
    for i, (run, seen) in enumerate(zip(RUNS, mode["runs"], strict=True)):
        size = list(demo.picture(run["picture"])[0].shape[:1:-1])
        remembered = not i or run["picture"] == RUNS[i - 1]["picture"]
        assert seen["size"] == size or (remembered and seen["size"] is None)


def test_the_editor_reports_no_fault(mode):
    # An old editor sets a setting before it has a workflow.
    known = "TypeError: Cannot read properties of undefined (reading 'id')"
    assert [fault for fault in mode["faults"] if fault != known] == []
