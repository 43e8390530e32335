"""Paths and names as users and files give them."""

import pytest
from facewright.core.errors import FacewrightError, shorten
from facewright.core.files.writing import expand_path


def test_home_and_variables_are_replaced_as_a_shell_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("RUNS", "runs/first")
    assert expand_path("~/a") == tmp_path / "a"
    assert expand_path("$RUNS/b").as_posix() == "runs/first/b"
    assert expand_path("${RUNS}").as_posix() == "runs/first"
    assert expand_path("plain/c").as_posix() == "plain/c"


@pytest.mark.parametrize("given", ["", "  ", "a\0b", "$NOT_SET_HERE/x", "${NOT_SET_HERE}"])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(FacewrightError):
        expand_path(given)


def test_a_file_that_is_really_called_so_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$NOT_SET_HERE").touch()
    assert expand_path("$NOT_SET_HERE").name == "$NOT_SET_HERE"


def test_names_are_shortened_to_one_printable_line():
    assert shorten("short") == "short"
    assert shorten("a\nb\x1b[31m") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m"
    long = shorten("x" * 50 + "y" * 10**6)
    assert len(long) == 80 and long.startswith("x" * 39) and long.endswith("...yyy"[3:])
    assert len(shorten("z" * 81)) == 80
