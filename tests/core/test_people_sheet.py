"""Sheets of faces: each face in its place with its words below."""

import torch
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
