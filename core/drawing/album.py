"""The photographs of an album as a picture."""

import math

from torch import Tensor

from ..errors import shorten
from ..people.person import Person
from .sheet import contact_sheet


def album_sheet(person: Person) -> Tensor:
    """The photographs of an album on one sheet with numbers and quality, (3, h, w) in [0, 1]."""
    labels = [
        f"{i}  {shorten(source)}  {quality:.2f}"
        for i, (source, quality) in enumerate(
            zip(person.sources, person.quality.tolist(), strict=True)
        )
    ]
    columns = math.ceil(math.sqrt(len(person)))
    return contact_sheet(list(person.crops), labels, columns)
