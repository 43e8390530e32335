"""People: albums made of photographs, kept as files, and matched to the faces of pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.files.writing import content_hash
from ._convert import rgb_view, to_image, to_nchw
from ._files import check_person, person_input
from ._host import SHOWN, host, io
from ._options import (
    crop_size_input,
    false_match_input,
    landmarker_input,
    option_input,
    told_inputs,
)
from ._steps import reporter
from ._types import SHOWS, Faces, Matches, People, Person, Recogniser, output
from ._words import found_by

if TYPE_CHECKING:
    from ..core.people.person import Person as Album

CHAIN_TIP = "Albums of other people, from another node of this kind: this one joins them."


def people_output(next_node: str) -> io.Output:
    tooltip = f"The albums of `people` and this one, for Match People or the next {next_node}."
    return output(People, "people_out", tooltip, name="people")


def remove_in_editor(person: "Album", photos: Sequence[int]) -> str:
    """How photographs are taken out in a graph."""
    from ..core.people.photos import handles

    return f"`{', '.join(handles(person, photos))}` in `remove` of Edit Person"


def album_shown(
    cls: type, person: "Album", people: "list[Album] | None", report: list[str]
) -> io.NodeOutput:
    """The album alone and with the others, on one sheet, and in words."""
    from ..core.drawing.album import album_sheet
    from ..core.people.person import join_people

    picture = to_image(album_sheet(person)[None])
    together, shown = join_people(person, people), host.preview(picture, cls)
    return io.NodeOutput(person, together, picture, "\n".join(report), ui=shown)


class PersonAlbum(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightPerson",
            display_name="Person Album",
            category="facewright/people",
            **SHOWS,
            **found_by(
                "reference photos",
                "face reference",
                "photos of a person",
                "face album",
                "face id",
                "faceid",
                "build face model",
            ),
            description=(
                "Makes an album of one person from several photographs: finds the person in each, "
                "cuts the faces out, and remembers how they look. Photos without a face are left "
                "out, and the report says so; it also warns if there seem to be two people."
            ),
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "references",
                    tooltip="Photographs of one person: a batch, or a list of different sizes. "
                    "They need not be cut out, and others may be in them too.",
                ),
                io.String.Input(
                    "name",
                    default="someone",
                    tooltip="Of the person. Each person of a picture needs a name of their own.",
                ),
                landmarker_input(),
                Recogniser.Input(
                    "recogniser",
                    tooltip="From Load Face Recogniser or Load Nano HonestFace. Albums fit "
                    "the recogniser they were made with, and no other.",
                ),
                crop_size_input(
                    "Side of the cut-out faces in pixels, as in Detect Faces: 512, or 128 for the "
                    "nano models."
                ),
                People.Input("people", optional=True, tooltip=CHAIN_TIP),
                Person.Input(
                    "add_to",
                    optional=True,
                    tooltip="An album of the same person that these photos join: for photos of "
                    "different sizes from one Load Image each, chain one Person Album to the next.",
                ),
                io.String.Input(
                    "face",
                    default="",
                    optional=True,
                    tooltip="Where several people are in a photo, which face is the person's: the "
                    "photo's number and the face's, from 0 and from the left as in Detect Faces' "
                    "preview, such as 1=2; the face's alone where there is one photo. Empty: the "
                    "one that is in all photos.",
                ),
            ],
            outputs=[
                output(Person, "person", "For IDE Encode and Save Person."),
                people_output("Person Album"),
                output(
                    io.Image,
                    "picture",
                    "The album on one sheet, each photo with its quality from 0 to 1: how "
                    "large and how sharp the face is.",
                ),
                output(io.String, "report", "What became of the photos, and warnings."),
            ],
        )

    @classmethod
    def execute(
        cls, references, name, analyzer, recogniser, crop_size, people=None, add_to=None, face=()
    ) -> io.NodeOutput:
        from ..core.people.album import make_person, photo_names
        from ..core.people.by_hand import faces_of_photos

        photos = [photo for batch in references for photo in to_nchw(batch, "references")]
        album = add_to[0] if add_to else None
        sources = photo_names(len(photos), album)
        host.load(recogniser[0])
        person, report = make_person(
            photos,
            name=name[0],
            sources=sources,
            analyzer=analyzer[0],
            recogniser=recogniser[0],
            crop_size=crop_size[0],
            add_to=album,
            on_photo=reporter(len(photos)),
            remedy=remove_in_editor,
            faces=faces_of_photos(",".join(face).split(","), sources),
        )
        return album_shown(cls, person, people[0] if people else None, report)


class SavePerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightSavePerson",
            display_name="Save Person",
            category="facewright/people",
            **found_by("save person album", "save face model", "save face album"),
            description=(
                "Writes an album to models/facewright/people, for Load Person. The file holds the "
                "cut-out faces and what identifies the person: ask them before you pass it on."
            ),
            inputs=[
                Person.Input("person", tooltip="From Person Album."),
                io.String.Input(
                    "filename",
                    default="",
                    tooltip="Of the file, without ending. Empty: the person's name.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace another album that has this file name. Off: it is kept, and "
                    "the run stops and says so.",
                ),
            ],
            outputs=[output(io.String, "file", "Name of the file in models/facewright/people.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, person, filename, overwrite) -> io.NodeOutput:
        from ..core.people.person import save_person

        path, report = save_person(
            person, host.people_folder(), filename=filename, overwrite=overwrite
        )
        return io.NodeOutput(path.name, ui=host.show_text(report))


class LoadPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadPerson",
            display_name="Load Person",
            category="facewright/people",
            **SHOWS,
            **found_by("load person album", "load face model", "load face album"),
            description="An album that Save Person or `facewright person make` wrote.",
            inputs=[
                person_input("album", "A .person file in models/facewright or a folder in it."),
                People.Input("people", optional=True, tooltip=CHAIN_TIP),
            ],
            outputs=[
                output(Person, "person", "For IDE Encode."),
                people_output("Load Person"),
                output(
                    io.Image,
                    "picture",
                    "The album on one sheet, each photo with its quality from 0 to 1.",
                ),
                output(
                    io.String,
                    "info",
                    "Name, number of photos, the recogniser the album belongs to, and a "
                    "warning where it seems to show two people.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, album) -> bool | str:
        return check_person(album)

    @classmethod
    def fingerprint_inputs(cls, album, people=None) -> str:
        return content_hash(host.model_path("facewright", album))

    @classmethod
    def execute(cls, album, people=None) -> io.NodeOutput:
        from ..core.people.outliers import strangers
        from ..core.people.person import Person as Album

        person = Album.from_file(host.model_path("facewright", album))
        return album_shown(cls, person, people, [person.info, *strangers(person, remove_in_editor)])


class MatchPeople(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightMatchPeople",
            display_name="Match People",
            category="facewright/people",
            **SHOWS,
            **found_by(
                "recognize faces",
                "recognise people",
                "face recognition",
                "who is who",
                "find a person",
                "select face",
                "group photo",
            ),
            description=(
                "Tells whose face is whose: gives every face of a picture the album it resembles "
                "most, each album to one face of a picture at most, and nobody's to strangers. "
                "What cannot be told for sure is said, and no album taken for it, until `assign` "
                "says who it is. Faces that Smooth Faces followed are one person in all their "
                "frames. Neither the order of the albums nor that of the faces matters."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The pictures that went into Detect Faces."),
                Faces.Input(
                    "faces",
                    tooltip="From Detect Faces; of the frames of a video from Smooth Faces.",
                ),
                Recogniser.Input("recogniser", tooltip="The one the albums were made with."),
                option_input(
                    "threshold",
                    io.Float,
                    default=0.0,
                    step=0.01,
                    tooltip="Cosine that a face and an album need. Higher: more faces are nobody. "
                    "0: what suits the recogniser (nano 0.65, which 16 in 1000 strangers reach; "
                    "others 0.28, for ArcFace 1 in 1000 as published). The report shows the "
                    "cosines; badly damaged faces may need less.",
                ),
                People.Input(
                    "people",
                    optional=True,
                    tooltip="Albums, from Person Album or Load Person. Without any, everyone is "
                    "nobody.",
                ),
                *told_inputs(
                    "Whose face it is, by hand: the number on the preview and the name of an "
                    "album, such as 2=Bo, or 3=nobody; several with commas between them. In a "
                    "batch the picture's number comes first: 0/2=Bo. Faces that were followed go "
                    "by the number in the report, without a picture."
                ),
                false_match_input("threshold counts; it also does where it is above 0."),
            ],
            outputs=[
                output(Matches, "matches", "Who is who, for IDE Encode."),
                output(
                    io.Image,
                    "preview",
                    "The pictures with a number and a name at each face: yellow where it is clear, "
                    "orange where it is unsure, blue by hand, grey nobody.",
                ),
                output(
                    io.String,
                    "report",
                    "A line per face: who it is, and how sure. Of faces that were followed one for "
                    "all frames.",
                ),
                output(io.Int, "known", "How many faces have an album."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        faces,
        recogniser,
        threshold,
        people=None,
        margin=-1.0,
        assign="",
        false_match_rate=0.0,
    ) -> io.NodeOutput:
        from ..core.drawing.names import draw_matches
        from ..core.people.over_frames import match_crops

        host.load(recogniser)
        matches = match_crops(
            faces,
            people,
            recogniser,
            recogniser.limits.threshold(threshold, false_match_rate),
            margin=None if margin < 0 else margin,
            assign=[assign],
        )
        preview = to_image(draw_matches(rgb_view(image), faces, matches))
        limit = f"people from cosine {recogniser.limits.told(matches.threshold)}"
        return io.NodeOutput(
            matches,
            preview,
            "\n".join([*matches.report, limit]),
            matches.known,
            ui=host.preview(preview[:SHOWN], cls),
        )


NODES = [PersonAlbum, SavePerson, LoadPerson, MatchPeople]
