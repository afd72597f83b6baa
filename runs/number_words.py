"""Writes runs/number_words/*.jsonl: numbers from 0 to 999 to be written in words, as chats.

A reference has the spellings that count as right: with and without "and" and the hyphen. `python
runs/number_words.py` writes the same files each time.
"""

import json
import random
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SHOWN = 381  # in every prompt
SIZES = {"train": 240, "selection": 100, "test": 400}


def in_words(number: int, joined: str = " and ", hyphen: str = "-") -> str:
    if number < 20:
        return UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return TENS[tens - 2] + (hyphen + UNITS[unit] if unit else "")
    hundreds, rest = divmod(number, 100)
    return f"{UNITS[hundreds]} hundred" + (joined + in_words(rest, joined, hyphen) if rest else "")


def record(number: int) -> dict[str, object]:
    spellings = [in_words(number, *how) for how in product((" and ", " "), ("-", " "))]
    prompt = [
        {"role": "system", "content": "Write numbers in words."},
        {"role": "user", "content": str(SHOWN)},
        {"role": "assistant", "content": in_words(SHOWN)},
        {"role": "user", "content": str(number)},
    ]
    return {"prompt": prompt, "reference": list(dict.fromkeys(spellings))}


numbers = [number for number in range(1000) if number != SHOWN]
random.Random(0).shuffle(numbers)
for name, size in SIZES.items():
    some, numbers = numbers[:size], numbers[size:]
    lines = [json.dumps(record(number)) + "\n" for number in some]
    (HERE / "number_words" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
