"""The cost of another form of the weights is measured where the first model answered."""

import math

import pytest
import torch

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError
from kosmos.generate.accuracy import compare_logits, read_replies
from kosmos.model.forms.convert import quantize_model
from tests.unit.generate.random_models import make_generator, make_model


@pytest.fixture
def docs(pictures):
    return [
        Document([Text("A red circle")], id="words"),
        Document([Image(pictures[0]), Text("An image of")]),
    ]


def test_scores_are_those_the_replies_were_chosen_by(generator, docs):
    replies = generator.generate(docs, max_new_tokens=7, num_beams=1)
    logits = read_replies(generator, docs, replies)
    said = torch.tensor([token for reply in replies for token in reply.token_ids])
    assert len(logits) == len(said)
    found = logits.log_softmax(dim=-1).gather(1, said[:, None]).squeeze(1)
    expected = [value for reply in replies for value in reply.token_logprobs]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_model_agrees_with_itself_and_nearly_with_its_quantized_form(tokenizer, generator, docs):
    replies = generator.generate(docs, max_new_tokens=7)
    exact = read_replies(generator, docs, replies)
    same = compare_logits(exact, exact)
    assert (same.same_token, same.mean_kl, same.max_logit_difference) == (1.0, 0.0, 0.0)
    assert same.num_tokens == sum(len(reply.token_ids) for reply in replies)
    model = make_model(tokenizer.vocabulary.size, seed=3)
    quantize_model(model)
    other = make_generator(tokenizer, model)
    cost = compare_logits(exact, read_replies(other, docs, replies))
    assert 0.0 < cost.mean_kl < 0.05
    assert 0.0 < cost.mean_logit_difference < 0.1 * cost.logit_spread
    assert cost.mean_logit_difference <= cost.max_logit_difference


def test_numbers_are_those_of_the_formulas():
    first = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]))
    second = torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.7, 0.1]]))
    cost = compare_logits(first, second)
    assert cost.num_tokens == 2
    assert cost.same_token == 0.5
    assert cost.mean_kl == pytest.approx(0.25 * math.log(2) / 2)
    assert cost.max_logit_difference == pytest.approx(math.log(2))
    assert cost.mean_logit_difference == pytest.approx(2 * math.log(2) / 6)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ConfigError, match="expected at least one token to compare, found none"):
        compare_logits(torch.zeros(0, 5), torch.zeros(0, 5))
