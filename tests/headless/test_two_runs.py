"""Two runs at once, each with a models folder of its own: neither sees the other's files."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from facewright.core.devices import asked_device, asked_format, computing_on
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.files.search import model_roots
from facewright.core.host import find_host
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.people.person import Person
from facewright.headless import load_restorer
from facewright.headless.jobs.batch import carried_out
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import WorkflowError

VRE = "facewright/osdface_vre.safetensors"
READ = {
    "person": {"class_type": "FacewrightLoadPerson", "inputs": {"album": "people/one.person"}},
    "vre": {
        "class_type": "FacewrightLoadVRE",
        "inputs": {"embedder": "osdface_vre.safetensors", "projector": "none"},
    },
    "shown": {"class_type": "PreviewAny", "inputs": {"source": ["person", 3]}},
    "shown too": {"class_type": "PreviewAny", "inputs": {"source": ["vre", 0]}},
}
SEARCH = {
    "faces": {"class_type": "FacewrightLoadFaceAnalyzer", "inputs": {"backend": "facexlib"}},
    "shown": {"class_type": "PreviewAny", "inputs": {"source": ["faces", 0]}},
}


@pytest.fixture
def two(osdface_files, tmp_path):
    """Models folders with files of the same names: other albums, other embedders."""
    folders = [osdface_files, tmp_path / "other"]
    shutil.copytree(*folders)
    vre = VisualRepresentationEmbedder.from_files(folders[1] / VRE)
    with torch.no_grad():
        for weight in vre.parameters():
            weight.add_(1)
    vre.save(folders[1] / VRE)
    for folder, name in zip(folders, ("Ada", "Bo"), strict=True):
        (folder / "facewright/people").mkdir()
        Person(
            name=name,
            crops=torch.zeros(1, 3, 64, 64),
            embeddings=torch.eye(1, 8),
            landmarks=torch.zeros(1, 68, 2),
            quality=torch.ones(1),
            recogniser="arcface-0",
            sources=("a.png",),
        ).save(folder / "facewright/people/one.person")
    return folders


def embedder(folder):
    return VisualRepresentationEmbedder.from_files(folder / VRE).state_dict()


def same(vre, weights):
    return all(torch.equal(value.cpu(), weights[key]) for key, value in vre.state_dict().items())


def test_runs_in_two_threads_read_their_own_folders(two, tmp_path):
    together = Barrier(2, timeout=60)

    def run(folder):
        outputs = run_workflow(
            READ, models=folder, output_dir=tmp_path, on_node=lambda *node: together.wait()
        )
        with pytest.raises(WorkflowError) as error:
            run_workflow(SEARCH, models=folder, on_node=lambda *node: together.wait())
        return outputs["person"][0].name, outputs["vre"][0], str(error.value)

    with ThreadPoolExecutor(2) as pool:
        (ada, a, a_said), (bo, b, b_said) = pool.map(run, two)
    assert (ada, bo) == ("Ada", "Bo")
    assert same(a, embedder(two[0])) and same(b, embedder(two[1]))
    assert not same(a, embedder(two[1]))
    for said, own, other in ((a_said, *two), (b_said, *two[::-1])):
        assert f"{own}" in said and f"{other}" not in said


def test_restorers_of_two_threads_read_their_own_folders(two):
    diffusers_classes()
    together = Barrier(2, timeout=60)

    def load(folder):
        together.wait()
        return load_restorer("osdface", folder, analyzer="nano")

    with ThreadPoolExecutor(2) as pool:
        restorers = list(pool.map(load, two))
    lq = torch.rand(1, 3, 32, 32)
    for restorer, folder in zip(restorers, two, strict=True):
        own = VisualRepresentationEmbedder.from_files(folder / VRE)
        torch.testing.assert_close(restorer.method.embed(lq, [None]).cpu(), own(lq))


def where(job):
    return [str(root) for root in model_roots(None)], asked_device(), asked_format()


def test_processes_look_and_compute_where_this_one_does(models_in, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEWRIGHT_MODELS", "elsewhere")
    models_in(tmp_path)
    with computing_on("cpu:0", "fp16"):
        ((_, there),) = carried_out(where, [1], 2)
    assert there[0][0] == str(tmp_path) and there[1:] == ("cpu:0", "fp16")
    assert not [root for root in there[0] if "elsewhere" in root]


def test_nothing_is_set_on_the_host_of_a_run(models_in, tmp_path):
    from facewright.core.host import host

    models_in(tmp_path)
    assert host.folders.roots == find_host().folders.roots == [tmp_path]
    with pytest.raises(AttributeError):
        host.folders = None
    with pytest.raises(AttributeError):
        find_host().folders = None
