"""Modules behind the transformer, and the files that sentence-transformers reads, on one small BERT."""

from typing import Any

from support.look_alikes.files import saved_again
from support.look_alikes.layout import Layout, Module, Refused
from support.look_alikes.modules import (
    CLS,
    DROPOUT,
    IDENTITY,
    MEAN,
    NORMALIZE,
    dense,
    layer_norm,
    new_pooling,
    pooling,
)
from support.look_alikes.published.bert import BERT, CASED, SHORT, WORDPIECE, prompts

ACTIVATIONS = ("GELU", "SiLU", "ReLU", "Sigmoid")


def _head(name: str, *modules: Module, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": BERT, "tokenizer": WORDPIECE, "settings": SHORT, **more}
    return Layout(name=name, family="BERT", modules=modules, **fields)


POOLINGS = (
    _head("pooling-weighted-mean", pooling("weightedmean"), NORMALIZE),
    _head("pooling-mean-sqrt-length", pooling("mean_sqrt_len_tokens")),
    _head("pooling-max", pooling("max"), NORMALIZE),
    _head("pooling-last-token", pooling("lasttoken"), NORMALIZE),
    _head("pooling-cls-max-mean", pooling("cls", "max", "mean")),
    _head("pooling-all", new_pooling("mean", "cls", "lasttoken", "weightedmean"), NORMALIZE, since=5),
    _head("pooling-nothing-stated", Module(kind="Pooling", config={"word_embedding_dimension": 64})),
    _head("pooling-twice", MEAN, CLS, NORMALIZE, note="the second pooling counts"),
)
MODULES = (
    _head("layer-norm", MEAN, layer_norm(), NORMALIZE),
    _head("dropout", MEAN, DROPOUT, NORMALIZE),
    _head("dense-after-normalize", MEAN, NORMALIZE, dense(48)),
    _head("normalize-dense-normalize", MEAN, NORMALIZE, dense(48, activation=IDENTITY), NORMALIZE),
    _head("dense-norm-dense", CLS, dense(48), layer_norm(48), dense(32, 48, bias=False, activation=IDENTITY)),
    _head("dense-after-two-poolings", pooling("cls", "mean"), dense(48, 128), NORMALIZE),
    *(
        _head(f"dense-{each.lower()}", MEAN, dense(48, activation=f"torch.nn.modules.activation.{each}"))
        for each in ACTIVATIONS
    ),
    _head(
        "dense-unknown-activation",
        MEAN,
        dense(48, activation="torch.nn.modules.activation.PReLU"),
        expected=Refused(because="an activation with weights", sentence="PReLU"),
    ),
)
PROMPTED = (
    _head(
        "prompt-default",
        MEAN,
        NORMALIZE,
        st=prompts(sts="task: sts | text: ") | {"default_prompt_name": "sts"},
    ),
    _head(
        "prompt-not-pooled",
        pooling("mean", include_prompt=False),
        NORMALIZE,
        st=prompts(query="search query: "),
    ),
    _head("prompt-not-pooled-but-none", pooling("mean", include_prompt=False), NORMALIZE),
    _head(
        "prompt-not-pooled-cls",
        pooling("cls", include_prompt=False),
        st=prompts(query="search query: "),
        since=5,
    ),
    _head(
        "prompt-not-pooled-weighted",
        pooling("weightedmean", include_prompt=False),
        st=prompts(query="search query: "),
    ),
)
SWITCHED = (
    _head(
        "switched",
        MEAN,
        dense(48),
        layer_norm(48),
        NORMALIZE,
        tokenizer=CASED,
        config=BERT | {"vocab_size": 720},
        st=prompts(query="search query: "),
        note="every kind of file, for the tests that change one key",
    ),
)
SAVED = (
    _head("saved-again", MEAN, NORMALIZE, changes=(saved_again,), st=prompts(query="query: ")),
    _head("saved-again-dense", CLS, dense(48), NORMALIZE, changes=(saved_again,)),
)
LAYOUTS = (*POOLINGS, *MODULES, *PROMPTED, *SWITCHED, *SAVED)
