"""Tables of vectors without a network: sentence-transformers' StaticEmbedding and model2vec."""

from typing import Any

from support.look_alikes.files import lacks, tensors
from support.look_alikes.layout import By, Layout, Module, Served, TokenizerFiles
from support.look_alikes.modules import HIDDEN, NORMALIZE, dense
from support.look_alikes.published.bert import WORDPIECE, XLM_UNIGRAM, prompts

MODEL2VEC: dict[str, Any] = {
    "apply_pca": HIDDEN,
    "apply_zipf": True,
    "architectures": ["StaticModel"],
    "hidden_dim": HIDDEN,
    "model_type": "model2vec",
    "normalize": True,
    "seq_length": 1000000,
    "tokenizer_name": "baai/bge-base-en-v1.5",
}
_STATIC = Module(kind="StaticEmbedding")
_BARE = TokenizerFiles(kind="wordpiece", template=None, settings=None)
_POTION = (NORMALIZE,)


def _static(name: str, *models: str, **more: Any) -> Layout:
    fields: dict[str, Any] = {
        "config": {},
        "tokenizer": WORDPIECE,
        "modules": (),
        "table": "embedding.weight",
        "transformer": "0_StaticEmbedding",
        "st": prompts(),
        **more,
    }
    return Layout(
        name=name,
        models=models,
        family="static",
        first=_STATIC,
        expected=Served(by=By.STATIC),
        **fields,
    )


def _potion(name: str, *models: str, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": MODEL2VEC, "modules": _POTION, "tokenizer": _BARE, **more}
    return _static(name, *models, table="embeddings", transformer="", st=None, **fields)


def _mapped(found: dict[str, Any]) -> dict[str, Any]:
    """Half of the rows, which row each token has, and each token's weight."""
    import torch

    table = found["embeddings"]
    mapping = torch.arange(len(table)) % (len(table) // 2)
    weights = 0.5 + torch.rand(len(table), generator=torch.Generator().manual_seed(4))
    return {"embeddings": table[: len(table) // 2], "mapping": mapping, "weights": weights}


LAYOUTS = (
    _static(
        "static-retrieval",
        "sentence-transformers/static-retrieval-mrl-en-v1",
        changes=(lacks("0_StaticEmbedding/tokenizer_config.json", "0_StaticEmbedding/vocab.txt"),),
    ),
    _static(
        "static-similarity",
        "sentence-transformers/static-similarity-mrl-multilingual-v1",
        tokenizer=XLM_UNIGRAM,
        changes=(lacks("0_StaticEmbedding/tokenizer_config.json"),),
    ),
    _static("static-with-modules", modules=(dense(48), NORMALIZE)),
    _potion(
        "potion",
        "minishlab/potion-base-2M",
        "minishlab/potion-base-4M",
        "minishlab/potion-base-8M",
        "minishlab/potion-base-32M",
        "minishlab/potion-retrieval-32M",
        "minishlab/M2V_base_output",
    ),
    _potion(
        "potion-multilingual",
        "minishlab/potion-multilingual-128M",
        tokenizer=TokenizerFiles(kind="xlm-roberta", template=None, settings=None),
    ),
    _potion(
        "model2vec-small-vocabulary",
        changes=(tensors(_mapped),),
        since=5,
        note="rows shared by tokens, each with a weight",
    ),
    _potion(
        "model2vec-plain",
        modules=None,
        twin={"modules": _POTION},
        note="no modules.json: config.json says that vectors are normalized",
    ),
)
