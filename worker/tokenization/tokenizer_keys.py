"""The keys of tokenizer_config.json that Embedmill reads, that change no token id, and that it refuses."""

from collections.abc import Mapping
from typing import Any

from worker.models.keys.table import check_keys, keys

_TABLE = keys(
    """
    tokenizer_class auto_map backend model_max_length do_lower_case strip_accents tokenize_chinese_chars
    add_prefix_space add_bos_token add_eos_token truncation_side split_special_tokens added_tokens_decoder
    additional_special_tokens extra_special_tokens model_specific_special_tokens
    """,
    # Decoding, padding, chat and file names; the arguments of a tokenizer in Python, which tokenizer.json
    # replaces; limits that each call of sentence-transformers replaces.
    harmless="""
        name_or_path _name_or_path tokenizer_file special_tokens_map_file added_tokens_file
        vocab_file merges_file spm_file sentencepiece_model_file full_tokenizer_file chat_template
        chat_template_file response_schema processor_class image_processor_type
        feature_extractor_type model_input_names transformers_version use_fast trust_remote_code
        is_local local_files_only revision cache_dir _commit_hash tokenizer_type verbose
        clean_up_tokenization_spaces spaces_between_special_tokens errors use_default_system_prompt
        padding padding_side pad_to_multiple_of pad_token_type_id return_token_type_ids
        return_tensors return_attention_mask truncation truncation_strategy max_length max_len
        max_seq_length max_seq_len stride do_basic_tokenize never_split wordpieces_prefix legacy
        sp_model_kwargs trim_offsets extra_ids keep_accents remove_space do_sentence_piece offset
        device device_map vocab_size
    """,
    only={
        "fast_tokenizer_files": ([],),
        "init_inputs": ([],),
        "from_slow": (False,),
        "fix_mistral_regex": (False,),
        "split_by_punct": (False,),
        "src_lang": (),
        "tgt_lang": (),
        "language": (),
        "task": (),
    },
)


def check_tokenizer_keys(config: Mapping[str, Any]) -> None:
    """Raise ModelError if a tokenizer_config.json has a key that may change token ids and is not read.

    Every key that ends in `_token` names a special token, and in `_token_id` its id.
    """
    others = {key: value for key, value in config.items() if not key.endswith(("_token", "_token_id"))}
    # Two that end so are switches.
    others |= {key: config[key] for key in ("add_bos_token", "add_eos_token") if key in config}
    check_keys(others, _TABLE, file="tokenizer_config.json", reader="tokenizer")
