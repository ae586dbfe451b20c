"""The tokens of a candidate behind a prompt."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kosmos.document.encode import Encoded
from kosmos.document.types import Document, Image, Part
from kosmos.errors import DataError


def encode_continuation(
    doc: Document,
    prompt: Encoded,
    candidate: Document,
    *,
    encode: Callable[[Document], Encoded],
    eos_id: int | None,
    name: str,
) -> Encoded:
    """Tokens of a candidate behind a prompt, without the prompt's.

    Args:
        doc: The prompt.
        prompt: The same, encoded.
        candidate: What follows. Boxes that no image of its own precedes lie in the last image of
            the prompt.
        encode: Lays a document out.
        eos_id: Added behind the candidate; None: nothing is.
        name: What to call the candidate in messages.

    Raises:
        DataError: If the prompt would be another one before this candidate.
    """
    if candidate.is_grounded:
        # boxes may lie in an image of the prompt, so the two are laid out together
        whole, size = encode(_joined(doc, candidate)), len(prompt)
    else:
        whole, size = encode(candidate), 1
    if candidate.is_grounded and not np.array_equal(whole.token_ids[:size], prompt.token_ids):
        raise DataError(
            f"{name}: expected a prompt whose words begin with <grounding>, "
            "found boxes behind one that does not",
            hint="put <grounding> before the words of the prompt, behind its last image",
        )
    extra = [] if eos_id is None else [eos_id]
    num_images = len(candidate.images)
    return Encoded(
        token_ids=np.concatenate([whole.token_ids[size:], np.array(extra, dtype=np.int64)]),
        image_slots=np.concatenate([whole.image_slots[size:], np.zeros(len(extra), np.bool_)]),
        loss_mask=np.concatenate([whole.loss_mask[size:], np.ones(len(extra), np.bool_)]),
        images=candidate.images,
        image_sizes=whole.image_sizes[len(whole.image_sizes) - num_images :],
    )


def _joined(doc: Document, candidate: Document) -> Document:
    """One document in which prompt and candidate are not tokenized as one run of words."""
    parts, said = list(doc.parts), list(candidate.parts)
    if parts:
        # the candidate goes on with what is being said; another's turn would end it
        said = [replace(p, role=parts[-1].role) if p.role == "text" else p for p in said]
    if parts and _run(parts[-1]) == _run(said[0]):
        # flags end a run; with all of them flipped, the runs of the prompt stay what they are
        parts = [p if isinstance(p, Image) else replace(p, loss=not p.loss) for p in parts]
    return Document([*parts, *said], id=doc.id)


def _run(part: Part) -> tuple[str, bool] | None:
    """What ends a run of words when it changes; None for an image, which always does."""
    return None if isinstance(part, Image) else (part.role, part.loss)
