"""A model as the judge of two drafts, in both orders, and its agreement with people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fitness.data.chats import Chat
from fitness.feedback.agreement import alpha
from fitness.feedback.items import Item
from fitness.feedback.judgements import NO_CHOICE, Judgement, by_judge
from fitness.judges.answers import Asked
from fitness.judges.protocol import Speaker

EDITION = 1  # of the wording below; a verdict after another one is asked for again
FIRST, SECOND = "First", "Second"

JUDGE = """\
Here are a prompt and two responses to it. Which response is better: more correct, more helpful \
and better written?

Prompt: {prompt}

First response: {first}

Second response: {second}

Which response is better? Answer First or Second.

Answer:"""


@dataclass(frozen=True)
class WithPeople:
    """Agreement of a judge with people, over their judgements of pairs that both judged.

    `same` of `decided`: where both made a choice, they chose the same draft. Krippendorff's
    alpha counts ties, and `neither`, as values of their own; None where it is not defined.
    """

    pairs: int
    decided: int
    same: int
    alpha: float | None


def verdict(speaker: Speaker, item: Item, asked: Asked) -> str:
    """The better of a pair's drafts, one of SIDES: a tie if it depends on the order they are in.

    Both orders are needed since models have a position bias: Wang et al. 2023, "Large Language
    Models are not Fair Evaluators". Raises Refused.
    """
    first, second = (draft.text.strip() for draft in item.drafts)

    def ask(_: int) -> list[float]:
        chats = [_chat(item.prompt, first, second), _chat(item.prompt, second, first)]
        return speaker.odds(chats, FIRST, SECOND)

    drafts = [draft.text for draft in item.drafts]
    content = {"edition": EDITION, "prompt": item.prompt, "drafts": drafts}
    straight, swapped = asked.once("verdict", {**content, "by": speaker.identity}, ask)
    if straight > 0 > swapped:
        return "first"
    return "second" if straight < 0 < swapped else "tie"


def with_people(judgements: Iterable[Judgement]) -> Mapping[str, WithPeople]:
    """Agreement of each judge, by name, with people's preferences."""
    preferences = [one for one in judgements if one.kind == "preference"]
    people: dict[str, list[str]] = {}
    for one in preferences:
        if not by_judge(one.annotator):
            people.setdefault(one.item, []).append(one.value)
    units: dict[str, list[tuple[str, str]]] = {}
    for one in preferences:
        if by_judge(one.annotator):
            units.setdefault(one.annotator, []).extend(
                (one.value, theirs) for theirs in people.get(one.item, [])
            )
    return {name: _agreement(found) for name, found in units.items()}


def _agreement(units: list[tuple[str, str]]) -> WithPeople:
    decided = [one for one in units if not {*NO_CHOICE} & {*one}]
    same = sum(judge == person for judge, person in decided)
    return WithPeople(len(units), len(decided), same, alpha(units, "nominal") if units else None)


def _chat(prompt: str, first: str, second: str) -> Chat:
    said = JUDGE.format(prompt=prompt.strip(), first=first, second=second)
    return [{"role": "user", "content": said}]
