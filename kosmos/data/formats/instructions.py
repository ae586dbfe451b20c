"""Instruction triplets into documents: what is asked carries no loss, what is answered does.

The three published layouts of a row::

    self-instruct    {"instruction": ..., "instances": [{"input": ..., "output": ...}, ...]}
    alpaca           {"instruction": ..., "input": ..., "output": ...}
    prompted         {"prompt": ..., "completion": ...}           (FLAN and T0 style)

Source: KOSMOS-1 (arXiv:2302.14045) section 3.3: triplets of instruction, input and output, loss on
outputs only.
"""

from collections.abc import Iterator
from pathlib import Path

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.records import read_rows, text_field
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Text
from kosmos.files import Json

# what OpenAI's old fine-tuning format put behind a completion
_END_OF_TEXT = "<|endoftext|>"


def read_instructions(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per triplet; a blank input is left away."""
    del config
    for row in read_rows(source, tally, suffixes=frozenset({".jsonl", ".json"})):
        instruction = text_field(row.fields, "instruction", "prompt")
        if instruction is None:
            tally.bad("no instruction", row.where)
            continue
        instances = row.fields.get("instances", [row.fields])
        if not isinstance(instances, list) or not instances:
            tally.bad("no instances", row.where)
            continue
        for number, instance in enumerate(instances):
            where = f"{row.where}#{number}" if "instances" in row.fields else row.where
            yield from _triplet(instruction, instance, where, tally)


def _triplet(instruction: str, instance: Json, where: str, tally: Tally) -> Iterator[Document]:
    if not isinstance(instance, dict):
        tally.bad("instance is not an object", where)
        return
    output = text_field(instance, "output", "completion")
    output = output.removesuffix(_END_OF_TEXT).strip() if output else ""
    if not output:
        tally.bad("no output", where)
        return
    given = text_field(instance, "input")
    asked = instruction if given is None else f"{instruction}\n{given}"
    tally.keep()
    parts = [Text(asked, role="user", loss=False), Text(output, role="assistant")]
    yield Document(parts, id=where, meta={"source": instruction})
