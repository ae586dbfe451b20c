"""What stands in a row of a batch, for people: tokens, documents, loss, positions, pictures.

A row of n tokens takes n - 1 positions, see batch.py. Here it is told by its tokens: a token is
*learned* if the position before it is asked for it and the answer counts. Nothing is drawn here,
see picture.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32, Int64

from kosmos.data.batch import Batch
from kosmos.data.config import Packing, Stream
from kosmos.document.layout import Layout
from kosmos.files import Json
from kosmos.image.config import ImageConfig
from kosmos.logs import printable
from kosmos.text.tokenizer import Tokenizer


class Stretch(NamedTuple):
    """Tokens side by side that are shown as one."""

    text: str
    """What they say, spaces included."""
    start: int
    """First token of the row."""
    stop: int
    learned: bool
    image: int | None = None
    """Picture of the row whose slots they are; None: they are words."""


class ShownDocument(NamedTuple):
    """What a row holds of a document."""

    id: str
    start: int
    """First token of the row that is of it."""
    stop: int


class ShownImage(NamedTuple):
    """A picture of a row."""

    start: int
    """Token that is its first slot."""
    stop: int
    document: int
    """Of the row's documents."""
    picture: PIL.Image.Image
    """As the vision tower sees it: cropped and resized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row of a batch and what its tokens mean."""

    stream: str
    packing: Packing
    token_ids: Int64[np.ndarray, " tokens"]
    """Ids, the last target included."""
    texts: tuple[str | bytes, ...]
    """What each token says; bytes where it is a part of a character."""
    names: tuple[str, ...]
    """How the dictionary writes each token."""
    learned: Float32[np.ndarray, " tokens"]
    """How much predicting each token counts; 0 for the first, which nothing predicts."""
    positions: Int64[np.ndarray, " positions"]
    """What the model is told of where each token stands; the last token has none."""
    image_slots: Bool[np.ndarray, " tokens"]
    """True where a soft image token stands."""
    documents: tuple[ShownDocument, ...]
    images: tuple[ShownImage, ...]
    num_padding: int
    """Positions behind it that fill its micro-batch up."""
    capacity: int
    """Positions it could have: of the longest row where documents fill rows, of its micro-batch
    where each has a row of its own."""

    @property
    def num_positions(self) -> int:
        """Positions it takes."""
        return len(self.positions)

    @property
    def fill(self) -> float:
        """Share of its capacity that it takes."""
        return self.num_positions / self.capacity

    @property
    def num_learned(self) -> int:
        """Tokens that are learned."""
        return int((self.learned > 0).sum())

    @property
    def learned_share(self) -> float:
        """Share of its positions on which loss falls."""
        return self.num_learned / self.num_positions

    def token_documents(self) -> Int64[np.ndarray, " tokens"]:
        """Which of its documents each token is of."""
        lengths = [doc.stop - doc.start for doc in self.documents]
        return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)

    def stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """Tokens ``[start, stop)`` as words and folded pictures.

        They are cut where a document begins and where loss begins or ends.
        """
        cuts = np.zeros(len(self.token_ids) + 1, dtype=np.bool_)
        cuts[1:-1] = np.diff(self.learned > 0)
        cuts[[start, stop, *(doc.start for doc in self.documents)]] = True
        for image in self.images:
            cuts[[image.start, image.stop]] = True
        places = [place for place in np.flatnonzero(cuts).tolist() if start <= place <= stop]
        starts = {image.start: number for number, image in enumerate(self.images)}
        for first, last in pairwise(places):
            learned = bool(self.learned[first] > 0)
            number = starts.get(first)
            if number is None and self.image_slots[first]:
                continue  # the tail of a picture that begins before the part that is asked for
            if number is not None:
                image = self.images[number]
                text = f"[image {number + 1}: {image.stop - image.start} slots]"
                yield Stretch(text, first, last, learned, number)
            else:
                yield Stretch(_say(self.texts[first:last]), first, last, learned)

    def facts(self) -> list[str]:
        """The row in a line."""
        facts = [self.packing, _count(len(self.documents), "document")]
        if self.images:
            facts.append(_count(len(self.images), "picture"))
        facts.append(f"{self.num_positions} of {self.capacity} positions ({self.fill:.0%})")
        facts.append(f"loss on {self.num_learned} ({self.learned_share:.0%})")
        if self.num_padding:
            facts.append(f"{self.num_padding} of padding behind")
        return facts

    def document_facts(self, number: int) -> list[str]:
        """What it holds of a document in a line."""
        doc = self.documents[number]
        stop = min(doc.stop, self.num_positions)
        facts = [f"tokens {doc.start}-{doc.stop - 1}"]
        if stop > doc.start:  # a last token alone has no position
            facts.append(f"positions {self.positions[doc.start]}-{self.positions[stop - 1]}")
        learned = int((self.learned[doc.start : doc.stop] > 0).sum())
        return [*facts, f"loss on {learned}"]

    def sayings(self, start: int, stop: int) -> Iterator[tuple[str, bool]]:
        """What tokens ``[start, stop)`` say, learned and given words in turns, pictures folded."""
        for learned, group in groupby(self.stretches(start, stop), key=lambda s: s.learned):
            yield "".join(stretch.text for stretch in group), learned

    def lines(self, num_tokens: int) -> Iterator[tuple[int, int]]:
        """Bounds of lines of so many tokens, and the few more that end the last word of a line."""
        start, count = 0, len(self.token_ids)
        while start < count:
            stop = start + num_tokens
            while stop < count and num_tokens > 1 and not self._begins(stop):
                stop += 1
            yield start, min(stop, count)
            start = stop

    def _begins(self, token: int) -> bool:
        """Whether a word begins here, or something that is no word."""
        text = self.texts[token]
        return isinstance(text, str) and (text[:1] in (" ", "<") or bool(self.image_slots[token]))

    def to_json(self) -> dict[str, Json]:
        """All of it but the pictures; a list of tokens with a value each."""
        return {
            "stream": self.stream,
            "packing": self.packing,
            "num_positions": self.num_positions,
            "capacity": self.capacity,
            "fill": round(self.fill, 4),
            "num_padding": self.num_padding,
            "num_learned": self.num_learned,
            "learned_share": round(self.learned_share, 4),
            "documents": [doc._asdict() for doc in self.documents],
            "images": [
                {"start": image.start, "stop": image.stop, "document": image.document}
                for image in self.images
            ],
            "token_ids": self.token_ids.tolist(),
            "tokens": list(self.names),
            "learned": self.learned.tolist(),
            "positions": self.positions.tolist(),
            "token_documents": self.token_documents().tolist(),
        }


def show_batch(
    batch: Batch, stream: Stream, tokenizer: Tokenizer, *, layout: Layout, image: ImageConfig
) -> list[ShownRow]:
    """Every row of a batch, see :func:`show_row`."""
    return [
        show_row(batch, row, stream, tokenizer, layout=layout, image=image)
        for row in range(len(batch.token_ids))
    ]


def show_row(
    batch: Batch,
    row: int,
    stream: Stream,
    tokenizer: Tokenizer,
    *,
    layout: Layout,
    image: ImageConfig,
) -> ShownRow:
    """Read a row off a batch of the stream.

    Args:
        layout: How many slots a picture has.
        image: How pixels were normalized.
    """
    numbers = batch.documents[row]
    numbers = numbers[numbers >= 0]
    used = len(numbers) - 1
    width = batch.token_ids.shape[1]
    token_ids = np.append(batch.token_ids[row, :used], batch.targets[row, used - 1])
    slots = np.append(batch.image_slots[row, :used], False)
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    documents = tuple(
        ShownDocument(printable(batch.document_ids[numbers[start]]), start, stop)
        for start, stop in pairwise(bounds)
    )
    return ShownRow(
        stream=batch.stream,
        packing=stream.packing,
        token_ids=token_ids,
        texts=tuple(_text(tokenizer, token_id) for token_id in token_ids.tolist()),
        names=tuple(printable(tokenizer.token(token_id)) for token_id in token_ids.tolist()),
        learned=np.concatenate([np.zeros(1, np.float32), batch.loss_weights[row, :used]]),
        positions=batch.positions[row, :used],
        image_slots=slots,
        documents=documents,
        images=_images(batch, row, numbers - numbers[0], layout.num_image_tokens, image),
        num_padding=width - used,
        capacity=width if stream.packing == "single" else stream.max_tokens - 1,
    )


def _images(
    batch: Batch, row: int, documents: np.ndarray, num_slots: int, config: ImageConfig
) -> tuple[ShownImage, ...]:
    """Pictures of a row: slots are filled in order, row by row."""
    starts = np.flatnonzero(batch.image_slots[row])[::num_slots].tolist()
    if not starts:
        return ()
    assert batch.pixels is not None
    first = int(batch.image_slots[:row].sum()) // num_slots
    return tuple(
        ShownImage(start, start + num_slots, int(documents[start]), _picture(pixels, config))
        for start, pixels in zip(starts, batch.pixels[first:], strict=False)
    )


def _picture(pixels: Float32[np.ndarray, "3 height width"], config: ImageConfig) -> PIL.Image.Image:
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in (config.mean, config.std)
    )
    levels = np.clip(np.rint((pixels * std + mean) * 255), 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def _text(tokenizer: Tokenizer, token_id: int) -> str | bytes:
    """What a token says, controls as they are written."""
    control = tokenizer.vocabulary.control_token(token_id)
    return tokenizer.surfaces.pieces[token_id] if control is None else control


def _say(texts: tuple[str | bytes, ...]) -> str:
    """Tokens end to end; bytes of a character joined to it, what moves a cursor written out."""
    said = b"".join(text if isinstance(text, bytes) else text.encode() for text in texts)
    return printable(said.decode(errors="replace"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
