"""Several networks that were trained alike, as a single one whose logits are the mean of theirs."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from rnn_hf.configuration_rnn import RNNConfig
from rnn_hf.modeling_rnn import RNNForSequenceClassification

# Between the seeds of two networks, so that runs with neighbouring seeds have no network in common
SEED_STEP = 10_000


def check_pooling(pooling: str, ensemble_size: int) -> None:
    """Check that networks with this pooling can become one.

    Raises:
        ValueError: If there are several and they pool with attention, whose weights depend on all states together.
    """
    if ensemble_size > 1 and pooling == "attention":
        raise ValueError(
            f"`ensemble_size={ensemble_size}` needs a pooling without weights, got `classifier_pooling=attention`. "
            "Choose another one, or leave `ensemble_size` out."
        )


@torch.no_grad()
def join_networks(models: Sequence[RNNForSequenceClassification]) -> RNNForSequenceClassification:
    """Return one classifier whose logits are the mean of those of several networks (Hansen and Salamon, 1990).

    The word vectors and the states of all networks stand side by side, and a weight between two networks is 0. So the
    model is an ordinary one, `len(models)` times as wide.

    Args:
        models: Classifiers with the same configuration, and with the n-gram branch of the first, if there is one.

    Example:
        >>> first, second = (RNNForSequenceClassification(RNNConfig(vocab_size=10, num_labels=2)) for _ in range(2))
        >>> text = torch.tensor([[7, 8, 9]])
        >>> mean = (first.eval()(text).logits + second.eval()(text).logits) / 2
        >>> torch.testing.assert_close(join_networks([first, second]).eval()(text).logits, mean)
    """
    first, config = models[0], copy.deepcopy(models[0].config)
    check_pooling(config.classifier_pooling, len(models))
    config.hidden_size, config.embedding_size = len(models) * config.hidden_size, len(models) * config.embedding_size
    config.ngram_buckets = 0  # the branch is moved, not copied
    joined = RNNForSequenceClassification(config)
    joined.ngrams, joined.config.ngram_buckets = first.ngrams, first.config.ngram_buckets
    weights = [model.state_dict() for model in models]
    for name, target in joined.state_dict().items():
        parts = [weight[name] for weight in weights if name in weight]
        if name.startswith("ngrams."):
            continue
        if name == "classifier.bias":
            target.copy_(torch.stack(parts).mean(dim=0))
        elif name == "classifier.weight":
            target.copy_(side_by_side(parts, pooled_sizes(first)) / len(models))
        elif name == "model.embed_tokens.weight":
            target.copy_(torch.cat(parts, dim=1))
        else:
            num_gates = parts[0].shape[0] // first.config.hidden_size
            target.copy_(between_units(parts, num_gates, name, first.config))
    return joined


def pooled_sizes(model: RNNForSequenceClassification) -> list[int]:
    """Return the widths of the vectors, one for each direction of each pooling, that the classifier reads."""
    config = model.config
    num_vectors = len(model.pooler.parts) * (2 if config.bidirectional else 1)
    return [config.hidden_size] * num_vectors + [config.embedding_size] * config.concat_embedding_mean


def side_by_side(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Return matrices whose columns are grouped alike as one, in which equal groups are neighbours.

    Args:
        parts: Matrices of the same shape, with `sum(sizes)` columns.
        sizes: Number of columns of each group.

    Example:
        >>> side_by_side([torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])], sizes=[2, 1])
        tensor([[1, 2, 4, 5, 3, 6]])
    """
    groups = [part.split(list(sizes), dim=-1) for part in parts]
    return torch.cat([torch.cat(group, dim=-1) for group in zip(*groups, strict=True)], dim=-1)


def between_units(parts: Sequence[Tensor], num_gates: int, name: str, config: RNNConfig) -> Tensor:
    """Return a weight or bias of a recurrent layer for the units of all networks.

    Args:
        parts: The weights or biases of each network. Shape `(num_gates * hidden_size, ...)`.
        num_gates: Number of blocks of rows, in each of which every unit has a row.
        name: Name of the weight, which says what it multiplies.
        config: Configuration of each network.
    """
    by_gate = [torch.stack(part.chunk(num_gates)) for part in parts]  # (gates, hidden_size, ...) of each network
    if "bias" in name:
        return torch.cat(by_gate, dim=1).flatten()
    reads_both_directions = config.bidirectional and "weight_ih" in name and ".layers.0." not in name
    num_groups = 2 if reads_both_directions else 1
    sizes = [by_gate[0].shape[-1] // num_groups] * num_groups
    rows = []
    for index, own in enumerate(by_gate):
        others = torch.zeros_like(own)
        rows.append(side_by_side([own if other == index else others for other in range(len(parts))], sizes))
    return torch.cat(rows, dim=1).flatten(0, 1)
