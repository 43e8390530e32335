"""A look at what is installed and what the workflow lacks."""

import time

from ._host import host, io
from ._types import output
from ._words import found_by


class Doctor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightDoctor",
            display_name="Doctor (missing models)",
            category="facewright/util",
            **found_by(
                "missing files",
                "find missing models",
                "check setup",
                "diagnose",
                "troubleshoot",
                "model licences",
                "model licenses",
                "checksum",
            ),
            description=(
                "Says what this workflow lacks and where to get it; which weight files are there, "
                "whether they are whole, and whether they may be used commercially; which devices "
                "and number formats are used; and what is known to go wrong with other node packs. "
                "Looks and tells: nothing is downloaded, changed or deleted. Needs no links, and "
                "runs also where the rest of the workflow cannot."
            ),
            inputs=[
                io.Boolean.Input(
                    "hashes",
                    default=False,
                    tooltip="Also work out the SHA-256 of every weight file: seconds for each "
                    "gigabyte the first time, nothing until a file changes.",
                ),
            ],
            outputs=[
                output(io.String, "report", "All of it, as text."),
                output(io.String, "json", "The same as JSON, for scripts."),
            ],
            hidden=[io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, hashes) -> float:
        return time.time()  # what lies on the disk may have changed

    @classmethod
    def execute(cls, hashes) -> io.NodeOutput:
        report, as_json = host.diagnose(hashes, cls)
        return io.NodeOutput(report, as_json, ui=host.show_text(report))


NODES = [Doctor]
