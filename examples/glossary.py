"""Prints the corpus of the demo: definitions of common, concrete nouns from WordNet 3.0.

python examples/glossary.py /usr/share/wordnet > examples/definitions.jsonl     (Debian: wordnet-base)
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NUM_DEFINITIONS = 4000
MAX_NAMES = 3
NUM_CHARACTERS = range(12, 181)
# WordNet's file numbers of animals, artifacts, body, food, objects, phenomena, plants and substances.
CONCRETE_FILES = frozenset({"05", "06", "08", "13", "17", "19", "20", "27"})
UNWELCOME = re.compile(
    "slang|obscene|offensive|disparag|street name|sexual|genital|copulat|female repro|bosom"
)


@dataclass(frozen=True, slots=True)
class Sense:
    """A sense of a word: `number` 1 is its most common one; `names` starts with the word."""

    number: int
    names: tuple[str, ...]
    definition: str


def read_entries(path: Path) -> Iterator[str]:
    """The lines of a WordNet file, without the indented licence at the top."""
    with path.open(encoding="ascii") as lines:
        yield from (line for line in lines if not line.startswith(" "))


def read_numbers(path: Path) -> dict[tuple[str, str], int]:
    """Sense numbers by word and offset; an index file lists a word's offsets, the most common sense first."""
    numbers = {}
    for entry in read_entries(path):
        word, _, num_senses, *rest = entry.split()
        for number, offset in enumerate(rest[-int(num_senses) :], start=1):
            numbers[word, offset] = number
    return numbers


def read_senses(folder: Path) -> Iterator[Sense]:
    """Senses of concrete nouns that are ordinary single words, with short definitions."""
    numbers = read_numbers(folder / "index.noun")
    for entry in read_entries(folder / "data.noun"):
        head, gloss = entry.split(" | ", maxsplit=1)
        offset, file, _, num_names, *fields = head.split()
        names = tuple(name.replace("_", " ") for name in fields[: 2 * int(num_names, 16) : 2])
        definition = gloss.split('; "')[0].strip().rstrip(";")
        is_ordinary = re.fullmatch(r"[a-z]{3,}", names[0]) and not UNWELCOME.search(f"{names} {definition}")
        if file in CONCRETE_FILES and is_ordinary and len(definition) in NUM_CHARACTERS:
            yield Sense(numbers[names[0], offset], names, definition)


def count_words(path: Path) -> Counter[str]:
    """How often each word occurs in definitions, as a measure of how common it is."""
    glosses = (entry.partition(" | ")[2] for entry in read_entries(path))
    return Counter(word for gloss in glosses for word in re.findall(r"[a-z]+", gloss.lower()))


def main() -> None:
    """Write the corpus to standard output, sorted by word and sense."""
    folder = Path(sys.argv[1])
    frequency = count_words(folder / "data.noun")
    senses = sorted(read_senses(folder), key=lambda sense: -frequency[sense.names[0]] / sense.number)
    for sense in sorted(senses[:NUM_DEFINITIONS], key=lambda sense: (sense.names[0], sense.number)):
        text = f"{', '.join(sense.names[:MAX_NAMES])}: {sense.definition}"
        sys.stdout.write(json.dumps({"id": f"{sense.names[0]}.n.{sense.number}", "text": text}) + "\n")


if __name__ == "__main__":
    main()
