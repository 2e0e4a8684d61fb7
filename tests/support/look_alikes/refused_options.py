"""Options and keys that we do not have: each is refused by its name."""

from typing import Any

from support.look_alikes.files import extra_tensor, model_key
from support.look_alikes.layout import Layout, Module, Refused
from support.look_alikes.modules import LAST, MEAN, NORMALIZE, dense
from support.look_alikes.published.bert import BERT, ROBERTA, ROBERTA_BPE, SHORT, WORDPIECE
from support.look_alikes.published.decoders import LLAMA, LLAMA_BPE
from support.look_alikes.published.rotary import NEW, NOMIC, NOMIC_NATIVE, native_gte


def refused(name: str, *models: str, because: str, sentence: str, **more: Any) -> Layout:
    fields: dict[str, Any] = {
        "config": BERT,
        "family": "BERT",
        "tokenizer": WORDPIECE,
        "modules": (MEAN, NORMALIZE),
        "settings": SHORT,
        "expected": Refused(because=because, sentence=sentence),
        **more,
    }
    return Layout(name=name, models=models, **fields)


LAYOUTS = (
    refused(
        "relative-key",
        because="relative positions",
        sentence="position_embedding_type|relative_key",
        config=BERT | {"position_embedding_type": "relative_key"},
    ),
    refused(
        "bert-decoder",
        because="a decoder",
        sentence="decoder",
        config=BERT | {"is_decoder": True},
    ),
    refused(
        "quantized",
        because="quantized weights",
        sentence="quantization_config",
        config=BERT | {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        twin={"config": BERT},
    ),
    refused(
        "unknown-key",
        because="a key nobody knows",
        sentence="residual_multiplier",
        config=BERT | {"residual_multiplier": 0.22},
    ),
    refused(
        "unknown-key-of-a-decoder",
        because="a key nobody knows",
        sentence="logit_temperature",
        family="Llama",
        config=LLAMA | {"logit_temperature": 0.5},
        tokenizer=LLAMA_BPE,
        modules=(LAST, NORMALIZE),
    ),
    refused(
        "unknown-pooling-key",
        because="a key nobody knows",
        sentence="pooling_temperature",
        modules=(
            Module(
                kind="Pooling",
                config={
                    "word_embedding_dimension": 64,
                    "pooling_mode_mean_tokens": True,
                    "pooling_temperature": 2.0,
                },
            ),
        ),
    ),
    refused(
        "unknown-dense-key",
        because="a key nobody knows",
        sentence="output_scale",
        modules=(MEAN, dense(48, output_scale=2.0)),
    ),
    refused(
        "dense-without-activation",
        because="an activation that nobody can read",
        sentence="2_Dense/config.json has activation_function null",
        modules=(MEAN, dense(48, activation_function=None)),
    ),
    refused(
        "merges-left-out",
        because="BPE dropout",
        sentence=r"leaves out 10% of its merges at random",
        family="RoBERTa",
        config=ROBERTA,
        tokenizer=ROBERTA_BPE,
        changes=(model_key("dropout", 0.1),),
    ),
    refused(
        "unknown-transformer-key",
        because="a key nobody knows",
        sentence="sliding_stride",
        settings=SHORT | {"sliding_stride": 12},
    ),
    refused(
        "new-with-logn-attention",
        because="scaled attention",
        sentence="logn_attention_scale",
        family="GTE",
        config=NEW | {"logn_attention_scale": True},
        twin={"config": native_gte(NEW)},
    ),
    refused(
        "nomic-with-norm-first",
        because="norms before the branches",
        sentence="prenorm",
        family="Nomic-BERT",
        config=NOMIC | {"prenorm": True},
        twin={"config": NOMIC_NATIVE},
    ),
    refused(
        "router",
        because="a module for each kind of text",
        sentence="Router",
        first=Module(kind="Router"),
    ),
    refused(
        "missing-tensor",
        because="damaged weights",
        sentence="missing",
        config=BERT | {"num_hidden_layers": 3},
        twin={"config": BERT},
    ),
    refused(
        "unknown-tensor",
        because="tensors of another network",
        sentence=r"encoder\.layer\.0\.gate",
        changes=(extra_tensor("encoder.layer.0.gate.weight", 64, 64),),
    ),
    refused(
        "roberta-cross-attention",
        because="a decoder",
        sentence="decoder",
        family="RoBERTa",
        config=ROBERTA | {"is_decoder": True, "add_cross_attention": True},
        twin={"config": ROBERTA},
        tokenizer=ROBERTA_BPE,
    ),
)
