"""Refinement by a model's critiques: `make bench NAME=language ARGS='--model FOLDER'`, 30 items.

The model writes a draft for each prompt, criticises two thirds of them, and a rule that can be
checked criticises the rest: at most so many words. Then it refines them all as `evo feedback
refine` does. For the rule, the best refinements can be held against what was asked for.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fitness.inference.connection import KEY_VARIABLE
from fitness.judges.answers import Asked
from fitness.judges.language import HOPELESS, Asking, Criticised, Refined, criticise, refine
from fitness.judges.protocol import Speaker
from fitness.judges.speakers import speaker_of

WORDS = 12  # at most, by the rule
RULE = f"This is too long. Answer in a single short sentence of at most {WORDS} words."
BY_RULE = "rule"
EXAMPLES, SHOWN = 3, 220
PROMPTS = (
    "What is a compiler?",
    "Why is the sky blue?",
    "Give me a tip for sleeping better.",
    "What is the difference between a virus and a bacterium?",
    "Write a short thank-you note to a neighbour who watered my plants.",
    "How do I boil an egg?",
    "Name three rivers in Europe.",
    "What does the word 'ubiquitous' mean?",
    "Suggest a name for a small bakery.",
    "Why do leaves change colour in autumn?",
    "What is 17 plus 26?",
    "Describe a lighthouse in one sentence.",
    "What is the capital of Australia?",
    "How can I remove a coffee stain from a shirt?",
    "What is a prime number?",
    "Give an example of a metaphor.",
    "Why do we have leap years?",
    "What should I pack for a weekend hike?",
    "Who wrote 'Pride and Prejudice'?",
    "How does a bicycle stay upright?",
    "What is inflation?",
    "Name a mammal that lays eggs.",
    "Write a polite reply that declines an invitation to dinner.",
    "What is photosynthesis?",
    "How many days are there in February?",
    "Why is exercise good for the heart?",
    "What is an adverb?",
    "Give me an idea for a birthday present for a gardener.",
    "What is a black hole?",
    "How do I write a good headline?",
)


def items(speaker: Speaker, asking: Asking, asked: Asked) -> list[Criticised]:
    """A greedy draft of an answer to each prompt, every third of them criticised by the rule."""
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    drafts = speaker.answers(
        chats, 1, temperature=0, max_new_tokens=asking.max_new_tokens, seed=asking.seed
    )
    found = []
    for place, (prompt, ((draft, _),)) in enumerate(zip(PROMPTS, drafts, strict=True)):
        if place % 3 == 2:
            found.append(Criticised(prompt, draft, RULE, BY_RULE))
        else:
            found.append(criticise(speaker, Criticised(prompt, draft), asking, asked))
    return found


def figures(refined: Sequence[Refined]) -> dict[str, float]:
    """Counts of refined drafts: accepted at even odds, accepted if only they beat the draft,
    and the mean of the odds."""
    return {
        "items": len(refined),
        "accepted": sum(one.accepted() is not None for one in refined),
        "beats_draft": sum(one.accepted(-np.inf) is not None for one in refined),
        "best_odds": round(float(np.mean([max(o.odds) for o in refined if o.odds])), 2),
        "draft_odds": round(float(np.mean([o.draft_odds for o in refined if o.odds])), 2),
        "cut": sum(one.cut for one in refined),
    }


def obeyed(refined: Sequence[Refined]) -> dict[str, float]:
    """Shares of texts that obey the rule: drafts, refinements, the best by odds of each draft."""

    def share(texts: Sequence[str]) -> float:
        return round(float(np.mean([len(text.split()) <= WORDS for text in texts])), 2)

    chosen = [one for one in refined if one.odds]
    return {
        "drafts": share([one.of.draft for one in refined]),
        "refinements": share([text for one in chosen for text in one.refinements]),
        "best": share([one.refinements[int(np.argmax(one.odds))] for one in chosen]),
    }


def shown(one: Refined) -> str:
    best = int(np.argmax(one.odds))
    lines = {
        "prompt": one.of.prompt,
        "draft": one.of.draft,
        f"critique ({one.of.annotator})": one.of.critique,
        f"best refinement ({one.odds[best]:.2f}, draft {one.draft_odds:.2f})": one.refinements[
            best
        ],
    }
    return "\n".join(f"  {name}: {' '.join(said.split())[:SHOWN]}" for name, said in lines.items())


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    speaker = speaker_of(options.model, key_variable=KEY_VARIABLE)
    asking = Asking(options.samples, options.temperature, options.tokens, options.seed)
    with tempfile.TemporaryDirectory() as folder, Asked(Path(folder), "asked") as asked:
        began = time.perf_counter()
        given = [one for one in items(speaker, asking, asked) if one.critique]
        written = time.perf_counter()
        refined = []
        for place, one in enumerate(given, 1):
            refined.append(refine(speaker, one, asking, asked))
            print(f"{place} of {len(given)}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        done = time.perf_counter()
        again = [refine(speaker, one, asking, asked) for one in given]
        resumed = time.perf_counter() - done
    assert again == refined
    kinds = {
        "model": [one for one in refined if one.of.annotator != BY_RULE],
        BY_RULE: [one for one in refined if one.of.annotator == BY_RULE],
    }
    found = {kind: figures(some) for kind, some in kinds.items()}
    print(f"{len(refined)} of {len(PROMPTS)} drafts criticised and refined by {speaker.name}:")
    for kind, row in found.items():
        print(f"  critiques by the {kind:6}" + ", ".join(f"{k} {v}" for k, v in row.items()))
    print(f"shares that obey the rule of {WORDS} words: {obeyed(kinds[BY_RULE])}")
    print(f"drafts and critiques {written - began:.0f} s, refinements {done - written:.0f} s")
    ranked = sorted((o for o in refined if o.odds), key=lambda o: max(o.odds) - o.draft_odds)
    for example in (ranked[-1], ranked[len(ranked) // 2], ranked[0])[:EXAMPLES]:
        print(shown(example) + "\n")
    rate = sum(one.accepted() is not None for one in refined) / len(refined)
    print(f"acceptance rate {rate:.2f}; below {HOPELESS} corrections are used instead")
    if options.keep:
        options.keep.write_text("\n\n".join(map(shown, ranked)) + "\n", encoding="utf-8")
    seconds = {
        "drafts_and_critiques": round(written - began, 1),
        "refinements": round(done - written, 1),
        "resumed": round(resumed, 3),
    }
    result = {
        "name": "language",
        "temperature": asking.temperature,
        "rate": round(rate, 3),
        "critiques": found,
    }
    print("BENCH " + json.dumps({**result, "obeyed": obeyed(kinds[BY_RULE]), "seconds": seconds}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=language", description=__doc__)
    parser.add_argument("--model", required=True, help="a folder or Hub id, with a chat template")
    parser.add_argument("--samples", type=int, default=3, help="refinements a draft (default 3)")
    parser.add_argument("--tokens", type=int, default=64, help="longest text (default 64)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of all draws (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write all best refinements")
    return parser.parse_args()


if __name__ == "__main__":
    main()
