"""``kosmos ask``: answer a question about a picture, or about a region of it."""

import re

import click

from kosmos.cli.options import ModelChoice, model_options
from kosmos.cli.output import WorkChoice, answers, work_options
from kosmos.cli.region import EXPRESSION, Corners, ask_about, box_option
from kosmos.cli.replies import ReplyChoice, reply_options
from kosmos.generate.request import Generate
from kosmos.generate.request_file import Entry
from kosmos.generate.sinks.words import grounded_lines
from kosmos.text import prompts
from kosmos.text.vocabulary import GROUNDING, PHRASE, PHRASE_END


@click.command()
@model_options
@work_options(
    image="A picture, - for stdin; repeat to ask about several at once.", without=("pictures",)
)
@click.option("--question", help='What to ask: "what is on the table?".')
@click.option("--ground", is_flag=True, help="Ask for boxes in the answer as well.")
@box_option
@reply_options("choices", "grammar")
def command(
    model: ModelChoice,
    work: WorkChoice,
    question: str | None,
    ground: bool,
    corners: Corners | None,
    replies: ReplyChoice,
) -> None:
    """Answer a question about a picture, about several at once, or about none.

    Example: kosmos ask --model DIR --image dog.jpg --question "what color is the dog?"

    Example: kosmos ask --model DIR --image dog.jpg --box 40,20,200,180

    Example: kosmos ask --model DIR --requests questions.jsonl --jsonl answers.jsonl
    """
    work.check(one_prompt=True)
    if not (ground or corners) and (replies.grammar or work.draw or work.coco):
        name = "grammar" if replies.grammar else "draw" if work.draw else "coco"
        raise click.UsageError(f"--{name}: expected --ground, whose boxes it is about")
    if corners is not None and not work.images:
        raise click.UsageError("--box: expected --image, in which it lies")
    if question is None and corners is None and work.requests is None:
        raise click.UsageError("expected --question, found none")

    def prompt(text: str) -> str:
        return (GROUNDING if ground else "") + prompts.question(text)

    words = EXPRESSION if question is None else prompt(question)
    if corners is not None and not re.search(f"{PHRASE}.+{PHRASE_END}", words):
        raise click.UsageError(f"--box: expected {PHRASE}...{PHRASE_END} in --question, found none")
    if work.requests is None:
        entries = work.one("question", question or "")
    else:
        entries = work.entries("question", question, needs_image=False)

    made_by = {"prompt": None if question is None else prompt(question), **replies.settings()}
    with answers(work, entries, model, grounded_lines, made_by, replies=replies) as (engine, out):
        if engine is None:
            return

        def request(entry: Entry) -> Generate:
            if corners is None:
                return replies.generate(entry, entry.document(prompt(entry.words)))
            return replies.generate(entry, ask_about(corners, words, engine, entry))

        for name, answer in engine.answer(out.requests(request), batch_size=replies.batch_size):
            out.put(name, answer, replies.row(answer))
