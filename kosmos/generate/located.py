"""Documents to the likeliest boxes of what they ask for."""

from collections.abc import Sequence

from kosmos.document.types import Document
from kosmos.generate.grounding import make_located
from kosmos.generate.locate import best_pairs, open_object
from kosmos.generate.reading import SEVERAL_ROWS, Reader
from kosmos.generate.reply import Located
from kosmos.generate.request import prompt_name
from kosmos.generate.rollout import Rollout
from kosmos.generate.schedule import batches, shared_groups
from kosmos.generate.tree import Prompt


def locate(
    reader: Reader, docs: Sequence[Document], *, k: int, nms: float | None, batch_size: int
) -> list[list[Located]]:
    """The likeliest boxes behind each of some documents, likeliest first.

    Args:
        reader: Reads them.
        docs: As :func:`~kosmos.generate.locate.ask_where` makes them.
        k: Boxes of each.
        nms: Most intersection over union with a likelier box; None: any.
        batch_size: Most documents read at once.
    """
    vocabulary = reader.tokenizer.vocabulary
    names = [prompt_name(doc, index if len(docs) > 1 else None) for index, doc in enumerate(docs)]
    rows = [
        open_object(reader.encode(doc), vocabulary, name=name)
        for doc, name in zip(docs, names, strict=True)
    ]
    for row, name in zip(rows, names, strict=True):
        reader.room(len(row), name)
    found: dict[int, list[Located]] = {}
    groups = shared_groups(rows, most=batch_size)
    for batch in batches(groups, [len(row) for row in rows], most=batch_size):
        members = [index for group in batch for index in group]
        reader.expect(SEVERAL_ROWS * (1 + len(members) + k))
        soft = reader.image_cache.take(
            [rows[index].images for index in members], names=[names[index] for index in members]
        )
        prompts = {
            index: Prompt(encoded=rows[index], soft_tokens=tokens, name=names[index])
            for index, tokens in zip(members, soft, strict=True)
        }
        rollout = Rollout(reader.model, [[prompts[i] for i in group] for group in batch], room=k)
        pairs = best_pairs(rollout, len(members), vocabulary, k=k, nms=nms)
        for index, row_pairs in zip(members, pairs, strict=True):
            found[index] = make_located(
                row_pairs,
                rows[index],
                transform=reader.transform,
                num_cells=vocabulary.num_cells,
            )
    return [found[index] for index in range(len(rows))]
