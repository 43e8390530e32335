"""Sheets of faces: each face in its place with its words below."""

import pytest
import torch
from facewright.core.drawing import paint
from facewright.core.drawing.people import PER_SHEET, SIDE, pages, people_sheet


def test_faces_and_words_stand_in_rows():
    faces = [torch.full((3, 60, 60), 0.1 * i) for i in range(1, 9)] + [None, torch.zeros(3, 20, 40)]
    captions = [(f"#{i}", "a name that is far too long for the room below one face.png")
                for i in range(10)]  # fmt: skip
    sheet = people_sheet("Ada", faces, captions)
    assert sheet.shape[2] < 9 * (SIDE + 8) and 0 <= float(sheet.min()) <= float(sheet.max()) <= 1
    cell = SIDE + 8
    for i in range(8):
        x = 8 + i * cell
        torch.testing.assert_close(
            sheet[:, 48 : 48 + SIDE, x : x + SIDE], torch.full((3, SIDE, SIDE), 0.1 * (i + 1))
        )
        below = sheet[:, 48 + SIDE : 48 + SIDE + 42, x : x + SIDE]
        assert float(below.min()) < 0.3  # letters
        assert bool(
            (sheet[:, 48 + SIDE :, x + SIDE : x + cell] > 0.9).all()
        )  # no word leaves its cell
    taller = people_sheet("Ada", faces, [(*words, "third") for words in captions])
    assert taller.shape[1] > sheet.shape[1]
    blank = people_sheet("", faces, [("", "")] * 10)
    assert float((blank - sheet).abs().max()) > 0.5


def test_every_face_stands_on_one_page():
    for count in (0, 1, PER_SHEET, PER_SHEET + 1, 3 * PER_SHEET):
        shown = [i for part in pages(count) for i in range(count)[part]]
        assert shown == list(range(count))
        assert all(len(range(count)[part]) <= PER_SHEET for part in pages(count))


NAMES = [
    "Zoë",
    "\u0141ucja",
    "André",
    "\u03a3\u03bf\u03c6\u03af\u03b1",
    "\u0418\u0432\u0430\u043d",
    "\u9648\u5b50",
    "\u05e9\u05e8\u05d4",
    "b\udcff",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", [(), paint._SYSTEM])
def test_no_letter_is_a_box(monkeypatch, name, system):
    monkeypatch.setattr(paint, "_SYSTEM", system)
    font = paint.font_of(15, name)
    shown = paint.fitting(name, 1000, font)
    box = bytes(font.getmask("\ufffe"))
    assert shown and not any(bytes(font.getmask(c)) == box for c in shown if not c.isspace())
    people_sheet(name, [None], [(name, name)])


def test_names_stay_apart_without_their_letters(monkeypatch):
    monkeypatch.setattr(paint, "_SYSTEM", ())
    font = paint.font_of(15, "".join(NAMES))
    shown = [paint.legible(name, font) for name in ("Zoë", "Straße", "\u9648", "\u5b50", "Ada", "")]
    assert shown == ["Zoe", "Strasse", "U+9648", "U+5B50", "Ada", ""]
    assert paint.font_of(15, "Ada") is paint.font_of(15)


def test_letters_that_this_system_has_are_taken(monkeypatch):
    own, other = paint.font_of(15), paint.font_of(16)
    monkeypatch.setattr(paint, "_SYSTEM", ("first", "second"))
    fonts = {"first": None, "second": other}
    monkeypatch.setattr(paint, "_named", lambda name, size: fonts[name])
    monkeypatch.setattr(paint, "_lacks", lambda font, c: font is own and c == "ë")
    assert paint.font_of(15, "Zoë") is other and paint.font_of(15, "Zoe") is own
    assert paint.legible("Zoë", other) == "Zoë"
