"""kosmos.check.repeats and kosmos.findings."""

from hypothesis import given
from hypothesis import strategies as st

from kosmos.check.repeats import Repeats
from kosmos.findings import MAX_EXAMPLES, Findings


@given(st.lists(st.integers(0, 20)))
def test_shares_are_exact_while_all_contents_are_watched(contents: list[int]) -> None:
    repeats = Repeats()
    seen_before = [repeats.add(str(content).encode(), str(content)) for content in contents]
    assert repeats.is_exact
    assert repeats.num_added == len(contents)
    assert sum(seen_before) == len(contents) - len(set(contents))
    assert repeats.share == (sum(seen_before) / len(contents) if contents else 0.0)
    if any(seen_before):
        count, name = repeats.most
        assert count == contents.count(int(name)) == max(map(contents.count, contents))


def test_memory_is_bounded_and_the_share_is_near() -> None:
    repeats = Repeats(capacity=500)
    for number in range(20_000):
        # every fourth content is that of a number before
        repeats.add(str(number - number % 4 * (number % 4 == 3)).encode())
    assert len(repeats._counts) <= 500
    assert not repeats.is_exact
    # 20 seeds of contents gave 0.21 to 0.29
    assert 0.18 < repeats.share < 0.32


def test_what_two_corpora_share_is_found_also_when_they_are_sampled() -> None:
    ours, theirs = Repeats(capacity=300), Repeats(capacity=1000)
    for number in range(4000):
        ours.add(str(number).encode())
    for number in range(2000, 3000):
        theirs.add(str(number).encode())
    assert theirs.common_share(ours) == 1.0
    # a quarter of ours; about 250 of them are watched
    assert 0.15 < ours.common_share(theirs) < 0.35
    assert Repeats().common_share(ours) == 0.0


def test_findings_merge_and_keep_a_few_examples() -> None:
    findings = Findings()
    for number in range(10):
        findings.count("warning", "here", "broken", f"record {number}")
    findings.add("error", "here", "all wrong", evidence=["because"])
    findings.add("note", "there", "a fact")
    assert [(f.severity, f.where, f.count) for f in findings] == [
        ("error", "here", 0),
        ("warning", "here", 10),
        ("note", "there", 0),
    ]
    assert len(findings.of("here")[0].examples) == MAX_EXAMPLES


def test_messages_that_all_differ_do_not_fill_the_memory() -> None:
    findings = Findings()
    for number in range(1000):
        findings.count("warning", "here", f"fault {number}", "example")
    assert len(list(findings)) <= 201
    assert sum(finding.count for finding in findings) == 1000
