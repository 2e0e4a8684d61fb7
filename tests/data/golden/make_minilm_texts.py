"""Made minilm_texts.npz: 200 texts of 1 to 400 words with the vectors of sentence-transformers in fp32.

python tests/data/golden/make_minilm_texts.py MODEL_DIR
"""

import sys
from pathlib import Path

import numpy as np

from worker.startup.make_golden import reference_vectors


def main(directory: Path) -> None:
    """Write the file beside this one."""
    words = [word for word in (directory / "vocab.txt").read_text().split("\n") if word.isalpha()]
    random = np.random.default_rng(7)
    num_words = np.exp(random.uniform(0, np.log(400), 200)).round().astype(int)
    texts = [" ".join(random.choice(words, num)) for num in num_words]
    packed = np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)
    np.savez_compressed(
        Path(__file__).with_name("minilm_texts"), texts=packed, vectors=reference_vectors(directory, texts)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
