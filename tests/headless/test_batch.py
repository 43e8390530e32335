"""Planning and doing jobs over many files."""

import os
from collections import Counter
from contextlib import closing, contextmanager

import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.jobs.batch import Job, plan, run_jobs
from facewright.headless.jobs.workers import Team, Worker, WorkerLostError, spread


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


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A module that worker processes can import too."""
    (tmp_path / "workshop.py").write_text(
        "import os, signal\n"
        "def work(job):\n"
        "    if job.source.stem == 'b':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if job.source.stem == 'c':\n"
        "        raise RuntimeError('broken')\n"
        "    job.target.touch()\n"
        "    return {'process': os.getpid()}\n"
        "class Poison:\n"
        "    def __reduce__(self):\n"
        "        return os._exit, (7,)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import workshop

    return workshop


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_a_worker_that_dies_takes_only_its_own_job_along(tmp_path, workshop):
    jobs = [Job(tmp_path / f"{n}.in", tmp_path / f"{n}.out") for n in "abcde"]
    (tmp_path / ".a.out.x1y2.tmp").touch()
    (tmp_path / ".other.x1y2.tmp").touch()
    seen = []
    summary = run_jobs(
        jobs,
        workshop.work,
        workers=2,
        on_job=lambda job, why: seen.append((job.source.stem, bool(why))),
    )
    assert [d["input"][-4] for d in summary.done] == ["a", "d", "e"]
    assert os.getpid() not in {d["process"] for d in summary.done}
    assert summary.failed[jobs[2].source] == "RuntimeError: broken"
    assert "killed, perhaps for lack of memory" in summary.failed[jobs[1].source]
    assert sorted(seen) == [(name, name in "bc") for name in "abcde"]
    assert not (tmp_path / ".a.out.x1y2.tmp").exists(), "a killed writer's leftover stays"
    assert (tmp_path / ".other.x1y2.tmp").exists()


def test_workers_that_cannot_start_are_no_endless_loop(tmp_path, workshop):
    with pytest.raises(FacewrightError, match="ended with code 7"):
        run_jobs([Job(tmp_path / "a", tmp_path / "b")] * 3, workshop.Poison(), workers=2)


class Actor(Worker):
    """Dies over a job as often as `deaths` says, or before its first one."""

    def __init__(self, team):
        self.team, self.promise, self.job = team, object(), None

    def begin(self, job):
        assert self in self.team.hired
        self.job = job
        self.team.begun[job] += 1

    def answer(self):
        if self.team.deaths[self.job]:
            self.team.deaths[self.job] -= 1
            return WorkerLostError("is gone")
        return self.job and self.job.upper()

    def dismiss(self):
        self.team.hired.remove(self)


class Troupe(Team):
    def __init__(self, room, attempts, **deaths):
        self.room, self.attempts = room, attempts
        self.deaths, self.begun = Counter(deaths), Counter()
        self.hired, self.most = [], 0

    @contextmanager
    def gathered(self, work):
        yield self.room
        assert not self.hired, "somebody was not sent home"

    def hire(self):
        self.hired.append(Actor(self))
        self.most = max(self.most, len(self.hired))
        return self.hired[-1]

    def wait(self, promises):
        assert set(promises) == {worker.promise for worker in self.hired}
        return promises[-1:]


def shared_out(team, jobs):
    return sorted((job, str(result)) for job, result in spread(team, str.upper, jobs))


def test_a_lost_job_is_done_by_another_as_often_as_the_team_allows():
    once = Troupe(2, 1, b=1)
    assert shared_out(once, "abc") == [("a", "A"), ("b", "is gone"), ("c", "C")]
    often = Troupe(2, 3, b=2, c=9)
    told = ("c", "is gone, 3 times on different workers")
    assert shared_out(often, "abcd") == [("a", "A"), ("b", "B"), told, ("d", "D")]
    assert often.begun == {"a": 1, "b": 3, "c": 3, "d": 1}
    assert once.most == often.most == 2 and often.alive == 0


def test_no_more_are_hired_than_have_something_to_do():
    team = Troupe(8, 1)
    assert len(shared_out(team, "abc")) == team.most == 3
    assert shared_out(Troupe(8, 1), "") == []


def test_workers_who_never_begin_are_replaced_until_it_is_no_use():
    patient, hopeless = Troupe(2, 3), Troupe(2, 3)
    patient.deaths[None], hopeless.deaths[None] = 5, 6
    assert shared_out(patient, "ab") == [("a", "A"), ("b", "B")]
    with pytest.raises(WorkerLostError, match="is gone"):
        shared_out(hopeless, "ab")
    assert not hopeless.hired


def test_who_stops_listening_sends_all_home():
    team = Troupe(3, 1)
    with closing(spread(team, str.upper, "abcdefg")) as results:
        next(results)
        assert len(team.hired) == 3 and team.alive == 1
    assert not team.hired and team.alive == 0
