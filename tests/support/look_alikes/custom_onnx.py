"""Models with an ONNX graph beside their files, served by it as custom models."""

import json
from pathlib import Path
from typing import Any

from support.look_alikes.files import lacks
from support.look_alikes.layout import ABSENT, By, Change, Layout, Served, without
from support.look_alikes.modules import CLS, MEAN, NORMALIZE
from support.look_alikes.published.bert import BERT, LONG, ROBERTA, ROBERTA_BPE, WORDPIECE
from support.look_alikes.published.rotary import NOMIC, NOMIC_NATIVE

JINA_V2 = BERT | {
    "architectures": ["JinaBertModel"],
    "attn_implementation": "torch",
    "auto_map": {
        name: f"jinaai/jina-bert-implementation--{place}"
        for name, place in {
            "AutoConfig": "configuration_bert.JinaBertConfig",
            "AutoModel": "modeling_bert.JinaBertModel",
            "AutoModelForMaskedLM": "modeling_bert.JinaBertForMaskedLM",
            "AutoModelForSequenceClassification": "modeling_bert.JinaBertForSequenceClassification",
        }.items()
    },
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "max_position_embeddings": 8192,
    "model_max_length": 8192,
    "position_embedding_type": "alibi",
}


def exported(architecture: str, config: dict[str, Any], *outputs: str, positions: bool = False) -> Change:
    """With onnx/model.onnx of the network that `config` describes, as optimum exports it."""

    def change(directory: Path) -> None:
        import torch
        import transformers

        kept = (directory / "config.json").read_text()
        sizes = {"vocab_size": json.loads(kept)["vocab_size"]}
        (directory / "config.json").write_text(json.dumps({**sizes, **without(config)}))
        network = getattr(transformers, architecture).from_pretrained(directory).eval()
        (directory / "config.json").write_text(kept)
        (directory / "onnx").mkdir(exist_ok=True)
        names = ["input_ids", "attention_mask", "position_ids" if positions else "token_type_ids"]

        class Wrapped(torch.nn.Module):  # type: ignore[misc]  # torch's types are not checked
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, ids: Any, mask: Any, third: Any) -> Any:
                found = self.network(input_ids=ids, attention_mask=mask, **{names[2]: third})
                return tuple(found[name] for name in outputs)

        ids = torch.randint(5, 100, (2, 9))
        mask = torch.ones_like(ids)
        axes = {name: {0: "batch", 1: "length"} for name in names}
        axes |= {each: {0: "batch", 1: "length"} for each in outputs if each == "last_hidden_state"}
        axes |= {each: {0: "batch"} for each in outputs if each != "last_hidden_state"}
        torch.onnx.export(
            Wrapped(),
            (ids, mask, torch.zeros_like(ids)),
            str(directory / "onnx" / "model.onnx"),
            input_names=names,
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )

    return change


def _graph(name: str, *models: str, config: dict[str, Any], network: dict[str, Any], **more: Any) -> Layout:
    """A graph of `network` with the files of a model whose config.json is `config`."""
    outputs = more.pop("outputs", ("last_hidden_state",))
    gone = more.pop("gone", ("model.safetensors",))
    fields: dict[str, Any] = {"tokenizer": WORDPIECE, "modules": (MEAN, NORMALIZE), "settings": LONG, **more}
    return Layout(
        name=name,
        models=models,
        config=config,
        twin={"config": network},
        changes=(exported(network["architectures"][0], network, *outputs), lacks(*gone)),
        expected=Served(by=By.GRAPH),
        **fields,
    )


LAYOUTS = (
    _graph(
        "jina-v2-graph",
        family="Jina v2",
        config=JINA_V2,
        network=BERT,
        note="custom ONNX; its network is not ours",
    ),
    _graph("bert-graph", family="BERT", config=BERT, network=BERT, modules=(CLS,)),
    _graph(
        "two-outputs",
        family="BERT",
        config=BERT,
        network=BERT,
        outputs=("last_hidden_state", "pooler_output"),
    ),
    _graph(
        "long-graph",
        family="Nomic-BERT",
        config=NOMIC | {"n_positions": ABSENT},
        network=NOMIC_NATIVE,
        settings={"max_seq_length": 600, "do_lower_case": False},
        note="custom ONNX for texts beyond 512 tokens",
    ),
    _graph("roberta-graph", family="RoBERTa", config=ROBERTA, network=ROBERTA, tokenizer=ROBERTA_BPE),
)
