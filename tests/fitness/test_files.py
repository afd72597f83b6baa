"""Files that appear whole, whoever else writes them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fitness.files import write_whole


def test_of_two_writers_at_once_one_is_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    contents = [letter * 200_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(lambda content: write_whole(path, content), contents))
            assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]
