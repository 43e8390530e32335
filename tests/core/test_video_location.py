"""Where a video was recorded, in its new file: kept as it is told, or left out wherever it is."""

import struct
from fractions import Fraction

import pytest
from facewright.core.video.notes import speaks_of_a_place, tags

from .test_video_kept import av, clip, rewritten

ABOUT = {
    "title": "Lake",
    "location": "+47.5622+013.6493/",
    "location-eng": "+47.5622+013.6493/",
    "com.apple.quicktime.location.ISO6709": "+47.5622+013.6493+511.000/",
    "com.apple.quicktime.location.accuracy.horizontal": "4.7",
    "com.apple.quicktime.make": "Maker",
    "where": "+47.5622+013.6493/",
}
SECRETS = (b"47.5622", b"013.6493")


def drone(out):
    stream = out.add_mux_stream("mov_text")
    stream.time_base = Fraction(1, 1000)

    def finish():
        for t, text in enumerate((b"GPS (13.6493, 47.5622, 511)", b"Hello")):
            packet = av.Packet(struct.pack(">H", len(text)) + text)
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 1000), 99
            packet.pts = packet.dts = t * 100
            out.mux(packet)

    return finish


def test_tags_of_a_place_are_kept_or_left_out(tmp_path):
    source = clip(
        tmp_path / "a.mov", tags=ABOUT, muxer={"movflags": "use_metadata_tags"},
        sounds=[("aac", {})],
    )  # fmt: skip
    kept, _ = rewritten(source)
    with av.open(str(kept)) as container:
        apple = "com.apple.quicktime.location.ISO6709"
        assert container.metadata[apple] == ABOUT[apple]
    assert any(secret in kept.read_bytes() for secret in SECRETS)
    dropped, notes = rewritten(source, location=False)
    assert not any(secret in dropped.read_bytes() for secret in SECRETS)
    assert not any("Tags of the file" in note for note in notes), "asked for is not lost"
    with av.open(str(dropped)) as container:
        told = container.metadata
        assert told["title"] == "Lake" and told["com.apple.quicktime.make"] == "Maker"
        assert not any("location" in key.lower() for key in told)
        assert container.streams.audio


def test_subtitles_of_drones_are_left_out_with_it(tmp_path):
    if not hasattr(av.container.OutputContainer, "add_mux_stream"):
        pytest.skip("this version of PyAV makes no file with subtitles")
    source = clip(tmp_path / "a.mp4", more=drone)
    kept, _ = rewritten(source)
    assert any(secret in kept.read_bytes() for secret in SECRETS)
    dropped, notes = rewritten(source, location=False)
    data = dropped.read_bytes()
    assert not any(secret in data for secret in SECRETS) and b"Hello" in data
    assert "Left out, as they tell where it was recorded: 1 subtitle." in notes


def test_what_counts_as_a_place():
    named = {"LOCATION": "x", "GPSLatitude": "1", "©xyz": "x", "comment": "-33.8+151.2/"}
    assert tags(named, location=False) == {}
    other = {"title": "Geology of +12", "allocation": "x", "comment": "12+34"}
    assert tags(other, location=False) == {"title": "Geology of +12", "comment": "12+34"}
    assert speaks_of_a_place(b"[latitude: 1] [longitude: 2]") and not speaks_of_a_place(b"geology!")
