"""Albums changed in a graph: photos taken out, albums joined, another name, the best kept."""

from ._host import io
from ._types import SHOWS, People, Person, output
from ._words import found_by
from .people import CHAIN_TIP, album_shown, people_output, remove_in_editor


class EditPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightEditPerson",
            display_name="Edit Person",
            category="facewright/people",
            **SHOWS,
            **found_by(
                "edit person album",
                "add photos to album",
                "remove photos from album",
                "rename person",
                "merge albums",
            ),
            description=(
                "Changes an album: takes photos out, joins another album of the same person, "
                "renames it, keeps the most useful photos; in this order. Files stay as they are "
                "until Save Person writes one."
            ),
            inputs=[
                Person.Input("person", tooltip="From Load Person or Person Album."),
                io.String.Input(
                    "remove",
                    default="",
                    tooltip="Photos to take out: their numbers or names, as `picture` of Load "
                    "Person or Person Album shows them, with commas between. Empty: none.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The person's new name. Empty: the old one stays.",
                ),
                io.Int.Input(
                    "best",
                    default=0,
                    min=0,
                    max=10_000,
                    tooltip="Keep so many photos: good ones that are unlike each other in pose, "
                    "expression and light. The report says why each stays or goes. 0: all stay.",
                ),
                Person.Input(
                    "merge",
                    optional=True,
                    tooltip="Another album of the same person, whose photos join this one; what "
                    "is in both counts once.",
                ),
                People.Input("people", optional=True, tooltip=CHAIN_TIP),
            ],
            outputs=[
                output(
                    Person,
                    "person_out",
                    "The changed album, for IDE Encode and Save Person.",
                    name="person",
                ),
                people_output("Edit Person"),
                output(
                    io.Image,
                    "picture",
                    "The album on one sheet, each photo with its new number and its quality from "
                    "0 to 1.",
                ),
                output(io.String, "report", "What changed and why, and warnings."),
            ],
        )

    @classmethod
    def execute(cls, person, remove, name, best, merge=None, people=None) -> io.NodeOutput:
        from ..core.people.editing import edited
        from ..core.people.outliers import strangers

        album, report = edited(person, remove=remove, merge=merge, name=name, keep=best)
        report += strangers(album, remove_in_editor)
        return album_shown(cls, album, people, report)


NODES = [EditPerson]
