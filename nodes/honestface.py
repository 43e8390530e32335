"""HonestFace: restoration that looks at photographs of the same person."""

from ..core.faces import dense_landmarker
from ..core.files.known import VGG, bundled_path
from ..core.weights.listing import Fits
from ._convert import one_batch, to_conditioning, to_image, to_nchw
from ._files import check_bundled, check_files, file_input
from ._host import host, io
from ._options import landmarker_input
from ._steps import reporter
from ._types import SHOWS, Analyzer, Ide, Matches, Person, Recogniser, Vre, output
from ._words import found_by


class LoadIDE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadIDE",
            display_name="Load Identity Embedder (IDE)",
            category="facewright/load",
            **found_by("honestface loader", "load honestface", "identity embedding model"),
            description=(
                "Loads HonestFace's identity embedder, which turns photographs of a person into "
                "part of the prompt, with the frozen networks it was trained with. Its authors "
                "published no weights: train them with `facewright train honestface`."
            ),
            inputs=[
                file_input(
                    "embedder",
                    "facewright",
                    "An identity embedder file in models/facewright.",
                    Fits(("honestface_ide.safetensors",), ("honestface-ide",)),
                ),
                file_input(
                    "eye_extractor",
                    "facewright",
                    "torchvision's vgg16-397923af.pth, which describes the eyes.",
                    Fits(VGG.names),
                ),
                Recogniser.Input(
                    "recogniser",
                    tooltip="From Load Face Recogniser: the one the embedder was trained with.",
                ),
                landmarker_input(),
            ],
            outputs=[output(Ide, "ide", "For IDE Encode.")],
        )

    @classmethod
    def validate_inputs(cls, embedder, eye_extractor) -> bool | str:
        return check_files("facewright", embedder, eye_extractor)

    @classmethod
    def execute(cls, embedder, eye_extractor, recogniser, analyzer) -> io.NodeOutput:
        from ..core.methods.honestface import IdentityEmbedder, load_eye_extractor

        return io.NodeOutput(
            IdentityEmbedder.from_file(
                host.model_path("facewright", embedder),
                recogniser=recogniser,
                extractor=load_eye_extractor(host.model_path("facewright", eye_extractor)),
                landmarker=dense_landmarker(analyzer),
            )
        )


class IDEEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightIDEEncode",
            display_name="IDE Encode (HonestFace)",
            category="facewright/conditioning",
            **SHOWS,
            **found_by(
                "identity prompt",
                "honestface prompt",
                "reference photos",
                "face conditioning",
                "identity embedding",
            ),
            description=(
                "Describes each degraded face for the restorer, as VRE Encode does, and adds what "
                "photographs of the same person know about it. Without photographs it restores "
                "from the face alone."
            ),
            is_input_list=True,
            inputs=[
                Ide.Input("ide", tooltip="From Load Identity Embedder or Load Nano HonestFace."),
                Vre.Input("vre", tooltip="The face embedder that was trained together with `ide`."),
                io.Image.Input(
                    "image",
                    tooltip="Aligned face crops from Detect Faces: the same that are restored.",
                ),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Photographs of the person, for all faces alike: a batch, or a list of "
                    "different sizes. They need not be cut out.",
                ),
                Person.Input(
                    "person",
                    optional=True,
                    tooltip="An album instead of `references`, from Person Album or Load Person.",
                ),
                Matches.Input(
                    "matches",
                    optional=True,
                    tooltip="Instead of the two: who is who, from Match People, where a picture "
                    "shows several people.",
                ),
            ],
            outputs=[
                output(
                    io.Conditioning,
                    "conditioning",
                    "One entry per crop, for One-Step Restore of these very crops.",
                ),
                output(
                    io.Image,
                    "chosen",
                    "Per crop the photograph whose eyes were looked at: the one whose eye "
                    "and brow landmarks fit best. Black without references.",
                ),
                output(
                    io.String,
                    "report",
                    "A line per crop: whose photographs, how many, which one was chosen.",
                ),
            ],
        )

    @classmethod
    def execute(cls, ide, vre, image, references=None, person=None, matches=None) -> io.NodeOutput:
        from ..core.methods._references import encode_faces, references_of
        from ..core.people.one_for_all import likeness

        ide, vre = ide[0], vre[0]
        lq = one_batch(image, "image")
        photos = [photo for batch in references or [] for photo in to_nchw(batch, "references")]
        host.load(ide)
        device = host.load(vre)
        people, warnings = references_of(
            len(lq),
            ide,
            lq.shape[-1],
            photos=photos,
            person=person[0] if person else None,
            matches=matches[0] if matches else None,
        )
        encoded = encode_faces(
            lq, people, ide, vre, device=device, on_chunk=reporter(max(1, len(lq)))
        )
        one = people[0] if people and matches is None else None
        like = likeness(lq.to(device), one, ide.recogniser) if one else []
        report = "\n".join([*warnings, *encoded.report, *like])
        return io.NodeOutput(
            to_conditioning(encoded.cond),
            to_image(encoded.chosen),
            report,
            ui=host.show_text(report),
        )


class LoadNanoHonestface(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightLoadNanoHonestface",
            display_name="Load Nano HonestFace (demo)",
            category="facewright/load",
            **found_by("demo model", "example model", "toy model", "honestface loader"),
            description=(
                "Tiny HonestFace models that come with this pack. They know computer-drawn faces "
                "at 128 pixels and no real ones: for trying out the nodes without a download. Set "
                "crop_size of Detect Faces and of Person Album to 128."
            ),
            inputs=[],
            outputs=[
                output(io.Model, "model", "The base model with HonestFace's LoRA."),
                output(io.Vae, "vae", "The VAE of this model."),
                output(Vre, "vre", "For IDE Encode."),
                output(Ide, "ide", "For IDE Encode."),
                output(Analyzer, "analyzer", "Finds computer-drawn faces, with 68 landmarks each."),
                output(
                    Recogniser,
                    "recogniser",
                    "Tells computer-drawn people apart, for albums and Match People.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls) -> bool | str:
        from ..core.methods.honestface import NANO_FILES

        return check_bundled(NANO_FILES)

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..core.lora.files import read_lora
        from ..core.methods.honestface import NANO_FILES, nano_ide
        from ..core.weights import nano

        _, vre_file, lora = map(bundled_path, NANO_FILES)
        ide, vre = nano_ide(), nano.load_vre(vre_file)
        model, vae = host.load_nano(lora=False)
        model, _ = host.apply_lora(model, *read_lora(lora), 1.0)
        return io.NodeOutput(model, vae, vre, ide, ide.landmarker, ide.recogniser)


NODES = [LoadIDE, IDEEncode, LoadNanoHonestface]
