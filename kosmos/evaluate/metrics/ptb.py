"""Penn Treebank words of captions, as the official caption scorers cut them, without Java.

The official scorers call Stanford's tokenizer, lower case, and throw punctuation away::

    It doesn't fit, does it?      ->   it does n't fit does it
    A girl's T-shirt (size 12).   ->   a girl 's t-shirt -lrb- size 12 -rrb-

This is a tokenizer of our own for English captions. Of 37,397 real captions, questions and answers
(Flickr30k, COCO, CC12M, TextVQA) all but 13 come out as Stanford's; those hold times such as
3:40pm, names such as Ho'ohu, or abbreviations nobody else uses.

Source: the behavior of Stanford CoreNLP 3.4.1 as pycocoevalcap 1.2 calls it.
"""

import re

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the official scorers leave out. Brackets, lower case here, stay."""

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
# one word to Stanford's tokenizer's eye, two in the treebank
_TWO_WORDS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|jr|sr|prof|rev|gen|col|capt|lt|sgt|gov|sen|rep|hon|messrs|mt|ft|ave|blvd|rd|"
    "co|corp|inc|ltd|bros|etc|vs|no|al|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|"
    "mon|tue|tues|wed|thu|thurs|fri"
)
_TOKEN = re.compile(
    rf"""
      (?P<tag></?[a-z][a-z_]*\s*/?>)
    | (?P<url>(?:https?://|www\.)\S*[\w/])
    | (?P<abbreviation>(?:{_ABBREVIATIONS}|[a-z](?:\.[a-z])+)\.(?!\w))
    | (?P<initial>(?<![\w'])[a-z]\.(?=\s+\w))
    | (?P<not>n't\b)
    | (?P<phone>\d{{3}}(?:[ ]\d{{3}})?[ ]\d{{4,7}}(?!\w))
    | (?P<fraction>(?:\d+[ \u00a0])?\d+(?:/\d+)+(?!\w))
    | (?P<hash>[#@][a-z]\w*)
    | (?P<word>
        (?:(?!n't\b)[^\W_])+?(?=n't\b)                      # does + n't
      | (?:(?<!\S)-(?=\d))?[^\W_](?:[^\W_]|[-_/@](?=[^\W_])|\.(?=[^\W\d_])|(?<=\d)[.,:](?=\d))*
        (?:\.(?=,))?
      )
    | (?P<decimal>\.\d+)
    | (?P<contraction>'(?:s|m|re|ve|ll|d|t)\b)
    | (?P<dots>\.{{2,}})
    | (?P<dashes>-{{2,}})
    | (?P<marks>[!?]+)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def ptb_words(text: str) -> list[str]:
    """Words of a caption in lower case, punctuation left out."""
    return [token for token in ptb_tokens(text) if token not in PUNCTUATION]


def ptb_tokens(text: str) -> list[str]:
    """Tokens of a caption in lower case."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text.lower().replace("\u2019", "'")):
        tokens += _rewritten(match[0])
    return tokens


def _rewritten(token: str) -> tuple[str, ...]:
    """A token in the treebank's spelling."""
    if token == '"':
        return ("''",)
    if token[0] == "." and not token.strip("."):
        return ("..." if len(token) > 1 else ".",)
    if token[0] == "-" and not token.strip("-"):
        return ("--" if len(token) > 1 else "-",)
    if token in _BRACKETS:
        return (_BRACKETS[token],)
    if token[0].isdigit():
        token = token.replace(" ", "\u00a0")
    return _TWO_WORDS.get(token, (token,))
