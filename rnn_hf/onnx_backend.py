"""A `TextClassifier` that computes with onnxruntime."""

import hashlib
from typing import Any, NoReturn

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .configuration_rnn import RNNConfig
from .errors import missing_extra
from .inference import BatchedInference, BatchFunction, export_facts
from .onnx_classifier import GRAPH, OnnxTextClassifier
from .safe_loading import file_of, read_config, read_tokenizer
from .text_classifier import TextClassifier


class OnnxInference(BatchedInference):
    """Runs an exported model on texts in batches of similar length."""

    def __init__(self, exported: OnnxTextClassifier) -> None:
        self.exported, self.encode = exported, exported.tokenize

    @property
    def _is_on_cpu(self) -> bool:
        return True

    def _run(self, compute: BatchFunction, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        results: np.ndarray = compute(self.exported.run(tokens, lengths))
        return results

    # in the calling thread, since onnxruntime has no threads that a forked process would miss
    _run_alone = _run


class OnnxBackedClassifier(TextClassifier):
    """A `TextClassifier` that computes with onnxruntime: it predicts, evaluates, and explains by leave-one-out."""

    def __init__(self, exported: OnnxTextClassifier, config: RNNConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.exported, self._config, self.tokenizer = exported, config, tokenizer
        self._inference = OnnxInference(exported)
        self.results, self.recipe = {}, {}
        self._place = None

    @property
    def config(self) -> RNNConfig:
        """Configuration of the model."""
        return self._config

    @property
    def model(self) -> NoReturn:  # type: ignore[override]  # there is none
        """Not available: the weights are in the ONNX graph."""
        self._refuse("`model`")

    def explain(  # type: ignore[override]  # without `num_steps`
        self, texts: Any, label: Any = None, method: Any = "leave_one_out", **settings: Any
    ) -> Any:
        """Return explanations as `TextClassifier.explain` does, by leave-one-out only."""
        if method == "integrated_gradients":
            self._refuse("`integrated_gradients`")
        return super().explain(texts, label, method=method, **settings)

    def encode(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: the graph returns no embeddings."""
        self._refuse("`encode`")

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: there are no weights to save."""
        self._refuse("`save_pretrained`")

    def push_to_hub(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: there are no weights to push."""
        self._refuse("`push_to_hub`")

    def export_onnx(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: the model is exported already."""
        self._refuse("`export_onnx`")

    def _refuse(self, name: str) -> NoReturn:
        raise AttributeError(f'{name} needs torch. Load the classifier with `backend="torch"`.')

    def _logits(self, logits: np.ndarray) -> np.ndarray:  # type: ignore[override]  # of arrays
        return logits

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:  # type: ignore[override]  # of arrays
        return self.exported.activate(logits)

    def answers(self, probabilities: np.ndarray, threshold: float | None = None) -> list[Any]:
        """Return the answers of `predict`, as in `TextPredictor.answers`, for which the graph knows the labels."""
        return self.exported.answers(probabilities, threshold)

    def _fingerprint(self) -> str:
        with (self.exported.folder / "onnx" / self.exported.file_name).open("rb") as graph:
            return hashlib.file_digest(graph, "sha256").hexdigest()


def load_onnx_classifier(
    name: str, device: str | torch.device | None, dtype: str | torch.dtype, **hub: Any
) -> OnnxBackedClassifier:
    """Return an exported classifier.

    Args:
        name: Folder, or `owner/name` on the Hub.
        device: Only the CPU.
        dtype: Only float32.
        hub: Arguments for the Hub, as in `check_model`.

    Raises:
        FileNotFoundError: If the folder or the export does not exist.
        ImportError: If onnxruntime is missing.
        ValueError: If there is no classifier of this package, or a damaged one, or another device or type.
    """
    if str(device or "cpu").partition(":")[0] != "cpu" or str(dtype).removeprefix("torch.") != "float32":
        raise ValueError(
            f"With `backend='onnx'`, `device` must be the CPU and `dtype` float32, got {device} and {dtype}."
        )
    config, tokenizer = read_config(name, **hub), read_tokenizer(name, **hub)
    graph = file_of(name, f"onnx/{GRAPH}", hub)
    if graph is None:
        raise FileNotFoundError(f"{name!r} has no `onnx/{GRAPH}`. Run `rnn-hf export-onnx {name}` first.")
    file_of(name, "tokenizer.json", hub)  # beside it
    try:
        exported = OnnxTextClassifier(graph.parents[1], graph.name)
    except ModuleNotFoundError as error:
        raise missing_extra('backend="onnx"', error, "onnx") from error
    if exported.facts != export_facts(config, tokenizer):
        raise ValueError(f"'{graph}' does not agree with the configuration or the tokenizer. Export it again.")
    return OnnxBackedClassifier(exported, config, tokenizer)
