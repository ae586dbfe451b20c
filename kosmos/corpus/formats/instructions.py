"""Instruction triplets into documents: what is asked carries no loss, what is answered does.

The published layouts of a row, as JSON Lines, a JSON list or Parquet::

    self-instruct   {"instruction": ..., "instances": [{"input": ..., "output": ...}, ...]}
    unnatural       the same, and "instruction_with_input" in each instance; in the full data also
                    "reformulations": [{"instruction": "... {INPUT} ...", ...}, ...]
    alpaca          {"instruction": ..., "input": ..., "output": ...}
    FLANv2          {"inputs": ..., "targets": ...}
    prompted        {"prompt": ..., "completion": ...}           (T0 style)

The input stands where the row says: in ``instruction_with_input``, in place of ``{INPUT}``, or in a
line of its own behind the instruction. What Unnatural Instructions calls ``constraints`` is no part
of its triplets and is passed over.

Source: KOSMOS-1 (arXiv:2302.14045) section 3.3: triplets of instruction, input and output, loss on
outputs only; 68,478 of Unnatural Instructions' core and 54k of FLANv2.
"""

from collections.abc import Iterator

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Text
from kosmos.files import Json
from kosmos.remote import AnyPath

# what OpenAI's old fine-tuning format put behind a completion
_END_OF_TEXT = "<|endoftext|>"
_INPUT = "{INPUT}"


def read_instructions(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per triplet; a blank input is left away."""
    for row in read_rows(source, config, tally):
        instruction = text_field(row.fields, "instruction", "prompt", "inputs")
        if instruction is None:
            tally.bad("no instruction", row.where)
            continue
        for where, instance in _instances(row, tally):
            if not isinstance(instance, dict):
                tally.bad("instance is not an object", where)
                continue
            output = text_field(instance, "output", "completion", "targets")
            output = output.removesuffix(_END_OF_TEXT).strip() if output else ""
            if not output:
                tally.bad("no output", where)
                continue
            asked = _asked(text_field(instance, "instruction") or instruction, instance)
            if asked is None:
                tally.bad("no input where the instruction places one", where)
                continue
            tally.keep()
            parts = [Text(asked, role="user", loss=False), Text(output, role="assistant")]
            yield Document(parts, id=where, meta={"source": instruction})


def _instances(row: Row, tally: Tally) -> Iterator[tuple[str, Json]]:
    """Inputs and outputs of a row, each by the name of its own if there may be several."""
    instances = row.fields.get("instances")
    if instances is None:
        yield row.where, row.fields
        return
    if not isinstance(instances, list) or not instances:
        tally.bad("no instances", row.where)
        return
    for number, instance in enumerate(instances):
        yield f"{row.where}#{number}", instance
    reworded = row.fields.get("reformulations")
    if isinstance(reworded, list):
        for number, instance in enumerate(reworded):
            yield f"{row.where}#reformulation-{number}", instance


def _asked(instruction: str, instance: dict[str, Json]) -> str | None:
    """Instruction and input as one text; None if there is a place for an input and none to put."""
    whole = text_field(instance, "instruction_with_input")
    if whole is not None:
        return whole
    given = text_field(instance, "input")
    if _INPUT in instruction:
        return None if given is None else instruction.replace(_INPUT, given)
    return instruction if given is None else f"{instruction}\n{given}"
