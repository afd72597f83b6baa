"""Drafts rewritten according to critiques: imitation learning from language feedback, ILF.

Scheurer et al. 2022, "Training Language Models with Language Feedback", and 2023, "... at Scale":
a model writes several refinements of a draft, given the critique; the one that best incorporates
it, by a model asked in several wordings (their InstructRM ensemble), is learned without the
critique. Unlike there, responses may be to any prompt, log-odds are averaged, not
probabilities, and a refinement must also beat the draft under the same question, since small models
say yes to almost everything.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fitness.data.chats import Chat
from fitness.data.formats import json_records, text_in
from fitness.errors import InputError
from fitness.judges.answers import Asked
from fitness.judges.protocol import Speaker

EDITION = 1  # of the wordings below; what was said after others is asked again
YES, NO = "Yes", "No"
THRESHOLD = 0.0  # mean log-odds: yes is as likely as no
HOPELESS = 0.05  # a share accepted below which what was accepted is chance

REFINE = """\
Write an excellent response to the prompt that incorporates the feedback on the given response and \
is better than the given response. Answer with the improved response alone.

Prompt: {prompt}

Response: {draft}

Feedback on the response: {critique}

Improved response:"""

CRITICISE = """\
Write feedback that criticises the given response to the prompt. It should help to write an \
improved and excellent response: say in one or two sentences what is wrong or missing, and do not \
rewrite the response.

Prompt: {prompt}

Response: {draft}

Feedback:"""

# The bare question; with an introduction; with the feedback first and once more at the end.
WORDINGS = (
    """\
Prompt: {prompt}

Original response: {draft}

Feedback: {critique}

New response: {refinement}

Question: Does the new response incorporate the feedback provided? Answer Yes or No.

Answer:""",
    """\
You will be given a prompt, a response to it, and feedback on that response. Your goal is to \
determine whether a new response improves upon the original with respect to the feedback provided.

Prompt: {prompt}

Original response: {draft}

Somebody then gave feedback on the above response.

Feedback: {critique}

Based on this feedback, a new response was written.

New response: {refinement}

Does this new response improve upon the original with respect to the feedback? Answer Yes or No.

Answer:""",
    """\
You will be asked to determine whether a new response incorporates the feedback provided.

Feedback: {critique}

Here is the prompt that was answered in the first place.

Prompt: {prompt}

Original response: {draft}

New response: {refinement}

Remember the feedback on the original response: {critique}

Does the new response do what the feedback asks for? Answer Yes or No.

Answer:""",
)


@dataclass(frozen=True, slots=True)
class Criticised:
    """A draft of a response to a prompt, its critique and the critic's name; "" if none."""

    prompt: str
    draft: str
    critique: str = ""
    annotator: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """Settings of sampling refinements: number, temperature, maximum tokens."""

    samples: int = 5
    temperature: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_new_tokens < 1:
            raise InputError("samples and max_new_tokens must be at least 1")
        if not 0 <= self.temperature <= 10:
            raise InputError(f"the temperature is from 0 to 10, got {self.temperature}")


@dataclass(frozen=True, slots=True)
class Refined:
    """A draft with its different refinements, and the log-odds that each incorporates the critique.

    `odds` are means over wordings, in the order of the refinements; `draft_odds` those of the draft
    itself. `cut` more were truncated at the maximum length and are left out: training on them would
    teach to stop anywhere.
    """

    of: Criticised
    refinements: tuple[str, ...]
    odds: tuple[float, ...]
    draft_odds: float
    cut: int = 0

    def accepted(self, threshold: float = THRESHOLD) -> str | None:
        """The best refinement, if it is above the threshold and above the draft."""
        best = max(range(len(self.odds)), key=lambda place: self.odds[place], default=None)
        if best is None or self.odds[best] <= max(threshold, self.draft_odds):
            return None
        return self.refinements[best]


def criticised_in(path: Path, *, critic: bool) -> Iterator[Criticised]:
    """The records {prompt, draft, critique} of a JSONL file; if `critic`, critiques may be missing.

    Raises InputError with file and line for what is none.
    """
    for number, record in json_records(path):
        where = f"{path}:{number}"
        prompt, draft = (text_in(record, name, where) for name in ("prompt", "draft"))
        given = record.get("critique") is not None or not critic
        critique = text_in(record, "critique", where) if given else ""
        if not critique.strip() and not critic:
            raise InputError(f"{where}: 'critique' is blank; drop this record, or add --critic")
        yield Criticised(prompt, draft, critique, str(record.get("annotator", "")))


def criticise(speaker: Speaker, one: Criticised, asking: Asking, asked: Asked) -> Criticised:
    """Add a critique by the model to a draft, which may be blank. Raises Refused."""
    drawn = {name: getattr(asking, name) for name in ("temperature", "max_new_tokens", "seed")}

    def ask(seed: int) -> str:
        settings = {**drawn, "seed": seed}
        ((critique,),) = speaker.answers([_chat(CRITICISE, one)], 1, **settings)
        return critique.text.strip()

    content = {"edition": EDITION, "prompt": one.prompt, "draft": one.draft}
    critique = asked.once("critique", {**content, "by": speaker.identity, **drawn}, ask)
    return Criticised(one.prompt, one.draft, critique, f"critic:{speaker.name}")


def refine(speaker: Speaker, one: Criticised, asking: Asking, asked: Asked) -> Refined:
    """Sample refinements of a draft, with their odds. Raises Refused.

    An item is a batch of its own, so that its result does not depend on the other items, nor on
    answers that were stored already.
    """

    def ask(seed: int) -> dict[str, Any]:
        (written,) = speaker.answers(
            [_chat(REFINE, one)],
            asking.samples,
            temperature=asking.temperature,
            max_new_tokens=asking.max_new_tokens,
            seed=seed,
        )
        stripped = dict.fromkeys(text.strip() for text, ended in written if ended)
        cut = sum(not ended for _, ended in written)
        kept = [text for text in stripped if text and text != one.draft.strip()]
        if not kept:
            return {"refinements": [], "odds": [], "draft_odds": 0.0, "cut": cut}
        draft_odds, *odds = incorporates(speaker, one, [one.draft.strip(), *kept])
        return {"refinements": kept, "odds": odds, "draft_odds": draft_odds, "cut": cut}

    texts = {"prompt": one.prompt, "draft": one.draft, "critique": one.critique}
    content = {"edition": EDITION, **texts}
    said = asked.once("refined", {**content, "by": speaker.identity, **asdict(asking)}, ask)
    before = one.draft[: len(one.draft) - len(one.draft.lstrip())]  # what parts it from the prompt
    return Refined(
        one,
        tuple(before + text for text in said["refinements"]),
        tuple(said["odds"]),
        said["draft_odds"],
        said["cut"],
    )


def incorporates(speaker: Speaker, one: Criticised, texts: list[str]) -> list[float]:
    """Log-odds that texts do what the critique asks for, each the mean over WORDINGS."""
    chats = [_chat(wording, one, text) for text in texts for wording in WORDINGS]
    odds = speaker.odds(chats, YES, NO)
    many = len(WORDINGS)
    return [sum(odds[begin : begin + many]) / many for begin in range(0, len(odds), many)]


def _chat(wording: str, one: Criticised, refinement: str = "") -> Chat:
    said = wording.format(
        prompt=one.prompt.strip(),
        draft=one.draft.strip(),
        critique=one.critique.strip(),
        refinement=refinement,
    )
    return [{"role": "user", "content": said}]
