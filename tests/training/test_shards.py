"""WebDataset tar shards as training data."""

import functools
import gzip
import http.server
import importlib.util
import io
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from facewright.training.data import Batches
from facewright.training.data.opening import open_source
from facewright.training.data.shard_files import expand_braces
from facewright.training.settings.config import ConfigError, ShardsData, TrainConfig
from PIL import Image

CPU = torch.device("cpu")


def png(seed, side=36):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, members, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **kwargs) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(folder_of_people, tmp_path):
    """The folder of people in three shards, as it is."""
    files = sorted(folder_of_people.rglob("*.png"))
    for i in range(3):
        members = {f.relative_to(folder_of_people).as_posix(): f.read_bytes()
                   for f in files[i * 6 : i * 6 + 6]}  # fmt: skip
        write_tar(tmp_path / "shards" / f"faces-{i:06d}.tar", members)
    return tmp_path / "shards"


@pytest.fixture
def data(tmp_path):
    def section(shards, **changes):
        return {"source": "shards", "shards": shards, "cache": tmp_path / "cache", "size": 32,
                "workers": 0, "identity": "parent", "held_out": 0.3, **changes}  # fmt: skip

    return section


def opened(section):
    return open_source(ShardsData(**section))


def config(section, **changes) -> TrainConfig:
    values = {"output": "unused", "budget": {"max_steps": 1}, "batch_size": 4, "data": section}
    return TrainConfig(**{**values, "optimizers": {"main": {}}, **changes})


def stream(section, steps=8, first=0, **changes):
    batches = Batches(config(section, **changes), CPU)
    steps = itertools.islice(batches.train(first_step=first), steps)
    return [b for step in steps for b in step] + list(batches.validation())


def same(a, b):
    return all(
        x.keys() == y.keys()
        and all(torch.equal(x[k], y[k]) if torch.is_tensor(x[k]) else x[k] == y[k] for k in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("changes", [{}, {"views": 2}, {"references": 2}, {"identity": "file"}])
def test_shards_of_a_folder_train_as_the_folder_does(folder_of_people, shards, data, changes):
    section = data(f"{shards}/faces-{{000000..000002}}.tar", **changes)
    folder = {k: v for k, v in section.items() if k not in ("shards", "cache")}
    folder |= {"source": "folder", "folder": folder_of_people}
    degraded = {"degradation": {"presets": ["mild"]}}
    assert same(stream(section, **degraded), stream(folder, **degraded))
    for a, b in zip(opened(section), open_source(config(folder).data), strict=True):
        assert a.digest() == b.digest()
        assert [a.name(i) for i in range(3)] == [b.name(i) for i in range(3)]


def test_steps_do_not_depend_on_where_a_run_starts_or_on_workers(shards, data):
    section = data(f"{shards}/*.tar", workers=0)
    assert same(stream(section, 6)[3:], stream(section, 3, first=3))
    photos, _ = opened(section)
    again = pickle.loads(pickle.dumps(photos))
    assert torch.equal(again.load(5).pixels, photos.load(5).pixels)


@pytest.mark.slow  # a process that starts anew takes seconds to import torch
def test_worker_processes_read_the_same(shards, data):
    two = stream(data(f"{shards}/*.tar", workers=2), 6)
    assert same(stream(data(f"{shards}/*.tar", workers=0), 6), two)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar command")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_tars_of_the_tar_command_are_read(folder_of_people, tmp_path, data, form):
    if form in ("gnu", "pax"):  # longer than the 100 characters of a plain header
        (folder_of_people / "p1").rename(folder_of_people / ("ö" * 60 + "x" * 60))
    command = ["tar", f"--format={form}", "-cf", str(tmp_path / "all.tar"), "."]
    subprocess.run(command, cwd=folder_of_people, check=True)
    files = {f.relative_to(folder_of_people).with_suffix("").as_posix(): f
             for f in folder_of_people.rglob("*.png")}  # fmt: skip
    seen = set()
    for photos in opened(data(str(tmp_path / "all.tar"), size=36)):
        for index in itertools.chain(*photos.by_identity):
            file = files[photos.name(index)]
            expected = np.array(Image.open(file))[:, 2:38].transpose(2, 0, 1)
            assert (photos.load(index).pixels.numpy() == expected).all()
            seen.add(file)
    assert seen == set(files.values())


def test_members_are_put_together_by_the_name_up_to_the_first_dot(tmp_path, data):
    members = {
        "ada.v2/001.PNG": png(1), "ada.v2/001.txt": "\ufeffa woman\n".encode(),
        "ada.v2/001.lq.png": png(2, 12), "ada.v2/001.json": b"{}", "ada.v2/001.seg.png": png(3),
        "ada.v2/._001.png": b"left by another system", "README": b"",
        "bob/1.jpeg": png(4), "bob/1.lq.webp": png(5), "bob/2.txt": b"of no picture",
    }  # fmt: skip
    section = data(str(write_tar(tmp_path / "a.tar", members)), size=36)
    train, held_out = opened({**section, "captions": True, "lq": True})
    photos = {p.name(0): p.load(0) for p in (train, held_out)}
    assert photos.keys() == {"ada.v2/001", "bob/1"}
    ada = photos["ada.v2/001"]
    assert ada.caption == "a woman" and photos["bob/1"].caption == ""
    expected = np.array(Image.open(io.BytesIO(png(1))))[:, 2:38].transpose(2, 0, 1)
    assert (ada.pixels.numpy() == expected).all()
    small = Image.open(io.BytesIO(png(2, 12))).crop((2, 0, 14, 12))
    small = np.array(small.resize((36, 36), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert (ada.lq.numpy() == small).all()
    # Not asked for, not read.
    plain = next(p for p in opened(section) if p.name(0) == "ada.v2/001").load(0)
    assert plain.lq is None and plain.caption == ""


def test_counterparts_stand_in_for_a_degradation(tmp_path, data):
    members = {f"p{i}/a.{kind}": png(i) for i in range(6) for kind in ("png", "lq.png")}
    path = write_tar(tmp_path / "a.tar", members)
    assert config(data(str(path), lq=True)).data.brings_lq
    batch = stream(data(str(path), lq=True), 1)[0]
    assert torch.equal(batch["lq"], batch["gt"])  # mirrored alike
    members.pop("p3/a.lq.png")
    write_tar(path, members)
    with pytest.raises(ConfigError, match=r"p3/a\.png has no degraded.*p3/a\.lq\.png was expected"):
        opened(data(str(path), lq=True))


def test_names_that_start_anew_in_each_shard_are_told_apart(tmp_path, data):
    for i in range(2):
        write_tar(tmp_path / f"s{i}.tar", {f"{j}.png": png(10 * i + j) for j in range(4)})
    photos = opened(data(f"{tmp_path}/s*.tar", identity="file"))
    names = {p.name(i) for p in photos for i in range(sum(map(len, p.by_identity)))}
    assert names == {f"s{i}-{j}" for i in range(2) for j in range(4)}
    assert all(len(group) == 1 for p in photos for group in p.by_identity)
    # The folder stays the person's.
    for i in range(2):
        write_tar(tmp_path / f"s{i}.tar", {f"{p}/1.png": png(i) for p in ("ada", "bob")})
    assert [len(p.by_identity[0]) for p in opened(data(f"{tmp_path}/s*.tar"))] == [2, 2]


def test_shards_come_from_any_file_system(shards, data, tmp_path):
    local = stream(data(f"{shards}/*.tar"), 3)
    assert same(local, stream(data(f"file://{shards}/faces-{{000000..000002}}.tar"), 3))
    memory = fsspec.filesystem("memory")
    for file in shards.glob("*.tar"):
        memory.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    try:
        section = data("memory://bucket/faces-*.tar")
        assert same(local, stream(section, 3))
        copies = sorted((tmp_path / "cache").glob("*.tar"))
        assert [c.read_bytes() for c in copies] == [
            f.read_bytes() for f in sorted(shards.iterdir())
        ]
        memory.pipe_file(
            "/bucket/faces-000001.tar", (shards / "faces-000001.tar").read_bytes()[:-1]
        )
        opened(section)  # another file now: copied again, the old one stays for a run that has it
        assert len(list((tmp_path / "cache").glob("*.tar"))) == 4
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.fixture
def served(shards):
    """The shards behind http://, and what was asked for."""
    pytest.importorskip("aiohttp")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(f"{self.command} {self.path}")

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(shards))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_shards_behind_a_url_are_copied_once(served, shards, data):
    url, asked = served
    section = data(f"{url}/faces-{{000000..000002}}.tar?key=a%2Ab")
    assert same(stream(section, 3), stream(data(f"{shards}/*.tar"), 3))
    asked.clear()
    stream(section, 3)
    assert not [a for a in asked if a.startswith("GET")]
    with pytest.raises(ConfigError, match=r"1 of 2 shards .* not there: http.*000003\.tar"):
        opened(data(f"{url}/faces-{{000002..000003}}.tar"))


def test_a_broken_copy_leaves_nothing_behind(data, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.tar", b"x" * 100)
    monkeypatch.setattr(
        type(memory), "get_file", lambda self, path, to, **_: Path(to).write_bytes(b"x" * 60)
    )
    try:
        with pytest.raises(ConfigError, match=r"60 of 100 bytes came.*goes on with this one"):
            opened(data("memory://bucket/a.tar"))
        assert not list((tmp_path / "cache").iterdir())
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_disk_without_room_is_found_before_the_first_copy(data, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.tar", b"x" * 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 9))
    try:
        with pytest.raises(ConfigError, match=r"0\.0 GB, and .* free.*data\.cache"):
            opened(data("memory://bucket/a.tar"))
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("url", "words"), [("nosuch://a/b.tar", "nosuch"), ("s3://bucket/a.tar", "s3fs")]
)
def test_what_is_not_installed_is_named(data, url, words):
    if words == "s3fs" and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(ConfigError, match=words):
        opened(data(url))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{train,test-{0..1}}.tar", ["train.tar", "test-0.tar", "test-1.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("odd{x}.tar", ["odd{x}.tar"]),
    ],
)
def test_braces_are_expanded_as_bash_does(pattern, names):
    assert sorted(expand_braces(pattern)) == sorted(names)
    if bash := shutil.which("bash"):
        said = subprocess.check_output([bash, "-c", f"echo {pattern}"], text=True)
        assert sorted(said.split()) == sorted(expand_braces(pattern))


def test_an_index_is_made_once_for_each_state_of_a_shard(shards, data, tmp_path, monkeypatch):
    section = data(f"{shards}/*.tar")
    opened(section)
    files = sorted((tmp_path / "cache").glob("faces-000001-*.json"))
    assert len(files) == 1
    naive = {}
    raw = (shards / "faces-000001.tar").read_bytes()
    for start in [m.start() for m in re.finditer(b"\x89PNG", raw)]:
        naive[start] = raw[start : raw.index(b"IEND", start) + 8]
    saved = json.loads(files[0].read_text())
    assert {offset: raw[offset : offset + size] for _, offset, size in saved["members"]} == naive

    def never(*args, **kwargs):
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", never)
        opened(section)
    files[0].write_text("{")  # half there: made anew
    assert len(opened(section)[0].samples) == 12
    # Touched or changed, it is another one.
    os.utime(shards / "faces-000001.tar", ns=(1, 1))
    opened(section)
    assert len(list((tmp_path / "cache").glob("faces-000001-*.json"))) == 2


@pytest.mark.parametrize(
    ("form", "command"), [("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")]
)
def test_compressed_shards_are_refused(tmp_path, data, form, command):
    path = tmp_path / "a.tar"  # whatever it is called
    with tarfile.open(path, f"w:{form}") as tar:
        tar.addfile(tarfile.TarInfo("p0/a.png"))
    with pytest.raises(ConfigError, match=f"is compressed .*plain tar.*`{command}`"):
        opened(data(str(path)))


def test_shards_that_are_not_there_are_named(shards, data, tmp_path):
    with pytest.raises(ConfigError, match=r"2 of 5 shards .*000003\.tar, .*000004\.tar"):
        opened(data(f"{shards}/faces-{{000000..000004}}.tar"))
    with pytest.raises(ConfigError, match=r"no file fits .*nothing"):
        opened(data(f"{tmp_path}/nothing-*.tar"))
    with pytest.raises(ConfigError, match=r"1 of 1 shards .*not there"):
        opened(data(str(shards)))  # a folder


def test_shards_without_people_or_captions_are_refused(tmp_path, data):
    path = str(write_tar(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(3)}))
    with pytest.raises(ConfigError, match=r"3 pictures of 1 people.*begins with the pers"):
        opened(data(path))
    with pytest.raises(ConfigError, match=r"none of the 3 pictures has a text.*0\.txt"):
        opened(data(path, identity="file", captions=True))
    path = str(write_tar(tmp_path / "b.tar", {"one.two.png": png(0)}))
    with pytest.raises(ConfigError, match=r"0 pictures of 0 people.*first dot"):
        opened(data(path))


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def test_a_shard_that_is_cut_off_gives_what_stands_before(shards, data):
    cut(shards / "faces-000001.tar", 0.5)
    batches = Batches(config(data(f"{shards}/*.tar")), CPU)
    (name,) = batches.skipped
    assert name.endswith("faces-000001.tar") and "cut off" in batches.skipped[name]
    total = sum(len(p.samples) for p in (batches.train_photos, batches.validation_photos))
    assert 12 < total < 18
    for photos in (batches.train_photos, batches.validation_photos):
        for i in range(len(photos.samples)):
            photos.load(i)
    assert same(stream(data(f"{shards}/*.tar")), stream(data(f"{shards}/*.tar")))


@pytest.mark.parametrize(
    "garbage",
    [b"", b"no tar at all" * 99, gzip.compress(b"x", mtime=0)[2:]],
    ids=["nothing", "text", "bytes"],
)
def test_a_shard_of_garbage_is_left_out(shards, data, garbage):
    (shards / "faces-000001.tar").write_bytes(garbage)
    batches = Batches(config(data(f"{shards}/*.tar")), CPU)
    assert [n.rpartition("/")[2] for n in batches.skipped] == ["faces-000001.tar"]
    assert len(batches.train_photos.by_identity) + len(batches.validation_photos.by_identity) == 4


def test_a_header_that_is_damaged_is_not_taken_for_the_end(shards, data):
    path = shards / "faces-000002.tar"
    raw = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        header = tar.getmembers()[3].offset
    raw[header : header + 100] = b"\xff" * 100
    path.write_bytes(raw)
    photos, _ = opened(data(f"{shards}/*.tar"))
    assert "3 whole files stand before" in photos.damage()[str(path)]


def test_two_pictures_of_one_name_are_named(tmp_path, data):
    members = {"p0/a.png": png(0), "p0/a.jpg": png(1), "p1/a.png": png(2)}
    photos, _ = opened(data(str(write_tar(tmp_path / "a.tar", members))))
    (entry,) = photos.damage().items()
    assert entry[0].endswith("p0/a.jpg") and "with p0/a.png" in entry[1]
