"""Words of captions are Stanford's, as the official scorers call it."""

import json
from pathlib import Path

import pytest

from kosmos.evaluate.metrics.ptb import ptb_words

# what Stanford CoreNLP 3.4.1 gives, punctuation left out
CASES = {
    "The jacket doesn't really need to match.": "the jacket does n't really need to match",
    "A cat spreads it's legs, lazily - on a bed...": "a cat spreads it 's legs lazily on a bed",
    'A sign that says "Abbey Road NW8".': "a sign that says abbey road nw8",
    "you can't, I'm sure they'll": "you ca n't i 'm sure they 'll",
    "ready to bat.,": "ready to bat.",
    "fireplace, chairs, etc. ": "fireplace chairs etc.",
    "a black/white photo (old) of tub/shower": "a black/white photo -lrb- old -rrb- of tub/shower",
    "a long-haired man in a T-shirt": "a long-haired man in a t-shirt",
    "dec. 5 at 8th ave. & 2/20/2011": "dec. 5 at 8th ave. & 2/20/2011",
    "5,000 fans, 3.5 km, .60 and -1": "5,000 fans 3.5 km .60 and -1",
    "i'm smart!! look..": "i 'm smart !! look",
    "gonna see <PERSON> #wellplayed": "gon na see <person> #wellplayed",
    "water&light at losmocanos.com": "water & light at losmocanos.com",
    "": "",
}


@pytest.mark.parametrize("text", CASES)
def test_words_are_stanfords(text: str) -> None:
    assert " ".join(ptb_words(text)) == CASES[text]


def test_all_real_captions_of_the_golden_file_are_cut_alike(shared_data: Path) -> None:
    folder = shared_data / "caption_metrics/val2014_fakecap"
    golden = json.loads((folder / "golden_dev200.json").read_text())["per_image"]
    references = json.loads((folder / "references_dev200.json").read_text())
    results = json.loads((folder / "results_dev200.json").read_text())
    said = {row["image_id"]: row["caption"] for row in results}
    count = 0
    for row in golden:
        raw = [*references[str(row["image_id"])], said[row["image_id"]]]
        cut = [*row["reference_tokens"], row["result_tokens"]]
        assert [" ".join(ptb_words(text)) for text in raw] == cut
        count += len(raw)
    assert count == 1201
