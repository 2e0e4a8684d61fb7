"""Changes a tokenizer as the transformers library changes what it read from tokenizer.json."""

from collections.abc import Iterable
from itertools import chain
from typing import Any, cast

import structlog
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Sequence
from tokenizers.processors import TemplateProcessing

from producer.errors import ModelError
from worker.tokenization.stated import StatedTokenizer

log = structlog.stdlib.get_logger(__name__)


def apply_rules(library: Library, stated: StatedTokenizer, *, major: int) -> None:
    """Give the tokenizer the settings that its other files state, as transformers `major` does.

    Raises ModelError if the files contradict each other in a way that transformers resolves only by
    converting the tokenizer again.
    """
    _set_normalizer(library, stated, major)
    _set_prefix_space(library, stated, major)
    _add_tokens(library, stated, major)
    _set_template(library, stated, major)
    library.encode_special_tokens = bool(stated.settings.get("split_special_tokens"))


def _set_normalizer(library: Library, stated: StatedTokenizer, major: int) -> None:
    """Lower-casing, accents and Chinese characters: the class decides them, not tokenizer.json."""
    old, settings = library.normalizer, stated.settings
    if not stated.kind.normalizes or not isinstance(old, BertNormalizer):
        return
    chinese = settings.get("tokenize_chinese_chars", True)
    if major == 4 and stated.kind.keeps_chinese:
        chinese = old.handle_chinese_chars
    library.normalizer = BertNormalizer(
        clean_text=old.clean_text,
        handle_chinese_chars=bool(chinese),
        strip_accents=settings.get("strip_accents"),
        lowercase=bool(settings.get("do_lower_case", True)),
    )


def _set_prefix_space(library: Library, stated: StatedTokenizer, major: int) -> None:
    """Whether a space is put before a text.

    Transformers 4 sets it in byte-level pre-tokenizers of any class, 5 in the classes that it builds itself.
    """
    wanted = stated.settings.get("add_prefix_space", stated.kind.prefix_space)
    pre_tokenizer = library.pre_tokenizer
    if major > 4 and stated.name == "LlamaTokenizer" and stated.model_type != "mistral":
        _rebuild_llama(library, stated, wanted is not False)
    elif wanted is None:
        return
    elif isinstance(pre_tokenizer, ByteLevel) and (major == 4 or stated.kind.rebuilt):
        pre_tokenizer.add_prefix_space = bool(wanted)
    elif isinstance(pre_tokenizer, Sequence) and major > 4 and stated.kind.rebuilt:
        # It has __getitem__ only, which the stubs do not know to be enough.
        for step in cast("Iterable[Any]", pre_tokenizer):
            if isinstance(step, ByteLevel):
                step.add_prefix_space = bool(wanted)
            elif isinstance(step, Metaspace):
                step.prepend_scheme = "always" if wanted else "never"
    elif major == 4 and stated.kind.prefix_space is None and not wanted and _adds_space(library):
        raise ModelError(
            "tokenizer_config.json has add_prefix_space false, but tokenizer.json puts a space before each "
            "text; save the tokenizer again, so that both say the same"
        )


def _rebuild_llama(library: Library, stated: StatedTokenizer, prefix_space: bool) -> None:
    """Spaces as transformers 5 makes them for this class, unless the tokenizer is byte-level."""
    if '"ByteLevel"' in library.to_str():
        return
    scheme = "first" if not stated.settings.get("legacy", False) else "always"
    library.normalizer = None
    library.pre_tokenizer = Metaspace(
        replacement="▁", prepend_scheme=scheme if prefix_space else "never", split=False
    )


def _adds_space(library: Library) -> bool:
    return any(token.startswith("▁") for token in library.encode("a", add_special_tokens=False).tokens)


def _add_tokens(library: Library, stated: StatedTokenizer, major: int) -> None:
    """Added and special tokens that tokenizer.json does not have, or has with other flags."""
    existing = library.get_added_tokens_decoder().values()
    same = {repr(token) for token in existing}
    known = {token.content for token in existing}
    new = [token for _, token in sorted(stated.added.items()) if repr(token) not in same]
    known |= {token.content for token in new}
    roles = stated.roles(major)
    for token in chain(roles.values(), stated.extra):
        if token.content not in known:
            known.add(token.content)
            new.append(token)
    special = {token.content for token in roles.values()}
    library.add_tokens([_special(token) if token.content in special else token for token in new])


def _special(token: AddedToken) -> AddedToken:
    token.special = True
    return token


def _set_template(library: Library, stated: StatedTokenizer, major: int) -> None:
    """The tokens before and after a text.

    The classes of transformers 4 that have add_bos_token and add_eos_token make the template from them,
    transformers 5 leaves that of tokenizer.json; e5-mistral's end token is in the settings only. BERT's and
    RoBERTa's relatives in transformers 5 take the tokens of these roles, in 4 those of tokenizer.json.
    """
    roles = stated.roles(major)
    if major > 4 and stated.kind.around is not None:
        ends = [roles[role].content for role in stated.kind.around if role in roles]
        if len(ends) == 2:
            _set_ends(library, ends[:1], ends[1:])
        return
    defaults = stated.template or (stated.kind.template if major == 4 else None)
    if defaults is None:
        return
    begin, end = (
        [roles[role].content] if role in roles and stated.settings.get(f"add_{role}", default) else []
        for role, default in zip(("bos_token", "eos_token"), defaults, strict=True)
    )
    before = library.encode("a").tokens
    _set_ends(library, begin, end)
    after = library.encode("a").tokens
    if after != before:
        # Transformers 5 may not do so: see docs/explanation/tokenization.md.
        log.info("tokenizer_template", made_with=stated.made_with, tokenizer_json=before, settings=after)


def _set_ends(library: Library, begin: list[str], end: list[str]) -> None:
    used = [(token, library.token_to_id(token)) for token in (*begin, *end)]
    parts = [f"{token}:0" for token in begin] + ["$A:0"] + [f"{token}:0" for token in end]
    library.post_processor = TemplateProcessing(single=parts, special_tokens=used)
