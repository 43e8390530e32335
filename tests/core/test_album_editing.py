"""Albums changed: which photos are meant, what is left, what joins, which are the most useful."""

import dataclasses
import itertools
import shlex

import pytest
import torch
import torch.nn.functional as F
from facewright.core.drawing.album import album_sheet
from facewright.core.errors import FacewrightError
from facewright.core.people.editing import best, merged, renamed, without
from facewright.core.people.outliers import strangers, suspects
from facewright.core.people.person import Person
from facewright.core.people.photos import command, find_photos, handles, labels

PARTS = ("crops", "embeddings", "landmarks", "quality")


def person(n=5, seed=0, *, spread=0.25, sources=None, name="Ada"):
    """Photos of one person as a recogniser of 128 numbers may see them: cosines of about 0.94."""
    draw = torch.Generator().manual_seed(seed)
    center = F.normalize(torch.randn(128, generator=draw), dim=0)
    noise = torch.randn(n, 128, generator=draw) / 128**0.5
    return Person(
        name=name,
        crops=torch.rand(n, 3, 16, 16, generator=draw).mul(255).round() / 255,
        embeddings=F.normalize(center + spread * noise, dim=1),
        landmarks=torch.rand(n, 68, 2, generator=draw) * 16,
        quality=torch.linspace(0.4, 0.7, n),
        recogniser="nano-identity:0",
        sources=tuple(sources or (f"{i}.png" for i in range(n))),
    )


def with_look_alike(album, cosine, seed=5):
    """The last photo becomes somebody's whose cosine to the others' mean is this."""
    center = F.normalize(album.embeddings[:-1].sum(0), dim=0)
    other = torch.randn(128, generator=torch.Generator().manual_seed(seed))
    other = F.normalize(other - (other @ center) * center, dim=0)
    fake = cosine * center + (1 - cosine**2) ** 0.5 * other
    embeddings = torch.cat([album.embeddings[:-1], fake[None]])
    return dataclasses.replace(album, embeddings=embeddings)


def test_photos_are_taken_out_by_name_and_by_number():
    album = person(sources=["a.png", "b.png", "a.png", "3", "x, y.png"])
    assert labels(album)[:3] == ["a.png (number 0)", "b.png", "a.png (number 2)"]
    less, said = without(album, ["2", "b.png"])
    assert less.sources == ("a.png", "3", "x, y.png")
    for part in PARTS:
        assert torch.equal(getattr(less, part), getattr(album, part)[[0, 3, 4]])
    assert said == ["b.png: taken out", "a.png (number 2): taken out"]
    assert len(album) == 5, "what was given stays"
    for given, words in (
        ("a.png", r"more than one photo .*#0 \(a.png\) or #2 \(a.png\)"),
        ("nobody.png", r"no photo 'nobody.png'. Its 5 photos: 0: a.png, 1: b.png"),
        ("5", "no photo '5'"),
        ("-1", "no photo '-1'"),
        ("", "no photo ''"),
    ):
        with pytest.raises(FacewrightError, match=words):
            without(album, [given])
    named = person(4, sources=["3", "b", "c", "d"])
    with pytest.raises(FacewrightError, match=r"#0 \(3\) or #3 \(d\)"):
        without(named, ["3"])
    assert find_photos(named, ["#3"]) == [3] and find_photos(named, ["#0", "0"]) == [0]
    with pytest.raises(FacewrightError, match=r"all its 5 photos .* would be empty"):
        without(album, ["0", "1", "2", "3", "4"])


def test_handles_find_their_photo_whatever_it_is_called():
    hostile = ["-rf", "7", "#2", "$HOME", "a b.png", "it's.png", "a.png", "a.png", "é.png", "*"]
    album = person(len(hostile), sources=hostile)
    for i, handle in enumerate(handles(album, range(len(album)))):
        assert find_photos(album, [handle]) == [i]
        assert not handle.startswith("-")
        assert shlex.split(command("person", "remove", "x y.person", handle))[-1] == handle
    assert handles(album, [4]) == ["a b.png"]


def test_names_change_and_the_photos_stay():
    album = person()
    other, said = renamed(album, "  Bo ")
    assert other.name == "Bo" and said == ["Ada is called Bo now"]
    assert all(torch.equal(getattr(other, p), getattr(album, p)) for p in PARTS)
    assert renamed(album, "Ada") == (album, [])
    with pytest.raises(FacewrightError, match="this one is empty"):
        renamed(album, "  ")
    with pytest.raises(FacewrightError, match="at most 1000 characters; this one has 1001"):
        renamed(album, "x" * 1001)


@pytest.mark.parametrize("wrong", [{"name": "x" * 1001}, {"recogniser": "x" * 1001}])
def test_what_cannot_be_read_again_takes_no_albums_place(tmp_path, wrong):
    path = tmp_path / "Ada.person"
    person().save(path)
    before = path.read_bytes()
    with pytest.raises(FacewrightError, match=f"cannot be saved.*{next(iter(wrong))}"):
        dataclasses.replace(person(), **wrong).save(path)
    assert path.read_bytes() == before and Person.from_file(path).name == "Ada"


def test_two_albums_become_one_in_which_each_photo_is_once():
    album = person(6)
    a, b = without(album, ["0", "1"])[0], without(album, ["4", "5"])[0]
    both, said = merged(a, dataclasses.replace(b, name="Ada L."))
    assert both.name == "Ada" and both.sources == (*a.sources, "0.png", "1.png")
    assert said[0] == "the album of Ada L. joined that of Ada, whose name it bears"
    assert said[1:] == [f"{i}.png: in the album already as {i}.png, counted once" for i in (2, 3)]
    _, said = merged(a, person(3, seed=9))
    assert said[0].startswith("warning: the two albums seem to show two people: their cosine is")
    for changes, words in (
        ({"recogniser": "arcface-r50:0"}, "the recogniser nano-identity:0, they give arcface"),
        ({"embeddings": b.embeddings[:, :8]}, "embeddings with a length of 128, they give 8"),
        ({"landmarks": b.landmarks[:, :1].expand(-1, 98, -1)}, "landmarks per photo: 68"),
    ):
        with pytest.raises(FacewrightError, match=words):
            merged(a, dataclasses.replace(b, **changes))


def best_by_hand(album, count):
    """The subset of the greatest determinant among all, in float64 and by definition."""

    def alike(x):
        square = ((x[:, None] - x[None]) ** 2).sum(-1)
        n = len(x)
        return square / (square.sum() / (n * (n - 1)))

    apart = alike(album.landmarks.double().flatten(1))
    apart = apart + alike(F.avg_pool2d(album.crops, 2).double().flatten(1))
    q = album.quality.double()
    kernel = q[:, None] * torch.exp(-apart / 2) * q
    sets = list(itertools.combinations(range(len(album)), count))
    return max(sets, key=lambda s: float(torch.linalg.det(kernel[list(s)][:, list(s)])))


def test_the_best_are_good_and_unlike_each_other():
    album = person(8, seed=3)
    # Photos 0 to 3 are one shot four times over, each better than all others, and 3 the best.
    album.quality[:4] = torch.tensor([0.75, 0.8, 0.85, 0.9])
    for part, amount in (("crops", 0.01), ("landmarks", 0.05)):
        values = getattr(album, part)
        values[1:4] = values[:1] + amount * torch.rand(values[1:4].shape)
    for count in (1, 2, 3, 4):
        kept, said = best(album, count)
        assert kept.sources == tuple(f"{i}.png" for i in best_by_hand(album, count))
        assert len(said) == 8 and sum("kept" in line for line in said) == count
    assert said[3] == "3.png: kept, the best one (quality 0.90)"
    assert all("another" in line for line in said[4:] if "kept" in line)
    assert said[0] == "0.png: left out, quality 0.75, most like 3.png (0.90)"
    assert best(album, 8) == (album, ["all 8 photos stay: no more than 8 are there"])
    with pytest.raises(FacewrightError, match="at least one"):
        best(album, 0)


def test_somebody_else_is_never_among_the_best():
    """A stranger is unlike the others in every way, and so most tempting."""
    album = with_look_alike(person(6), 0.0)
    kept, said = best(album, 5)
    assert kept.sources == album.sources[:5]
    assert said[5] == "5.png: left out, it may show somebody else"


def test_photos_all_alike_and_worthless_are_chosen_from():
    album = person(6)
    flat = {"crops": album.crops[:1], "landmarks": album.landmarks[:1]}
    flat = {k: v.expand(6, *v.shape[1:]) for k, v in flat.items()}
    kept, _ = best(dataclasses.replace(album, quality=torch.zeros(6), **flat), 3)
    assert len(kept) == 3


@pytest.mark.parametrize("n", [3, 5, 9])
def test_a_look_alike_within_the_limit_is_found_and_nobody_else(n):
    """The limit of 0.65 lets it pass; its distance to the rest does not."""
    album = person(n)
    assert strangers(album) == []
    (found,) = suspects(with_look_alike(album, 0.72))
    assert found.photos == (n - 1,) and found.rest == tuple(range(n - 1))
    assert suspects(with_look_alike(album, 0.93)) == []


def test_a_damaged_photo_may_be_farther_off():
    far = with_look_alike(person(6), 0.76)
    assert len(suspects(far)) == 1
    quality = far.quality.clone()
    quality[-1] = 0.1
    assert suspects(dataclasses.replace(far, quality=quality)) == []


def test_two_look_alikes_do_not_hide_each_other():
    album = with_look_alike(person(9), 0.7)
    first = with_look_alike(person(9), 0.68, seed=6).embeddings[-1:]
    embeddings = torch.cat([first, album.embeddings[1:]])
    found = suspects(dataclasses.replace(album, embeddings=embeddings))
    assert sorted(s.photos for s in found) == [(0,), (8,)]


def test_groups_do_not_depend_on_the_order_nor_on_how_many_are_compared_at_once(monkeypatch):
    a, b, c = person(4), person(3, seed=8), person(1, seed=11)
    parts = {p: torch.cat([getattr(x, p) for x in (a, b, c)]) for p in PARTS}
    sources = tuple(f"{i}" for i in range(8))
    album = dataclasses.replace(a, sources=sources, **parts)
    for rows in (512, 1):
        monkeypatch.setattr("facewright.core.people.outliers._ROWS", rows)
        order = torch.randperm(8, generator=torch.Generator().manual_seed(rows)).tolist()
        mixed = dataclasses.replace(
            album,
            sources=tuple(sources[i] for i in order),
            **{p: v[order] for p, v in parts.items()},
        )
        found = [{mixed.sources[i] for i in s.photos} for s in suspects(mixed)]
        assert sorted(map(sorted, found)) == [["4", "5", "6"], ["7"]]


def test_warnings_name_what_to_do():
    album = with_look_alike(person(4, sources=["a.png", "b.png", "c.png", "b.png"]), 0.1)

    def remedy(album, photos):
        return f"`{command('person', 'remove', 'my ada.person', *handles(album, photos))}`"

    (line,) = strangers(album, remedy)
    assert line.startswith("warning: b.png (number 3) may show another person than a.png, b.png (")
    assert line.endswith("take it out with `facewright person remove 'my ada.person' 3`.")
    pair = with_look_alike(person(2, sources=["a.png", "b.png"]), 0.1)
    (line,) = strangers(pair, remedy)
    ways = [f"`facewright person remove 'my ada.person' {name}`" for name in ("b.png", "a.png")]
    assert line.endswith(f"take out the wrong one with {ways[0]} or {ways[1]}.")
    (line,) = strangers(pair, lambda person, photos: "another name in people.csv")
    assert line.endswith("take out the wrong one with another name in people.csv.")


def test_the_sheet_shows_the_numbers(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "facewright.core.drawing.album.contact_sheet",
        lambda pictures, texts, columns: shown.extend(texts),
    )
    album_sheet(person(3, sources=["a.png", "b.png", "a.png"]))
    assert shown == ["0  a.png  0.40", "1  b.png  0.55", "2  a.png  0.70"]


def test_limits_of_ones_own_count():
    """A recogniser that was calibrated has another limit than the shipped one."""
    album = with_look_alike(person(2), 0.8)
    assert suspects(album) == [] and len(suspects(album, 0.85)) == 1
