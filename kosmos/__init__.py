"""openkosmos: the KOSMOS multimodal large language models, whole and working.

>>> import kosmos
>>> from kosmos import Document, Image, Text
>>> model = kosmos.load("DIR")
>>> model.generate(Document([Image("dog.jpg"), Text("An image of")])).text

Names are resolved on first use, so that importing the package imports no torch.
"""

import importlib
import os
from typing import TYPE_CHECKING

# torch then asks Linux for pages of 2 MiB: weights on the CPU are read 5 to 10% faster (measured).
# It looks when it first allocates; what the user has set stays
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# Threads of OpenMP that wait for each other spin, by default for so long that another busy process
# stops them all. Medians of a training step of the microcosm in s on two cores, idle and beside one
# busy process: default .35 and 3.2; 100000 .34 and 3.3; 10000 .35 to .43 and 1.0; 1000 .48 and .55.
# libiomp counts in ms (not measured). Both look when torch is imported; what the user has set stays
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")

if TYPE_CHECKING:
    from kosmos.boxes import Box
    from kosmos.config import replace
    from kosmos.document.types import Document, Grounded, Image, Text
    from kosmos.errors import KosmosError
    from kosmos.generate.engine import Engine
    from kosmos.generate.generator import Generator, load
    from kosmos.generate.reply import CandidateScore, Failure, Reply
    from kosmos.generate.request import Generate, Locate, Score
    from kosmos.text.markup import parse_markup
    from kosmos.train.config import Run

__version__ = "0.1.0"

_HOME = {
    "Box": "kosmos.boxes",
    "CandidateScore": "kosmos.generate.reply",
    "Document": "kosmos.document.types",
    "Engine": "kosmos.generate.engine",
    "Failure": "kosmos.generate.reply",
    "Generate": "kosmos.generate.request",
    "Generator": "kosmos.generate.generator",
    "Grounded": "kosmos.document.types",
    "Image": "kosmos.document.types",
    "KosmosError": "kosmos.errors",
    "Locate": "kosmos.generate.request",
    "Reply": "kosmos.generate.reply",
    "Run": "kosmos.train.config",
    "Score": "kosmos.generate.request",
    "Text": "kosmos.document.types",
    "load": "kosmos.generate.generator",
    "parse_markup": "kosmos.text.markup",
    "replace": "kosmos.config",
}

__all__ = [
    "Box",
    "CandidateScore",
    "Document",
    "Engine",
    "Failure",
    "Generate",
    "Generator",
    "Grounded",
    "Image",
    "KosmosError",
    "Locate",
    "Reply",
    "Run",
    "Score",
    "Text",
    "load",
    "parse_markup",
    "replace",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kosmos' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
