"""Planning and doing jobs over many files."""

import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.batch import Job, plan, run_jobs


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    for name in ("a.png", "sub/b.JPG", "sub/c.gif", "notes.txt", ".hidden.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def targets(jobs, out):
    return sorted(j.target.relative_to(out).as_posix() for j in jobs)


def test_folders_keep_their_structure(folder, tmp_path):
    out = tmp_path / "out"
    assert targets(plan([str(folder)], out), out) == ["a.png", "sub/b.JPG", "sub/c.png"]


def test_patterns_files_and_duplicates(folder, tmp_path):
    jobs = plan([str(folder / "*.png"), str(folder / "a.png"), str(folder / "sub")], tmp_path / "o")
    assert targets(jobs, tmp_path / "o") == ["a.png", "b.JPG", "c.png"]


def test_results_inside_the_input_folder_are_not_inputs(folder):
    (folder / "out").mkdir()
    (folder / "out/a.png").touch()
    assert len(plan([str(folder)], folder / "out")) == 3


def test_one_picture_may_name_its_result(folder, tmp_path):
    assert plan([str(folder / "a.png")], tmp_path / "x.jpg")[0].target == tmp_path / "x.jpg"
    with pytest.raises(FacewrightError, match="one file"):
        plan([str(folder)], tmp_path / "x.jpg")


def test_what_would_lose_a_file_is_refused(folder, tmp_path):
    (folder / "sub/a.png").touch()
    with pytest.raises(FacewrightError, match="both be written"):
        plan([str(folder / "a.png"), str(folder / "sub/a.png")], tmp_path / "o")
    with pytest.raises(FacewrightError, match="would replace it"):
        plan([str(folder / "a.png")], folder)
    with pytest.raises(FacewrightError, match="no file, folder or match"):
        plan([str(folder / "z*.png")], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FacewrightError, match="no pictures"):
        plan([str(tmp_path / "empty")], tmp_path)


def test_failures_are_recorded_and_finished_work_is_skipped(tmp_path):
    jobs = [Job(tmp_path / f"{n}.in", tmp_path / f"{n}.out") for n in "abcd"]
    jobs[0].target.touch()
    seen = []

    def work(job):
        seen.append(job.source.stem)
        if job.source.stem == "b":
            raise FacewrightError("b is broken")
        if job.source.stem == "c":
            raise RuntimeError("out of memory")
        job.target.touch()
        return {"faces": 2}

    summary = run_jobs(jobs, work)
    assert seen == ["b", "c", "d"]
    assert summary.skipped == [tmp_path / "a.in"]
    assert list(summary.failed.values()) == ["b is broken", "RuntimeError: out of memory"]
    assert summary.done[0]["faces"] == 2 and summary.as_dict()["failed"][0]["error"]
    seen.clear()
    run_jobs(jobs, work)
    assert seen == ["b", "c"]
    run_jobs(jobs, work, overwrite=True)
    assert seen[2:] == ["a", "b", "c", "d"]


def test_ctrl_c_stops_the_batch(tmp_path):
    def work(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job(tmp_path / "a", tmp_path / "b")], work)
