"""The files of `evo init`: a commented spec and a little real text, complete and runnable."""

from pathlib import Path

from fitness.errors import InputError
from fitness.files import write_whole

HERE = Path(__file__).parent
QUICKSTART_FOLDER = HERE / "quickstart"
TEMPLATE = HERE / "templates" / "search.yaml"
# Files below data/, beside the spec: name, shipped file of which it is an excerpt, most documents.
EXAMPLE_DATA = (
    ("sources/jargon.jsonl", "sources/jargon.jsonl", 100),
    ("sources/devil.jsonl", "sources/devil.jsonl", 150),
    ("sources/wordnet.jsonl", "sources/wordnet/ideas.jsonl", 500),
    ("held_out/jargon.jsonl", "held_out/jargon.selection.jsonl", 60),
    ("held_out/general.selection.jsonl", "held_out/general.selection.jsonl", 40),
    ("held_out/general.test.jsonl", "held_out/general.test.jsonl", 40),
    ("prompts/jargon.selection.jsonl", "prompts/jargon.selection.jsonl", 16),
    ("prompts/jargon.test.jsonl", "prompts/jargon.test.jsonl", 16),
)


def init(folder: Path) -> list[Path]:
    """Write a commented spec and example data to start from; return the files, the spec first.

    Raises InputError, before anything is written, if one of them exists.
    """
    texts = {folder / "search.yaml": TEMPLATE.read_text(encoding="utf-8")}
    for name, shipped, documents in EXAMPLE_DATA:
        lines = (QUICKSTART_FOLDER / "corpus" / shipped).read_text(encoding="utf-8").splitlines()
        texts[folder / "data" / name] = "\n".join(lines[:documents]) + "\n"
    for path in texts:
        if path.exists() or path.is_symlink():
            raise InputError(f"{path}: exists already and is left as it is; name another folder")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    return list(texts)
