"""The texts behind golden vectors: unusual ones, many scripts, and lengths up to a model's maximum."""

from collections.abc import Sequence

_LONG = "Sediment cores from the delta record nine floods in the last two thousand years. " * 40
_ODD = (
    "",
    " ",
    "\n\t  \n",
    "a",
    "Hello, world!",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The quantum computer factored a large integer.",
    "What is the capital of Iceland?",
    "Reykjavík is the capital and largest city of Iceland.",
    "Der Zug nach München fährt heute von Gleis fünf ab.",
    "Le château fut détruit pendant la guerre, puis reconstruit à l'identique.",
    "El niño comió tres manzanas antes de irse a la escuela.",
    "Поезд отправляется через десять минут.",
    "東京は日本の首都です。",
    "北京是中华人民共和国的首都。",
    "القاهرة هي عاصمة جمهورية مصر العربية.",
    "Great job!!! 🎉🎉 See you at 🏔️ tomorrow 👩‍🚀",
    "def add(a: int, b: int) -> int:\n    return a + b  # sum of both",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name ORDER BY 2 DESC;",
    "3.14159 2.71828 1.41421 -40 °C 99.9 % 1,000,000",
    "supercalifragilisticexpialidocious" * 5,
    "[CLS] special [SEP] tokens [MASK] written [PAD] out",
    _LONG[:600],
)


_MAX_SPECIAL = 8  # a tokenizer may have hundreds, of which those with a role come first


def golden_texts(max_tokens: int, special_tokens: Sequence[str] = ()) -> tuple[str, ...]:
    """The texts for a model that takes up to `max_tokens` tokens per text and has these special tokens.

    After the unusual ones come texts in which special tokens are written out, then the first 2, 3, 4, 6, 8,
    12 and so on words of one long text, and finally more words than fit.
    """
    written = [f"{token} first, amid{token}words and last {token}" for token in special_tokens[:_MAX_SPECIAL]]
    words = _LONG.split() * (1 + max_tokens // 500)
    counts = [count for power in range(1, 32) for count in (2**power, 3 * 2 ** (power - 1))]
    ladder = [" ".join(words[:count]) for count in counts if count < max_tokens]
    return (*_ODD, *written, *ladder, " ".join(words[: max_tokens + 1]))
