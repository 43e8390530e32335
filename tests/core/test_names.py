"""Names of files that are written: below their folder, free, and short enough."""

import itertools
import os
import random

import pytest
from facewright.core.errors import FacewrightError
from facewright.core.files.names import LONGEST, beside, fit_name, numbered, same_place
from facewright.core.files.writing import remove_leftovers, written_whole


def write_next(out, prefix, count=1, suffix=".png", **more):
    """As Save Image does."""
    paths = list(itertools.islice(numbered(out, prefix, suffix, **more), count))
    for path in paths:
        with written_whole(path) as temporary:
            temporary.write_text(prefix, "utf-8", "surrogatepass")
    return paths


def tree(top):
    return {os.path.join(at, f) for at, _, files in os.walk(top) for f in files}


@pytest.mark.parametrize(
    "prefix",
    ["face [v2]", "face*", "face?", "[!a]", "**/x", "a.b", "x_00001_", "100%", "%width", "_", "~"],
)
def test_two_runs_never_share_a_file(tmp_path, prefix):
    first = write_next(tmp_path, prefix, 3)
    second = write_next(tmp_path, prefix, 2)
    assert len({*first, *second}) == 5
    assert second[0].name.removesuffix("_.png").endswith("_00004")


@pytest.mark.parametrize("prefix", ["", ".", "a/..", "./", "a/b/../..", "a\\.."])
def test_a_prefix_that_names_no_file_stays_in_the_folder(tmp_path, prefix):
    out = tmp_path / "out"
    (path,) = write_next(out, prefix)
    assert path.parent == out and path.name == "ComfyUI_00001_.png"
    assert tree(tmp_path) == {str(path)}


@pytest.mark.parametrize(
    "prefix",
    ["..", "../x", "a/../../x", "..\\x", "/etc/x", "/", "C:\\x", "C:/x", "\\\\server\\x", "a\0b"],
)
def test_a_prefix_that_leaves_is_refused(tmp_path, prefix):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(FacewrightError, match="filename_prefix"):
        next(numbered(out, prefix, ".png"))
    assert not tree(tmp_path)


def test_a_link_to_elsewhere_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/there").symlink_to(tmp_path)
    with pytest.raises(FacewrightError, match="link"):
        next(numbered(tmp_path / "out", "there/x", ".png"))


def test_folders_may_be_divided_as_on_any_system(tmp_path):
    whole = tmp_path.resolve()
    assert next(numbered(whole, "a/b", ".png")) == whole / "a/b_00001_.png"
    assert next(numbered(whole, "a\\b", ".png")) == whole / "a/b_00001_.png"
    assert next(numbered(whole, f"{whole}/a/b", ".png")) == whole / "a/b_00001_.png"
    assert next(numbered(whole, "a/", ".png")) == whole / "a_00001_.png"


def test_numbers_go_on_whatever_else_lies_there(tmp_path):
    for name in ("x_00007_.png", "X_00009_.PNG", "x_12_.png", "x_\u0663_.png", "x_abc_.png",
                 "x_20261130235959_.png", f"x_{'9' * 200}_.png"):  # fmt: skip
        (tmp_path / name).touch()
    assert next(numbered(tmp_path, "x", ".png")).name == "x_00013_.png"


def test_dates_are_filled_in_as_in_comfyui(tmp_path):
    name = next(numbered(tmp_path, "%date:yyyy-MM-dd%/%year%_%batch_num%", ".png"))
    year = name.name.partition("_")[0]
    assert year.isdecimal() and name.parent.name.startswith(f"{year}-")
    assert name.name == f"{year}_0_00001_.png"
    both = itertools.islice(numbered(tmp_path, "b%batch_num%", ".png"), 2)
    assert [p.name for p in both] == ["b0_00001_.png", "b1_00002_.png"]


@pytest.mark.parametrize("prefix", ["con", "NUL.txt", "com1", "a:b", "x.", "lpt9 ", "a|b?", "<>"])
def test_windows_gets_names_that_it_takes(tmp_path, prefix):
    name = next(numbered(tmp_path, f"{prefix}/{prefix}", ".png", windows=True))
    for part in (name.parent.name, name.name):
        assert not set(part) & set('<>:"|?*') and part[-1] not in ". "
        assert part.split(".")[0].rstrip().lower() not in ("con", "nul", "com1", "lpt9")


_PIECES = [
    "a", "face", "..", ".", "/", "\\", "//", "[v2]", "*", "?", "{a,b}", "$HOME", "~", "%date%",
    "%date:yyyy/MM%", "%year%", "%batch_num%", ":", "C:", "con", "\n", "\t", " ", "ü", "\u0301",
    "\u540d\u524d", "\U0001f600", "\ud83d", "\udc80", "\0", "x" * 300, "ß" * 200, "_00001_", ".png",
    "%", "-", "'",
]  # fmt: skip


def fuzz(out, cases, seed):
    draw = random.Random(seed)
    for number in range(cases):
        prefix = "".join(draw.choices(_PIECES, k=draw.randrange(6)))
        before = tree(out.parent)
        windows = draw.random() < 0.5
        try:
            paths = write_next(out, prefix, 2, draw.choice([".png", ".mp4"]), windows=windows)
        except FacewrightError:
            assert tree(out.parent) == before
            continue
        made = tree(out.parent) - before
        assert made == {str(p) for p in paths} and len(made) == 2, prefix  # new, and none replaced
        for path in paths:
            inside = path.relative_to(out.resolve())
            assert ".." not in inside.parts
            assert max(len(os.fsencode(part)) for part in inside.parts) <= LONGEST
        if number % 50 == 49:  # listing everything each time would take the time of the test
            for file in tree(out):
                os.unlink(file)


def test_any_prefix_gives_new_files_below_the_folder(tmp_path):
    fuzz(tmp_path / "out", 150, 1)


@pytest.mark.slow
def test_any_prefix_gives_new_files_below_the_folder_at_length(tmp_path):
    fuzz(tmp_path / "out", 5000, 2)


@pytest.mark.parametrize("letter", ["a", "ü", "\u540d", "\U0001f600"])
@pytest.mark.parametrize("length", [200, 241, 242, 250, 255])
def test_names_up_to_the_systems_longest_are_written_whole(tmp_path, letter, length):
    size = len(letter.encode())
    name = letter * ((length - 4) // size) + ".png"
    path = tmp_path / (name + "x" * (length - len(name.encode())))
    with written_whole(path) as temporary:
        assert len(os.fsencode(temporary.name)) <= LONGEST
        temporary.write_text("whole")
    assert path.read_text() == "whole" and [path] == list(tmp_path.iterdir())


def test_leftovers_of_long_names_go_and_those_of_others_stay(tmp_path):
    paths = [
        tmp_path / "a.png",
        tmp_path / ("x" * 251 + ".png"),
        tmp_path / ("\u540d" * 83 + ".png"),
    ]
    for path in paths:
        with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
            data = temporary.name
            raise KeyboardInterrupt
        (tmp_path / data).touch()
    others = [".a.png.tmp", ".a.png.swp.tmp", ".b.png.abcdefgh.tmp", "a.png.abcdefgh.tmp",
              ".download.tmp", ".~lock.tmp", f".{'x' * 240}y.abcdefgh.tmp"]  # fmt: skip
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def test_shortened_names_differ_and_keep_their_ends(tmp_path):
    names = ["x" * 300 + end for end in ("a.png", "b.png", "_1.jpg", "a.tar.gz")]
    short = [fit_name(name) for name in names]
    assert len(set(short)) == 4 and all(len(n) <= LONGEST for n in short)
    assert [os.path.splitext(n)[1] for n in short] == [".png", ".png", ".jpg", ".gz"]
    long = tmp_path / ("\u540d" * 83 + ".png")
    assert beside(long, "_compare.png", stem=True).name.endswith("_compare.png")
    assert beside(long, ".receipts.json").name.endswith(".receipts.json")
    for path in (beside(long, "_compare.png", stem=True), beside(long, ".receipts.json")):
        path.touch()
    assert beside(tmp_path / "x.png", ".receipts.json").name == "x.png.receipts.json"


def test_paths_that_are_one_file_somewhere_are_equal(tmp_path):
    assert same_place(tmp_path / "A.png") == same_place(tmp_path / "sub/../a.PNG")
    assert same_place(tmp_path / "u\u0308") == same_place(tmp_path / "\u00fc")
    assert same_place(tmp_path / "a") != same_place(tmp_path / "b")
