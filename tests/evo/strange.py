"""Files of facts that somebody changed by hand, checksums and all."""

from pathlib import Path

from fitness.facts import MARK


def without_sums(path: Path) -> str:
    """The file's text, written back without the checksum that ends each line."""
    lines = path.read_text().splitlines()
    text = "".join(line.partition(MARK.decode())[0].removesuffix("}") + "}\n" for line in lines)
    path.write_text(text)
    return text
