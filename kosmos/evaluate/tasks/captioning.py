"""Captioning: "An image of", and what people said of the picture.

Source: KOSMOS-1 (arXiv:2302.14045) section 4.1: the prompt, five beams, CIDEr; KOSMOS-2
(arXiv:2306.14824) section 4.3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kosmos.evaluate.metrics.cider import Cider
from kosmos.evaluate.metrics.ptb import ptb_words
from kosmos.evaluate.metrics.words import f1, facts_of, facts_said, lexicon_of
from kosmos.evaluate.task import Example, Metric, Prediction, Published, Scorer, Task, Values
from kosmos.files import Json
from kosmos.generate.config import Decoding
from kosmos.text.prompts import CAPTION

_PEOPLE = "consensus with the references, by rare n-grams (CIDEr-D), times 100 as the papers print"

_DECODING = Decoding(num_beams=5, max_new_tokens=48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioning(Task):
    """Pictures with references; where the objects are known, words are held to them too."""

    name: str = "captioning"
    title: str = "Captioning"
    help: str = "The picture, then “An image of”; five beams unless another number is given above."
    version: int = 2
    dataset: str = "captions"
    metrics: tuple[Metric, ...] = (
        Metric(name="cider", title="CIDEr", help=_PEOPLE, unit=""),
        Metric(name="color_f1", title="Colors F1", help="colors named, against the objects'"),
        Metric(
            name="thing_f1", title="Things F1", help="shapes or kinds named, against those there"
        ),
        Metric(name="pair_f1", title="Color–thing F1", help="“red circle”, against the objects"),
    )
    decoding: Decoding | None = _DECODING
    published: tuple[Published, ...] = (
        Published("KOSMOS-1 1.6B", "COCO Karpathy test", "cider", 84.7, "arXiv:2302.14045 Table 2"),
        Published(
            "KOSMOS-1 1.6B", "Flickr30k Karpathy test", "cider", 67.1, "arXiv:2302.14045 Table 2"
        ),
        Published(
            "KOSMOS-2 1.6B", "Flickr30k Karpathy test", "cider", 66.7, "arXiv:2306.14824 Table 5"
        ),
    )
    has_shots: bool = True

    def words(self, example: Example) -> str:
        """The same for every picture."""
        del example
        return CAPTION

    def truth(self, example: Example) -> str:
        """The first reference."""
        return example.texts("references")[0]

    def perfect(self, example: Example) -> Prediction:
        """The first reference again."""
        return Prediction(text=self.truth(example))

    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """CIDEr weighs n-grams by the references of the whole set."""
        references = {e.id: [_words(text) for text in e.texts("references")] for e in examples}
        cider = Cider(list(references.values()))
        objects = {e.id: _objects(e) for e in examples}
        lexicon = lexicon_of(list(objects.values()))

        def score(example: Example, prediction: Prediction) -> Values:
            values = {"cider": cider.score(_words(prediction.text), references[example.id])}
            if objects[example.id]:
                said, true = facts_said(prediction.text, lexicon), facts_of(objects[example.id])
                values["color_f1"] = f1(said.colors, true.colors)
                values["thing_f1"] = f1(said.things, true.things)
                values["pair_f1"] = f1(said.pairs, true.pairs)
            return values

        return score


def _words(text: str) -> str:
    return " ".join(ptb_words(text))


def _objects(example: Example) -> list[Mapping[str, Json]]:
    objects = example.doc.meta.get("objects")
    return [o for o in objects if isinstance(o, dict)] if isinstance(objects, list) else []
