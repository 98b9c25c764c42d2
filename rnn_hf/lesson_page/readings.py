"""What a model computes while it reads one text: the numbers behind the views of the lesson page.

Gates, gradients and the words that a state depends on are those of the forward direction of the top layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from rnn_hf.inference import ACTIVATIONS
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.onnx_classifier import encodable
from rnn_hf.pooling_rnn import pool_mean
from rnn_hf.text_classifier import TextClassifier

# Tokens of a text that the page shows
MAX_TOKENS = 60

# Padding added to a text
MOST_PADDING = 100

# Gates in the order of torch's matrices; the page shows those that are named
GATES: dict[str, tuple[str | None, ...]] = {
    "lstm": ("input", "forget", None, "output"),
    "gru": ("reset", "update", None),
}


class Reading:
    """One text, read by one model.

    Args:
        classifier: The classifier.
        text: The text; the page shows its first `MAX_TOKENS` tokens.

    Attributes:
        words: The tokens as they are written in the text.
        ids: Ids of the tokens. Shape `(1, num_tokens)`.
        states: States of the top layer. Shape `(num_tokens, output_size)`.
        label: Index of the label with the largest logit.
    """

    def __init__(self, classifier: TextClassifier, text: str) -> None:
        self.classifier, self.model = classifier, classifier.model
        text, limit = encodable(text), min(classifier.max_length or MAX_TOKENS, MAX_TOKENS)
        encoded = classifier.tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
        tokens = classifier.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        spans = encoded["offset_mapping"]
        # special tokens stand nowhere in the text
        self.words = [text[start:end] or token for (start, end), token in zip(spans, tokens, strict=True)]
        if not self.words:
            raise ValueError(f"A text of the lesson page must have at least one word, got {text!r:.40}.")
        self.ids = torch.tensor([encoded["input_ids"]])
        self.hidden_size = self.model.config.hidden_size
        with torch.inference_mode():
            branches, _, all_states = self.model.classify(self.ids, output_hidden_states=True)
        self.inputs, self.states = all_states[-2][0], all_states[-1][0]
        self.label = int(torch.stack(branches).sum(dim=0)[0].argmax())

    @torch.inference_mode()
    def probabilities_after_every_word(self) -> np.ndarray:
        """Return the answer to every beginning of the text. Shape `(num_tokens, num_labels)`."""
        ends = range(1, len(self.words) + 1)
        return np.concatenate([self._answer(self.ids[:, :end])[0] for end in ends])

    def order_of_units(self) -> list[int]:
        """Return the units in an order in which neighbours have similar states (hierarchical clustering)."""
        if self.states.shape[1] < 2:
            return [0]
        return list(leaves_list(linkage(self.states.T.numpy(), "ward", optimal_ordering=True)).tolist())

    @torch.inference_mode()
    def gates(self) -> dict[str, np.ndarray]:
        """Return the gates of the cell by name, each of shape `(num_tokens, hidden_size)`; none for the plain RNN.

        The formulas are those of `torch.nn.LSTM` and `torch.nn.GRU`.
        """
        names = GATES.get(self.model.config.cell_type, ())
        layer: Any = self.model.model.layers[-1]
        weight_ih, weight_hh, bias_ih, bias_hh = layer.recurrent.all_weights[0]
        before = torch.nn.functional.pad(self.states[:-1, : self.hidden_size], (0, 0, 1, 0))
        sums = self.inputs @ weight_ih.T + bias_ih + before @ weight_hh.T + bias_hh
        parts = sums.sigmoid().split(self.hidden_size, dim=1)
        return {name: part.numpy() for name, part in zip(names, parts, strict=False) if name is not None}

    def gradient_by_distance(self) -> np.ndarray:
        """Return `gradients_by_distance` of this text. Shape `(2, num_tokens)`."""
        return gradients_by_distance(self.model, self.ids)[:, 0]

    def reliance(self) -> np.ndarray:
        """Return how much each state depends on each word vector.

        Returns:
            The Frobenius norm of the derivative of the state after word `t` by the vector of word `s`, 0 for words
            after `t`. Shape `(num_tokens, num_tokens)`, `t` first.
        """
        norms = np.zeros((len(self.words),) * 2, dtype=np.float32)
        vectors = self.model.model.embed_tokens(self.ids).detach().expand(self.hidden_size, -1, -1)
        for index in range(len(self.words)):
            # a row for each unit, whose gradient is a row of the derivative
            rows = vectors.clone().requires_grad_()
            states = self.model.model.encode(inputs_embeds=rows)[0][-1][:, index, : self.hidden_size]
            (gradient,) = torch.autograd.grad(states.diagonal().sum(), rows)
            norms[index] = gradient.square().sum(dim=(0, 2)).sqrt().numpy()
        return np.tril(norms)

    def padding(self) -> dict[str, dict[str, np.ndarray]]:
        """Return what 0 to `MOST_PADDING` paddings after the text change, with packed texts and without.

        Returns:
            For `packed` and `not_packed`: the predicted `label`; the `probability` of the label without padding; and
            `drift`, the distance of the pooled vector from that without padding, divided by the norm of the latter.
            Shape of each `(MOST_PADDING + 1,)`.
        """
        return {"packed": self._padded(uses_mask=True), "not_packed": self._padded(uses_mask=False)}

    @torch.inference_mode()
    def _padded(self, *, uses_mask: bool) -> dict[str, np.ndarray]:
        answers, pooled = [], []
        with _masks(self.model, uses_mask):
            for number in range(MOST_PADDING + 1):
                ids = torch.nn.functional.pad(self.ids, (0, number), value=self.classifier.pad_token_id)
                mask = torch.arange(ids.shape[1])[None] < len(self.words)
                answer, vector = self._answer(ids, mask)
                answers.append(answer)
                pooled.append(vector)
        probabilities, vectors = np.concatenate(answers), np.concatenate(pooled)
        drift = np.linalg.norm(vectors - vectors[0], axis=1) / max(np.linalg.norm(vectors[0]), 1e-12)
        return {"label": probabilities.argmax(axis=1), "probability": probabilities[:, self.label], "drift": drift}

    @torch.inference_mode()
    def contributions(self) -> dict[str, np.ndarray]:
        """Return what each pooling takes from each position for the logit of the label.

        The pooling is linear once the position of each maximum and the weights of attention are known, so all
        contributions and the bias add up to the logit of the recurrent network.

        Returns:
            Contributions by the name of the pooling, of shape `(num_tokens,)`.
        """
        weights = self.model.classifier.weight[self.label]
        size, positions = self.states.shape[1], {}
        for part, of_part in zip(self.model.pooler.parts, weights.split(size), strict=False):
            products = self.states * of_part  # (time, size)
            if part == "last":
                taken = torch.zeros_like(products)
                taken[-1, : self.hidden_size] = 1
                taken[0, self.hidden_size :] = 1  # the backward direction ends at the first word
            elif part == "max":
                taken = torch.nn.functional.one_hot(self.states.argmax(dim=0), len(self.words)).T
            elif part == "attention":
                taken = self.model.pooler.attention.score(self.states.tanh()).softmax(dim=0)
            else:
                taken = torch.full_like(products, 1 / len(self.words))
            positions[part] = (products * taken).sum(dim=1).numpy()
        if self.model.concat_embedding_mean:
            vectors = self.model.model.embed_tokens(self.ids)[0]
            of_words = weights[len(weights) - vectors.shape[1] :]
            positions["word_vectors"] = ((vectors * of_words).sum(dim=1) / len(self.words)).numpy()
        return positions

    def maxima(self) -> np.ndarray | None:
        """Return how many units have their maximum at each position, shape `(num_tokens,)`; `None` without maximum."""
        if "max" not in self.model.pooler.parts:
            return None
        return np.bincount(self.states.argmax(dim=0).numpy(), minlength=len(self.words))

    def _answer(self, ids: Tensor, mask: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities and the pooled vectors of a batch."""
        branches, pooled, _ = self.model.classify(ids, mask)
        logits = torch.stack(branches).sum(dim=0).float()
        return ACTIVATIONS[self.classifier.problem_type](logits).numpy(), pooled.numpy()


@contextmanager
def _masks(model: RNNForSequenceClassification, uses_mask: bool) -> Iterator[None]:
    """Let a model read masks or ignore them, as `pack_padded_sequences` does."""
    before = model.model.uses_mask
    model.model.uses_mask = uses_mask
    try:
        yield
    finally:
        model.model.uses_mask = before


def gradients_by_distance(model: RNNForSequenceClassification, ids: Tensor) -> np.ndarray:
    """Return the norm of a logit's gradient by each word vector, from the last word back.

    The logit is that of the predicted label: first as the network computes it, then as the classifier would compute it
    from the last state alone, where the gradient has to pass through every step.

    Args:
        model: The model.
        ids: Ids of texts of one length. Shape `(batch_size, num_tokens)`.

    Returns:
        Norms of shape `(2, batch_size, num_tokens)`.
    """
    vectors = model.model.embed_tokens(ids).detach().requires_grad_()
    states = model.model.encode(inputs_embeds=vectors)[0][-1]
    pooled = model.pooler(states, None)
    if model.concat_embedding_mean:
        pooled = torch.cat([pooled, pool_mean(vectors, None)], dim=-1)
    logits = model.classifier(pooled)
    labels = logits.argmax(dim=1)
    size = model.config.hidden_size
    last = (states[:, -1, :size] * model.classifier.weight[labels, :size]).sum()
    as_computed = logits.gather(1, labels[:, None]).sum()
    gradients = [torch.autograd.grad(value, vectors, retain_graph=True)[0] for value in (as_computed, last)]
    norms: np.ndarray = torch.stack(gradients).norm(dim=-1).flip(-1).numpy()
    return norms
