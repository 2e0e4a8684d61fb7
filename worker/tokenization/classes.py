"""What the tokenizer classes of transformers do to the tokenizer that tokenizer.json describes, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerClass:
    """One class; the defaults are those of classes that use tokenizer.json as it is.

    With `normalizes` do_lower_case, strip_accents and tokenize_chinese_chars replace the settings of BERT's
    normalizer, the last one with `keeps_chinese` in transformers 5 only. `template`
    has the defaults of add_bos_token and add_eos_token if transformers 4 makes the class's template from
    them, whatever tokenizer.json says. `prefix_space` is the default of add_prefix_space. `rebuilt` says that
    transformers 5 makes the pre-tokenizer itself, with the prefix. `tokens` are special even if no file
    states them, `tokens_5` in transformers 5 only. `mask_strips` are the versions in which a mask token that
    only the settings state takes the space before it. `around` are the roles of the tokens before and after
    a text of which transformers 5 makes the template, whatever tokenizer.json says.
    """

    normalizes: bool = False
    keeps_chinese: bool = False
    template: tuple[bool, bool] | None = None
    prefix_space: bool | None = False
    rebuilt: bool = False
    tokens: Mapping[str, str] = field(default_factory=dict)
    tokens_5: Mapping[str, str] = field(default_factory=dict)
    mask_strips: tuple[int, ...] = ()
    around: tuple[str, str] | None = None


_BRACKETS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ANGLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_ENDS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_END_OF_TEXT = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")

_CLS_SEP, _BOS_EOS = ("cls_token", "sep_token"), ("bos_token", "eos_token")
_BERT = TokenizerClass(normalizes=True, tokens=_BRACKETS, around=_CLS_SEP)
_BYTE_LEVEL = TokenizerClass(rebuilt=True, tokens=_ANGLES, mask_strips=(4,))
_ROBERTA = replace(_BYTE_LEVEL, around=_CLS_SEP)
_LLAMA = TokenizerClass(template=(True, False), prefix_space=None, tokens=_ENDS)

#: The class for any tokenizer.json
ANY_CLASS = "PreTrainedTokenizer"

#: Class without its suffix `Fast` -> what it does
CLASSES: dict[str, TokenizerClass] = {
    **dict.fromkeys(
        (
            "BertTokenizer",
            "ConvBertTokenizer",
            "DPRContextEncoderTokenizer",
            "DPRQuestionEncoderTokenizer",
            "DistilBertTokenizer",
            "ElectraTokenizer",
            "LayoutLMTokenizer",
            "LxmertTokenizer",
            "MobileBertTokenizer",
            "RealmTokenizer",
            "RetriBertTokenizer",
            "SqueezeBertTokenizer",
        ),
        _BERT,
    ),
    "RoFormerTokenizer": TokenizerClass(normalizes=True, keeps_chinese=True, tokens=_BRACKETS),
    "SplinterTokenizer": TokenizerClass(normalizes=True, keeps_chinese=True, tokens=_BRACKETS),
    "MPNetTokenizer": TokenizerClass(
        normalizes=True,
        keeps_chinese=True,
        tokens={**_ANGLES, "unk_token": "[UNK]"},
        mask_strips=(4, 5),
        around=_CLS_SEP,
    ),
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _BYTE_LEVEL,
    "LongformerTokenizer": _BYTE_LEVEL,
    "LEDTokenizer": _BYTE_LEVEL,
    "GPT2Tokenizer": TokenizerClass(rebuilt=True, tokens=_END_OF_TEXT),
    "Qwen2Tokenizer": TokenizerClass(
        rebuilt=True, tokens=dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
    ),
    "XLMRobertaTokenizer": TokenizerClass(
        prefix_space=True, rebuilt=True, tokens=_ANGLES, mask_strips=(4,), around=_BOS_EOS
    ),
    "CamembertTokenizer": TokenizerClass(
        prefix_space=True, rebuilt=True, tokens=_ANGLES, mask_strips=(4, 5), around=_BOS_EOS
    ),
    "T5Tokenizer": TokenizerClass(
        prefix_space=None, tokens={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    ),
    "LlamaTokenizer": _LLAMA,
    "CodeLlamaTokenizer": _LLAMA,
    "GemmaTokenizer": TokenizerClass(
        template=(True, False),
        tokens={"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        tokens_5={"mask_token": "<mask>"},
    ),
    "CohereTokenizer": TokenizerClass(
        template=(True, False),
        tokens={
            "unk_token": "<UNK>",
            "bos_token": "<BOS_TOKEN>",
            "eos_token": "<|END_OF_TURN_TOKEN|>",
        },
    ),
    "GPTNeoXTokenizer": TokenizerClass(template=(False, False), rebuilt=True, tokens=_END_OF_TEXT),
}

#: model_type of config.json -> the class for it where no file names one
CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "ernie": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "convbert": "ConvBertTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "roformer": "RoFormerTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "longformer": "LongformerTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer",
    "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer",
    "gemma3": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "xlm": "XLMTokenizer",
    "flaubert": "FlaubertTokenizer",
    "canine": "CanineTokenizer",
}

#: Classes that are Python code and have no tokenizer.json: one that lies beside them is something else
PYTHON_CLASSES = frozenset(
    {
        "BertJapaneseTokenizer",
        "BertweetTokenizer",
        "BartphoTokenizer",
        "ByT5Tokenizer",
        "CanineTokenizer",
        "EsmTokenizer",
        "FlaubertTokenizer",
        "PerceiverTokenizer",
        "PhobertTokenizer",
        "RoCBertTokenizer",
        "TapasTokenizer",
        "XLMTokenizer",
    }
)

#: Code that comes with models and is never run: its template is made from add_bos_token and add_eos_token,
#: whose defaults stand here
REMOTE_CLASSES = {
    # gte-Qwen2 and models trained from it: an end token after each text
    "tokenization_qwen.Qwen2Tokenizer": ("Qwen2Tokenizer", (False, False)),
    "tokenization_qwen.Qwen2TokenizerFast": ("Qwen2Tokenizer", (False, False)),
}
