"""All files a run will write: known and distinct before it starts, whatever the inputs' names."""

import os
import random

import pytest
from facewright.core.errors import FacewrightError
from facewright.core.files.names import LONGEST, same_place
from facewright.core.files.scan import LeftAside
from facewright.headless.jobs.batch import run_jobs
from facewright.headless.jobs.planning import find_pictures, plan
from facewright.headless.make.align import AlignRun
from facewright.headless.make.align_photo import AlignOptions
from facewright.headless.make.degrade import DegradeOptions, DegradeRun
from facewright.headless.workflows.run_batch import plan_runs

BESIDE = ("_compare.png", ".receipts.json")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def written(jobs):
    return [p for job in jobs if not job.refused for p in (job.target, *job.further.values())]


def check(jobs):
    files = written(jobs)
    assert len({same_place(p) for p in files}) == len(files)
    assert not {same_place(p) for p in files} & {same_place(job.source) for job in jobs}
    assert all(len(os.fsencode(p.name)) <= LONGEST for p in files)


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (("a.png", "a.gif"), ("a.png", "a_gif.png")),
        (("a.gif", "a.tga", "a.png"), ("a_gif.png", "a_tga.png", "a.png")),
        (("a.gif", "a.png", "a_gif.png"), ("a_2.png", "a.png", "a_gif.png")),
        (("a.png", "b/a.png"), ("a.png", "a_2.png")),
        (("A.png", "b/a.PNG", "c/a.png"), ("A.png", "a_2.PNG", "a_3.png")),
        (("a", "a.png"), ("a_2.png", "a.png")),
    ],
)
def test_two_pictures_never_share_a_result(tmp_path, names, results):
    folder = touch(tmp_path / "in", *names)
    jobs = plan([str(folder / name) for name in names], tmp_path / "out", endings=BESIDE)
    assert [job.target.name for job in jobs] == list(results)
    check(jobs)


def test_a_comparison_is_not_written_over_a_neighbour(tmp_path):
    folder = touch(tmp_path / "in", "x.png", "x_compare.png", "x.png.receipts.png")
    jobs = {j.name: j for j in plan([str(folder)], tmp_path / "out", endings=BESIDE)}
    check(jobs.values())
    assert jobs["x_compare.png"].target.name == "x_compare.png"
    assert jobs["x.png"].beside("_compare.png").name == "x_compare_2.png"
    assert jobs["x.png"].beside(".receipts.json").name == "x.png.receipts.json"


def test_what_would_replace_its_source_is_refused_alone(tmp_path):
    folder = touch(tmp_path / "in", "a.png", "sub/b.png")
    jobs = plan([str(folder / "a.png"), str(folder / "sub/b.png")], folder)
    summary = run_jobs(jobs, lambda job: {})
    assert [entry["input"] for entry in summary.done] == [str(folder / "sub/b.png")]
    assert "would replace it" in summary.failed[folder / "a.png"]
    with pytest.raises(FacewrightError, match="would replace it"):
        plan([str(folder / "a.png")], folder)


def test_no_result_takes_the_place_of_another_source(tmp_path):
    folder = touch(tmp_path / "in", "a.gif", "a.png")
    jobs = plan([str(folder / "a.gif"), str(folder / "a.png")], folder)
    assert jobs[0].target.name == "a_gif.png" and jobs[1].refused
    check(jobs)


def test_a_file_given_twice_is_done_once(tmp_path):
    folder = touch(tmp_path / "in", "a.png")
    aside = LeftAside()
    given = [str(folder), str(folder / "a.png"), str(folder / "../in/a.png"), str(folder / "*.png")]
    assert len(plan(given, tmp_path / "out", aside=aside)) == 1 and not aside
    if os.name != "nt":
        (folder / "b.png").symlink_to(folder / "a.png")
        assert len(plan([str(folder)], tmp_path / "out", aside=aside)) == 1
        assert aside.named == {folder / "b.png": f"the same file as {folder / 'a.png'}"}


@pytest.mark.parametrize("name", ["face [v2]", "a*b", "what?", "[!x]", "{a,b}", "~x", "$x"])
def test_folders_called_like_patterns(tmp_path, name):
    folder = touch(tmp_path / name, "a.png", "b.jpg", "[c].png")
    out = tmp_path / "out"
    assert len(find_pictures([str(folder)], out)) == 3
    assert len(find_pictures([str(folder / "*.png")], out)) == 2
    assert len(find_pictures([str(folder / "[c].png")], out)) == 1
    assert len(find_pictures([str(folder / "[ab].*")], out)) == 2
    with pytest.raises(FacewrightError, match="no file, folder or match"):
        find_pictures([str(folder / "z*")], out)


def test_folders_that_a_pattern_matches_are_named(tmp_path):
    touch(tmp_path, "in/a.png", "in/sub/b.png")
    aside = LeftAside()
    assert len(find_pictures([str(tmp_path / "in/*")], tmp_path / "out", aside)) == 1
    assert list(aside.named) == [tmp_path / "in/sub"]
    assert len(find_pictures([str(tmp_path / "in/**")], tmp_path / "out")) == 2


def test_copies_are_not_written_over_neighbours(tmp_path):
    folder = touch(tmp_path / "in", "a.png", "a_2.png", "a_2_2.png", "a.gif")
    run = DegradeRun([str(folder)], tmp_path / "out", DegradeOptions(copies=3))
    assert len(run.jobs) == 12
    check(run.jobs)
    for job in run.jobs:
        assert run.folder / job.output == job.target
    kept = {job.target.name for job in run.jobs if job.copy == 1}
    assert kept == {"a.png", "a_2.png", "a_2_2.png", "a_gif.png"}


NAMES = ["a", "A", "a_2", "a_compare", "a_gif", "a_png", "a.png", "ü", "u\u0308", "x" * 250, "a_1"]
SUFFIXES = [".png", ".PNG", ".jpg", ".gif", ".tga", ".webp", ""]


@pytest.mark.parametrize("seed", range(40))
def test_any_names_give_distinct_files(tmp_path, seed):
    draw = random.Random(seed)
    names = {
        draw.choice(["", "s/", "t/"]) + draw.choice(NAMES) + draw.choice(SUFFIXES)
        for _ in range(draw.randrange(2, 30))
    }
    folder = touch(tmp_path / "in", *names)
    given = [str(folder / name) for name in sorted(names)]
    out = tmp_path / "out"
    jobs = plan(given, out, endings=BESIDE)
    assert len(jobs) == len(names)
    check(jobs)
    assert plan(given, out, endings=BESIDE) == jobs
    check(plan_runs(given, out))
    aligned = AlignRun(given, out, AlignOptions(analyzer="nano", size=64)).jobs
    check(aligned)
    assert len({job.output.casefold() for job in aligned}) == len(names)
    check(DegradeRun(given, out, DegradeOptions(copies=2)).jobs)


def test_align_removes_its_own_leftovers_and_no_others(tmp_path):
    folder = touch(tmp_path / "in", "a.png", "sub/b.jpg")
    out = touch(tmp_path / "out")
    out.mkdir()
    ours = (".a.png.abcdefgh.tmp", ".a_3.png.abc_1234.tmp", ".a.txt.00000000.tmp",
            "sub/.b_12.png.abcdefgh.tmp", ".align_manifest.jsonl.abcdefgh.tmp")  # fmt: skip
    others = (".download.tmp", ".c.png.abcdefgh.tmp", "a.png.tmp", ".a.docx.abcdefgh.tmp",
              "sub/.~b.tmp", "sub/.a.png.abcdefgh.tmp")  # fmt: skip
    touch(out, *ours, *others)
    run = AlignRun([str(folder)], out, AlignOptions(analyzer="nano", size=64))
    run.carry_out()  # the empty files fail singly
    left = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert left == {*others, "align_manifest.jsonl"}


@pytest.mark.skipif(os.name == "nt", reason="255 bytes")
def test_names_of_255_bytes_go_through(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for name in ("x" * 251 + ".png", "x" * 250 + "y.png", "\u540d" * 83 + ".gif"):
        Image.new("RGB", (32, 32), (9, 99, len(name) % 255)).save(tmp_path / "in" / name)
    inputs = [str(tmp_path / "in")]
    run = DegradeRun(inputs, tmp_path / "out", DegradeOptions(copies=3))
    summary = run.carry_out()
    assert not summary.failed and len(summary.done) == 9
    check(run.jobs)
    check(plan(inputs, tmp_path / "o", endings=BESIDE))
    again = DegradeRun(inputs, tmp_path / "out", DegradeOptions(copies=3)).carry_out()
    assert len(again.skipped) == 9
