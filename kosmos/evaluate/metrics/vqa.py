"""VQA accuracy: answers brought to the official normal form and compared with ten people's.

- :func:`normalize_answer`: lower case, no punctuation or articles, digits for number words
- :func:`vqa_accuracy`: the share of people who agree, full from three on

Source: the behavior of VQAv2's official evaluation, oddities included: a comma between digits
anywhere makes every mark of punctuation vanish rather than become a space, at most 32 periods
are taken out, and nothing is brought to the normal form where all people gave the same answer.
"""

import re
from collections.abc import Sequence

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_DIGITS_WITH_COMMA = re.compile(r"\d,\d")
_MAX_PERIODS = 32
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_CONTRACTED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's "
    "how'd how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've "
    "o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll "
    "someone's something'd something'll that's there'd there're there's they'd they'll they're "
    "they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's "
    "where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd "
    "you'll you're you've "
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've "
    "someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll "
    "you'd've"
)


def _spellings() -> dict[str, str]:
    """What people write without one of the apostrophes, and the contraction it stands for."""
    found = {}
    for word in _CONTRACTED.split():
        for index, letter in enumerate(word):
            if letter == "'":
                found[word[:index] + word[index + 1 :]] = word
    # the table has these beside the rule
    found |= {"somebody'd": "somebodyd"}
    found |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    found |= dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    return found


_SPELLINGS = _spellings()


def normalize_answer(answer: str) -> str:
    """The official normal form of an answer.

    >>> normalize_answer("The two dogs, obviously!")
    '2 dogs obviously'
    """
    words = _normalize_punctuation(_one_line(answer)).lower().split()
    digits = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_SPELLINGS.get(word, word) for word in digits if word not in _ARTICLES)


def _normalize_punctuation(answer: str) -> str:
    vanishes = _DIGITS_WITH_COMMA.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if vanishes or beside_space else " ")
    return _PERIOD.sub("", text, count=_MAX_PERIODS)


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """How right an answer is, 0 to 1.

    Args:
        answer: What the model said.
        people: What people said: for each of them left out in turn, the share of three who gave
            this answer, at most 1, is averaged. With fewer than four, as in a made world where
            there is one right answer, it is right if one of them gave it.
    """
    given = [_one_line(person) for person in people]
    said = _one_line(answer)
    if len(given) < 4 or len(set(given)) > 1:
        given = [normalize_answer(person) for person in given]
        said = normalize_answer(said)
    if len(given) < 4:
        return float(said in given)
    agreeing = [person == said for person in given]
    total = sum(agreeing)
    return sum(min(1.0, (total - agrees) / 3) for agrees in agreeing) / len(given)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
