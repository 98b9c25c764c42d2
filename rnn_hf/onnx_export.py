"""A classifier or tagger as an ONNX graph, built from its weights.

torch's exporters trace a model and lose what ONNX's recurrent operators can do: they take the length of each text
(`sequence_lens`), so that no direction reads padding. Operators: https://onnx.ai/onnx/operators
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from . import onnx_classifier
from .configuration_rnn import RNNConfig
from .data.tokenizer_training import save_tokenizer
from .files import atomic_folder, publish
from .inference import export_facts
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification
from .ngrams_rnn import FACTORS, LARGEST_HASH, NORM, NGramBranch
from .onnx_classifier import GRAPH, METADATA, QUANTIZED_GRAPH
from .pooling_rnn import RNNPooler
from .safe_loading import CONFIG, WEIGHTS
from .version import __version__

OPSET = 17

# Version of the file format: onnxruntime's builds for Node and browsers read none above 10
IR_VERSION = 10

# Operator of each cell, and its gates as positions in torch's order
OPERATORS = {
    "rnn": ("RNN", [0]),
    "lstm": ("LSTM", [0, 3, 1, 2]),  # input, output, forget, cell
    "gru": ("GRU", [1, 0, 2]),  # update, reset, new
}

LOWEST = float(np.finfo(np.float32).min)

# Largest difference between the logits of the model and of the graph that is not an error, relative to the largest
TOLERANCE = 1e-4

ExportedModel = RNNForSequenceClassification | RNNForTokenClassification


class GraphBuilder:
    """Nodes and constants of a graph under construction. A tensor is represented by its name.

    Args:
        quantize: Whether tables are stored in 8 bits.
    """

    def __init__(self, quantize: bool) -> None:
        self.quantize = quantize
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: Any, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of the names of several outputs.

        Args:
            operator: Name of the operator.
            inputs: Names of tensors; anything else becomes a constant.
            name: Name of the output.
            outputs: Number of outputs.
            attributes: Attributes of the operator.
        """
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        values = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, values, names, **attributes))
        return name if outputs == 1 else names

    def constant(self, value: Any, name: str = "") -> str:
        """Return the name of a constant: an array, or Python's numbers as int64 or float32."""
        if not isinstance(value, np.ndarray):
            value = np.asarray(value)
            value = value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def weight(self, tensor: torch.Tensor, name: str) -> str:
        """Return the name of a weight in float32."""
        return self.constant(tensor.detach().float().cpu().numpy(), name)

    def rows(self, table: torch.Tensor, indices: str, name: str) -> str:
        """Return rows of a table as float32, of shape `(*indices.shape, size)`.

        Args:
            table: Shape `(num_rows, size)`. In 8 bits, each column has a scale.
            indices: Name of the indices, of any shape.
            name: Name of the table.
        """
        if not self.quantize:
            return str(self.add("Gather", self.weight(table, name), indices))
        numbers = table.detach().float().cpu().numpy()
        scales = np.abs(numbers).max(axis=0) / 127
        scales[scales == 0] = 1
        rows = self.add("Gather", self.constant(np.rint(numbers / scales).astype(np.int8), name), indices)
        return str(self.add("Mul", self.add("Cast", rows, to=TensorProto.FLOAT), scales))

    def linear(self, inputs: str, layer: torch.nn.Linear, name: str = "") -> str:
        """Return the result of a linear layer over the last dimension."""
        product = self.add("MatMul", inputs, self.weight(layer.weight.T, "classifier.weight"))
        return str(self.add("Add", product, self.weight(layer.bias, "classifier.bias"), name=name))


def export_onnx(model: ExportedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, int]:
    """Write a model as ONNX graphs into `onnx/` of a folder, and beside them the file that runs a classifier.

    Args:
        model: A classifier or tagger.
        tokenizer: Its tokenizer.
        folder: Folder of the model, or an empty one, which gets the configuration and the tokenizer. Other files in it
            are kept.

    Returns:
        The size of each file of `onnx/` in bytes, by name.

    Raises:
        TypeError: If the model is of another kind.
        ValueError: If the tokenizer has no `tokenizer.json`, the folder has another one, or a graph does not compute
            what the model computes.
    """
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise ValueError("The tokenizer has no `tokenizer.json`, which ONNX needs. Use a fast tokenizer.")
    has_tokenizer = os.path.lexists(folder / "tokenizer.json")
    if has_tokenizer and _content(Tokenizer.from_file(str(folder / "tokenizer.json"))) != _content(
        tokenizer.backend_tokenizer
    ):
        raise ValueError(f"The tokenizer in '{folder}' is not that of the model. Export into the model's own folder.")
    if (folder / WEIGHTS).is_file() and not _has_weights_of(model, folder / WEIGHTS):
        raise ValueError(f"'{folder}' has another model's weights. Export into the model's own folder.")
    model = copy.deepcopy(model).float().eval()  # type: ignore[no-untyped-call]  # transformers' own
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder / ".onnx") as files:
        for name in (GRAPH, QUANTIZED_GRAPH):
            made = build_onnx(model, quantize=name == QUANTIZED_GRAPH)
            if isinstance(model, RNNForSequenceClassification):
                helper.set_model_props(made, {METADATA: json.dumps(export_facts(model.config, tokenizer))})
            onnx.checker.check_model(made, full_check=True)
            onnx.save(made, files / name)
        _check_graph(model, files / GRAPH)
        if isinstance(model, RNNForSequenceClassification):
            shutil.copy(onnx_classifier.__file__, files)
    sizes = {path.name: path.stat().st_size for path in sorted((folder / ".onnx").iterdir())}
    if (folder / "onnx").is_symlink():
        (folder / "onnx").unlink()
    (folder / "onnx").mkdir(exist_ok=True)
    publish(folder / ".onnx", folder / "onnx")
    if not has_tokenizer:
        save_tokenizer(tokenizer, folder)
    if not os.path.lexists(folder / CONFIG):
        model.config.to_json_file(folder / CONFIG)
    return sizes


def _has_weights_of(model: ExportedModel, path: Path) -> bool:
    """Return whether a file has the weights of a model, perhaps with fewer bits."""
    own = model.state_dict()
    with safe_open(path, framework="pt") as saved:
        if saved.keys() != own.keys() and set(saved.keys()) != set(own):
            return False
        pairs = [(saved.get_tensor(name), own[name].cpu()) for name in own]
    return all(
        one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=0.01, atol=0.001)
        for one, other in pairs
    )


def _content(tokenizer: Tokenizer) -> str:
    """Return what a tokenizer is, without the settings that its use changes."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str())


@torch.no_grad()
def _check_graph(model: ExportedModel, graph: Path) -> None:
    """Check that a graph computes what the model computes, which a subclass may have changed.

    Raises:
        ValueError: If it does not.
    """
    lengths = torch.tensor([9, 0, 4, 1])
    mask = torch.arange(9) < lengths[:, None]
    ids = torch.randint(model.config.vocab_size, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    device = model.classifier.weight.device
    expected = model(ids.to(device), attention_mask=mask.to(device)).logits.float().cpu().numpy()
    session = onnxruntime.InferenceSession(str(graph))
    logits = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy()})[0]
    if isinstance(model, RNNForTokenClassification):
        logits, expected = logits[mask], expected[mask]
    difference = np.abs(logits - expected).max()
    if not difference <= TOLERANCE * max(1.0, np.abs(expected).max()):
        raise ValueError(
            f"The graph does not compute what `{type(model).__name__}` computes: logits differ by {difference:.2g}."
        )


def build_onnx(model: ExportedModel, quantize: bool = False) -> onnx.ModelProto:
    """Return a model as an ONNX graph.

    Its inputs `input_ids` and `attention_mask` are int64 of shape `(batch_size, sequence_length)`, for at least one
    text of any length, with padding on the right only. Its output `logits` is that of the model; ignore a tagger's
    logits of padding.

    Args:
        model: A classifier or tagger.
        quantize: Whether word vectors and n-gram tables are stored in 8 bits. The rest stays float32: with quantized
            recurrent layers, the logits of a text would depend on its batch.

    Raises:
        TypeError: If the model is of another kind.
    """
    if not isinstance(model, ExportedModel):
        raise TypeError(f"`model` must be a classifier or a tagger of this package, got `{type(model).__name__}`.")
    config, graph = model.config, GraphBuilder(quantize)
    ids, mask, turned_mask, counts = _padded_inputs(graph, config)
    turned_ids = graph.add("Transpose", ids, perm=[1, 0])
    # operators read (time, batch, size) and write (time, directions, batch, hidden_size)
    embeddings = inputs = graph.rows(model.model.embed_tokens.weight, turned_ids, "embed_tokens")
    states = finals = ""
    lengths = graph.add("Cast", counts, to=TensorProto.INT32)
    for layer in model.model.layers:
        inputs = _directions_joined(graph, states, config) if states else inputs
        states, finals = _recurrent(graph, inputs, lengths, layer.recurrent, config)
    shape: list[str | int]
    if isinstance(model, RNNForTokenClassification):
        by_text = graph.add("Transpose", _directions_joined(graph, states, config), perm=[1, 0, 2])
        # without the position that was added
        graph.linear(graph.add("Slice", by_text, [0], [-1], [1]), model.classifier, "logits")
        shape = ["batch_size", "sequence_length", model.num_labels]
    else:
        pooled = _pooled(graph, model.pooler, states, finals, turned_mask, counts)
        if model.concat_embedding_mean:
            pooled = graph.add("Concat", pooled, _mean(graph, embeddings, turned_mask, counts), axis=1)
        logits = graph.linear(pooled, model.classifier, "" if model.ngrams else "logits")
        if model.ngrams:
            graph.add("Add", logits, _ngram_logits(graph, model.ngrams, ids, mask), name="logits")
        shape = ["batch_size", model.num_labels]
    names = ("input_ids", "attention_mask")
    made = helper.make_graph(
        graph.nodes,
        "rnn_hf",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        list(graph.constants.values()),
    )
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rnn_hf",
        producer_version=__version__,
    )


def _padded_inputs(graph: GraphBuilder, config: RNNConfig) -> tuple[str, str, str, str]:
    """Return the inputs with one more position of padding, since no operator reads a text of length 0.

    Returns:
        Ids, int64, and the mask, float32, of shape `(batch_size, time)`; the mask of shape `(time, batch_size, 1)`;
        the number of tokens, float32 of shape `(batch_size,)`.
    """
    width = [0, 0, 0, 1]  # one column after the last
    ids = graph.add("Pad", "input_ids", width, config.pad_token_id or 0)
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    if not config.pack_padded_sequences:  # which reads padding like any other word
        mask = graph.add("Add", graph.add("Mul", mask, 0.0), 1.0)
    mask = graph.add("Pad", mask, width)
    turned = graph.add("Unsqueeze", graph.add("Transpose", mask, perm=[1, 0]), [2])
    return ids, mask, turned, graph.add("ReduceSum", mask, [1], keepdims=0)


def _recurrent(
    graph: GraphBuilder, inputs: str, lengths: str, layer: torch.nn.RNNBase, config: RNNConfig
) -> tuple[str, str]:
    """Return the states of a recurrent layer, 0 after each text, and those after its last token.

    Shapes `(time, directions, batch_size, hidden_size)` and `(directions, batch_size, hidden_size)`.
    """
    operator, gates = OPERATORS[config.cell_type]

    def weights(name: str) -> np.ndarray:
        """Return a weight of all directions, with the gates in the order of the operator."""
        suffixes = ["", "_reverse"][: config.num_directions]
        found = [getattr(layer, f"{name}_l0{suffix}").detach().float().cpu() for suffix in suffixes]
        return np.stack([torch.cat([tensor.chunk(len(gates))[gate] for gate in gates]).numpy() for tensor in found])

    further: dict[str, Any] = {"linear_before_reset": 1} if operator == "GRU" else {}
    states, finals = graph.add(
        operator,
        inputs,
        weights("weight_ih"),
        weights("weight_hh"),
        np.concatenate([weights("bias_ih"), weights("bias_hh")], axis=1),
        lengths,
        outputs=2,
        hidden_size=config.hidden_size,
        direction="bidirectional" if config.bidirectional else "forward",
        **further,
    )
    return states, finals


def _directions_joined(graph: GraphBuilder, states: str, config: RNNConfig) -> str:
    """Return states of shape `(time, batch_size, output_size)`."""
    if not config.bidirectional:
        return str(graph.add("Squeeze", states, [1]))
    side_by_side = graph.add("Transpose", states, perm=[0, 2, 1, 3])
    return str(graph.add("Reshape", side_by_side, [0, 0, config.output_size]))


def _pooled(graph: GraphBuilder, pooler: RNNPooler, states: str, finals: str, mask: str, counts: str) -> str:
    """Return the pooled states, as `RNNPooler` does. Shape `(batch_size, pooler.output_size)`."""
    mask = graph.add("Unsqueeze", mask, [1])  # (time, 1, batch, 1)
    is_token = graph.add("Cast", mask, to=TensorProto.BOOL)
    has_tokens = graph.add("Unsqueeze", graph.add("Min", counts, 1.0), [1])
    parts = []
    for part in pooler.parts:
        if part == "last":
            pooled = graph.add("Mul", finals, has_tokens)
        elif part == "mean":
            pooled = _mean(graph, states, "", counts)
        elif part == "max":
            # faster than `Where`; the states of padding are 0
            tokens_alone = graph.add("Add", states, graph.add("Mul", graph.add("Sub", mask, 1.0), -LOWEST))
            pooled = graph.add("Mul", graph.add("ReduceMax", tokens_alone, axes=[0], keepdims=0), has_tokens)
        else:
            pooled = _attention(graph, pooler, states, mask, is_token)
        parts.append(pooled)  # (directions, batch, hidden)
    turned = graph.add("Transpose", graph.add("Concat", *parts, axis=0), perm=[1, 0, 2])
    return str(graph.add("Reshape", turned, [0, pooler.output_size]))


def _mean(graph: GraphBuilder, vectors: str, mask: str, counts: str) -> str:
    """Return the mean over the first dimension, time, of vectors that are multiplied with a mask, if one is named."""
    masked = graph.add("Mul", vectors, mask) if mask else vectors
    divisor = graph.add("Unsqueeze", graph.add("Max", counts, 1.0), [1])
    return str(graph.add("Div", graph.add("ReduceSum", masked, [0], keepdims=0), divisor))


def _attention(graph: GraphBuilder, pooler: RNNPooler, states: str, mask: str, is_token: str) -> str:
    """Return the states weighted as `RNNAttentionPooling` does. Shape `(directions, batch_size, hidden_size)`."""
    directions = 2 if pooler.bidirectional else 1
    vector = pooler.attention.score.weight.detach().float().cpu().numpy().reshape(1, directions, 1, -1)
    products = graph.add("Mul", graph.add("Tanh", states), vector)
    scores = graph.add("ReduceSum", products, [1, 3], keepdims=1)  # (time, 1, batch, 1)
    weights = graph.add("Softmax", graph.add("Where", is_token, scores, LOWEST), axis=0)
    weighted = graph.add("Mul", states, graph.add("Mul", weights, mask))
    return str(graph.add("ReduceSum", weighted, [0], keepdims=0))


def _ngram_logits(graph: GraphBuilder, branch: NGramBranch, ids: str, mask: str) -> str:
    """Return the logits of the n-gram branch. Shape `(batch_size, num_labels)`."""
    ngrams, counted = [ids], [mask]
    for n in range(1, branch.order):
        before, after = (graph.add("Slice", ngrams[-1], [0], [-1], [1]), graph.add("Slice", ids, [n], [2**31], [1]))
        hashed = graph.add("Add", graph.add("Mul", before, FACTORS[0]), graph.add("Mul", after, FACTORS[1]))
        ngrams.append(graph.add("Mod", hashed, LARGEST_HASH))
        # padding is on the right, so an n-gram whose last token counts has no padding
        counted.append(graph.add("Slice", mask, [n], [2**31], [1]))
    numbers, counts = graph.add("Concat", *ngrams, axis=1), graph.add("Concat", *counted, axis=1)
    buckets = graph.add("Mod", numbers, branch.num_buckets)
    owners = graph.add("Gather", graph.constant(branch.owners.cpu().numpy(), "ngrams.owners"), buckets)
    owners = graph.add("Cast", owners, to=TensorProto.INT64)
    is_own = graph.add("Or", graph.add("Equal", owners, numbers), graph.add("Less", owners, 0))
    idf = branch.idf.detach().float().cpu().numpy().astype(np.float16 if graph.quantize else np.float32)
    weights = graph.add("Gather", graph.constant(idf, "ngrams.idf"), buckets)
    if graph.quantize:
        weights = graph.add("Cast", weights, to=TensorProto.FLOAT)
    weights = graph.add("Mul", graph.add("Where", is_own, weights, 0.0), counts)
    norms = graph.add("Max", graph.add("ReduceL2", weights, axes=[1], keepdims=1), 1e-6)
    scaled = graph.add("Unsqueeze", graph.add("Div", weights, norms), [1])
    rows = graph.rows(branch.table.weight * NORM, buckets, "ngrams.table")
    logits = graph.add("Squeeze", graph.add("MatMul", scaled, rows), [1])
    return str(graph.add("Add", logits, graph.weight(branch.bias, "ngrams.bias")))
