# Copyright 2026 The rnn_hf authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Custom handler of an Inference Endpoint.

https://huggingface.co/docs/inference-endpoints/guides/custom_handler
"""

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH_SIZE = 64

# Longer limits of a tokenizer mean that there is none
NO_MAX_LENGTH = 10**9


class EndpointHandler:
    """Answers requests to an endpoint.

    Args:
        path: Folder of the repository.
    """

    def __init__(self, path: str = "") -> None:
        # the code is that of the repository itself
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            path, trust_remote_code=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        if self.tokenizer.pad_token is None:  # the mask excludes it
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self.model.config.pad_token_id or 0)
        length = self.tokenizer.init_kwargs.get("max_length") or self.tokenizer.model_max_length
        self.limit = {} if length >= NO_MAX_LENGTH else {"truncation": True, "max_length": length}
        self.problem_type = self.model.config.resolved_problem_type

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Return the answer to a request, in the form of transformers' pipeline for text classification.

        Args:
            data: `inputs`, a text or a list of texts, and optionally `parameters`: `top_k`, the number of labels to
                return, and `threshold`, the minimum probability of a label if a text may have several.

        Returns:
            For each text, a dictionary with `label` and `score`, or with `top_k` or several labels a text, a list of
            them, the most probable one first. For a single text, it is in a list, too.

        Raises:
            ValueError: If a value is missing or not valid.
        """
        if not isinstance(data, dict):
            raise ValueError(f"A request must be an object with `inputs`, got {data!r:.80}.")
        inputs, parameters = data.get("inputs"), data.get("parameters")
        parameters = {} if parameters is None else parameters
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`inputs` must be a string or a list of strings, got {inputs!r:.80}.")
        if not isinstance(parameters, dict) or parameters.keys() - {"top_k", "threshold"}:
            raise ValueError(f"`parameters` must be `top_k` and `threshold`, got {parameters!r:.80}.")
        top_k, threshold = parameters.get("top_k"), parameters.get("threshold")
        if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
            raise ValueError(f"`top_k` must be an integer of at least 1, got {top_k!r:.40}.")
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if threshold is not None and (not is_number or not 0 <= threshold <= 1):
            raise ValueError(f"`threshold` must be a number from 0 to 1, got {threshold!r:.40}.")
        if threshold is not None and self.problem_type != "multi_label_classification":
            raise ValueError("`threshold` needs a model of several labels per text. Pass `top_k` for more labels.")
        answers = []
        for start in range(0, len(texts), BATCH_SIZE):
            answers += [self.answer(row, top_k, threshold) for row in self.scores(texts[start : start + BATCH_SIZE])]
        is_list_of_lists = answers and isinstance(answers[0], list) and isinstance(inputs, str)
        return answers[0] if is_list_of_lists else answers

    @torch.inference_mode()
    def scores(self, texts: list[str]) -> list[list[float]]:
        """Return the probabilities of each text, or the numbers of a regression."""
        # UTF-8 has no lone surrogates
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
        logits = self.model(**self.tokenizer(texts, padding=True, return_tensors="pt", **self.limit)).logits
        if self.problem_type == "single_label_classification":
            logits = logits.softmax(dim=-1)
        elif self.problem_type == "multi_label_classification":
            logits = logits.sigmoid()
        scores: list[list[float]] = logits.tolist()
        return scores

    def answer(self, scores: list[float], top_k: int | None, threshold: float | None) -> Any:
        """Return the labels of a text with their scores."""
        config = self.model.config
        labels = [{"label": config.id2label[index], "score": score} for index, score in enumerate(scores)]
        if self.problem_type == "regression":
            return labels[0] if len(labels) == 1 else labels
        if self.problem_type == "multi_label_classification" and (top_k is None or threshold is not None):
            thresholds = config.label_thresholds or [0.5] * len(labels)
            labels = [
                entry for entry, own in zip(labels, thresholds, strict=True)
                if entry["score"] >= (own if threshold is None else threshold)
            ]  # fmt: skip
        labels.sort(key=lambda entry: -entry["score"])
        if self.problem_type == "multi_label_classification" or top_k is not None:
            return labels[:top_k]
        return labels[0]
