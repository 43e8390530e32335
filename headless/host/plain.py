"""What a core node of ComfyUI looks like here."""

from typing import Any

from ...core.node_api import io


class PlainNode(io.ComfyNode):
    """Under the class's own name. Schemas carry ids and types only; the texts are ComfyUI's."""

    INPUTS: tuple = ()
    OUTPUTS: tuple = ()
    IS_OUTPUT = False

    @classmethod
    def define_schema(cls) -> Any:
        inputs, outputs = list(cls.INPUTS), list(cls.OUTPUTS)
        return io.Schema(cls.__name__, inputs=inputs, outputs=outputs, is_output_node=cls.IS_OUTPUT)
