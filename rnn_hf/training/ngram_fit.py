"""Fitting the n-gram branch of a classifier: a linear model whose best weights are computed directly, without steps.

Each of several classes or labels has a support vector machine that separates it from the others (Joachims, 1998; Fan
et al., 2008); a regression uses ridge regression. Both have a single optimum and need no learning rate.
"""

import time
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize
from scipy.sparse import csr_array, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from rnn_hf.configuration_rnn import ProblemType, RNNConfig
from rnn_hf.data.batching import EncodedRows, PaddingCollator
from rnn_hf.data.streaming import StreamedRows
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.ngrams_rnn import NORM, NGramBranch
from rnn_hf.progress import progress_bar, say

from .losses import class_weights_of, create_loss
from .splits import TextSplits
from .targets import TargetScale, best_thresholds

# Maximum number of n-grams in all texts for the fit, about 0.15 GB; texts are sampled to stay below it. With so many
# texts, the network is nearly as accurate alone
MOST_NGRAMS = 6_500_000

# Number of rows of a stream that are read before training
MOST_STREAMED_ROWS = 100_000

# Number of texts whose n-grams are counted at a time, and number of parts in which the n-grams of buckets are chosen
ROWS_AT_ONCE, SHARES_OF_BUCKETS = 1_000, 8

# Inverse strength of the regularization with one class per text, and with several labels, most of which are rare
COST, COST_OF_SEVERAL = 1.0, 0.3

# Strength of the regularization of a regression on texts of norm 1 and targets of standard deviation 1
RIDGE_ALPHA = 0.3

# Powers of the inverse document frequency, and for each the factor of the branch's logits, relative to the network's,
# until held-out rows determine it. Rare words separate few rows of long texts; frequent words also separate questions
# of ten words. The margins of support vectors are 1, and smaller where rare words count more; the logits of a network
# that is sure of a class are several times as far apart
POWERS = {0.75: 5.0, 1.5: 10.0}

# The factor if the network starts from pretrained word vectors, which make it right more often
BRANCH_WEIGHT_WITH_VECTORS = 2.5

# Number of tokens per text from which the larger power is the default for classes
LONG_TEXT = 20

# Maximum number of rows to choose the power on, and number of folds of the cross-validation
MOST_ROWS_TO_CHOOSE_BY, NUM_PARTS = 5_000, 5

# The factor in a regression, in which the two weights add up to 1
BRANCH_SHARE_OF_REGRESSION = 0.75

# Minimum number of held-out rows to change the weights: with a hundred rows, they would depend on chance
FEWEST_ROWS_TO_WEIGH = 300

# Maximum factor by which the weight of a part may grow
LARGEST_FACTOR = 20.0

# Factors of the branch that are tried if a text may have several labels
FACTORS_OF_SEVERAL = (0.5, 1.0, 2.0, 4.0)


def fit_ngrams(
    model: RNNForSequenceClassification,
    rows: Dataset | StreamedRows,
    splits: TextSplits,
    class_weights: Sequence[str] | None = None,
    has_vectors: bool = False,
    scale: TargetScale | None = None,
) -> None:
    """Fit the n-gram branch of a classifier to training rows; without a branch, do nothing.

    From then on, the network is trained apart from the branch, until `NGramBranch.train_together` is called.

    Args:
        model: The classifier.
        rows: The encoded training rows.
        splits: The problem type, and the names of the classes.
        class_weights: As in `class_weights_of`. Only with one class per text: several labels are always balanced.
        has_vectors: Whether the network starts from pretrained word vectors.
        scale: Mean and standard deviation of the targets, if the network learns standardized ones.
    """
    branch = model.ngrams
    if branch is None:
        return
    started = time.perf_counter()
    known = known_rows(rows)
    counts, labels = count_ngrams(branch, known, model.config)
    if splits.problem_type == "regression":
        labels = labels if scale is None else scale.standardized(torch.from_numpy(labels)).numpy()
        labels = labels.reshape(len(labels), -1)
    idf = inverse_document_frequencies(counts)
    is_long = splits.problem_type != "regression" and np.median(known.lengths) > LONG_TEXT
    power = max(POWERS) if is_long else min(POWERS)
    if (
        splits.problem_type != "multi_label_classification"
    ):  # with several labels, comparing would take longer than training
        power = choose_power(counts, idf, labels, len(splits.label_names), power)
    branch.idf.copy_(torch.from_numpy(idf**power))
    texts = vectors_of_texts(counts, idf**power)
    del counts  # half as large as the texts
    if splits.problem_type == "regression":
        weights, bias = fit_numbers(texts, labels)
        weight, branch.factor_alone = BRANCH_SHARE_OF_REGRESSION, 1 / (1 - BRANCH_SHARE_OF_REGRESSION)
    else:
        row_weights = None
        if class_weights is not None and labels.ndim == 1:
            of_class = class_weights_of(class_weights, labels, splits.label_names, splits.problem_type)
            row_weights = None if of_class is None else of_class.numpy()[labels]
        weights, bias = fit_classes(texts, labels, len(splits.label_names), row_weights)
        weight, branch.factor_alone = BRANCH_WEIGHT_WITH_VECTORS if has_vectors else POWERS[power], 1.0
    branch.requires_grad_(False)
    branch.table.weight.copy_(torch.from_numpy(weights.T * (weight / NORM)))
    branch.bias.copy_(torch.as_tensor(bias * weight))
    say(
        f"The n-gram branch has {int((branch.owners >= 0).sum()):,} n-grams of {len(labels):,} texts, fitted in "
        f"{time.perf_counter() - started:.1f} s"
    )


def known_rows(rows: Dataset | StreamedRows) -> EncodedRows:
    """Return the training rows; the first ones of a stream."""
    if isinstance(rows, StreamedRows):
        return next(rows.buffers(MOST_STREAMED_ROWS, 0, None))[0]
    return EncodedRows(rows)


def count_ngrams(branch: NGramBranch, rows: EncodedRows, config: RNNConfig) -> tuple[csr_array, np.ndarray]:
    """Choose the n-grams of a branch, and count them in each text.

    Of n-grams with the same bucket, the one that occurs in most texts gets it. N-grams with an unknown word get none:
    in new texts, it would be another word.

    Args:
        branch: The branch.
        rows: The encoded rows.
        config: Ids of padding and of the unknown word.

    Returns:
        Counts of the n-gram of each bucket in each text, of shape `(num_rows, ngram_buckets)`, and the labels.
    """
    chosen = np.arange(len(rows))
    num_ngrams = float(branch.order * rows.lengths.sum(dtype=np.int64))
    if num_ngrams > MOST_NGRAMS:
        size = max(1, int(len(rows) * MOST_NGRAMS / num_ngrams))
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), size, replace=False))
    collate, ngrams, all_labels = PaddingCollator(config.pad_token_id or 0), [], []
    for start in progress_bar(range(0, len(chosen), ROWS_AT_ONCE), desc="Counting n-grams", delay=2, leave=False):
        batch = collate(rows.__getitems__(chosen[start : start + ROWS_AT_ONCE].tolist()))
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        is_unknown = None if config.unk_token_id is None else ids == config.unk_token_id
        of_rows, is_ngram = branch.ngrams_of(ids, mask, is_unknown)
        in_row = torch.arange(len(of_rows)).unsqueeze(1) << 31 | of_rows
        distinct, times = np.unique(in_row[is_ngram].numpy(), return_counts=True)
        ends = np.append(0, np.bincount(distinct >> 31, minlength=len(of_rows)).cumsum())
        # small types, since all texts are in memory in this form; the columns are the n-grams themselves
        columns, times = (distinct & (2**31 - 1)).astype(np.int32), np.minimum(times, 2**16 - 1).astype(np.uint16)
        ngrams.append(csr_array((times, columns, ends.astype(np.int32)), (len(of_rows), 2**31 - 1)))
        all_labels.append(batch["labels"].numpy())
    owners = most_frequent_ngrams([part.indices for part in ngrams], branch.num_buckets)
    branch.owners.copy_(torch.from_numpy(owners))
    counts = vstack([of_buckets(part, owners) for part in ngrams], format="csr")
    return counts, np.concatenate(all_labels)


def most_frequent_ngrams(ngrams: Sequence[np.ndarray], num_buckets: int) -> np.ndarray:
    """Return the n-gram of each bucket that occurs in most texts, the smallest of equally frequent ones.

    Args:
        ngrams: N-grams of texts, each one once per text, in any order. One-dimensional arrays of int32.
        num_buckets: Number of buckets; the one of an n-gram is its remainder.

    Returns:
        Shape `(num_buckets,)`, int32; -1 for a bucket without n-grams.

    Example:
        >>> most_frequent_ngrams([np.array([1, 4, 8]), np.array([4, 8])], 4)
        array([ 4,  1, -1, -1], dtype=int32)
    """
    owners = np.full(num_buckets, -1, np.int32)
    for share in range(SHARES_OF_BUCKETS):  # one after the other, to need less memory
        of_share = np.concatenate([part[part % num_buckets % SHARES_OF_BUCKETS == share] for part in ngrams])
        known, frequency = np.unique(of_share, return_counts=True)
        # the last one in this order keeps the bucket
        by_frequency = np.lexsort((-known.astype(np.int64), frequency))
        owners[known[by_frequency] % num_buckets] = known[by_frequency]
    return owners


def of_buckets(ngrams: csr_array, owners: np.ndarray) -> csr_array:
    """Return the counts of the n-grams that have a bucket, in order of the buckets.

    Args:
        ngrams: Counts of all n-grams in each text.
        owners: The n-gram of each bucket.
    """
    bucket = ngrams.indices % len(owners)
    is_owner = owners[bucket] == ngrams.indices
    ends = np.append(np.int32(0), is_owner.cumsum(dtype=np.int32))[ngrams.indptr]
    counts = csr_array((ngrams.data[is_owner], bucket[is_owner], ends), (ngrams.shape[0], len(owners)))
    counts.sort_indices()  # LIBLINEAR needs them in order
    return counts


def inverse_document_frequencies(counts: csr_array) -> np.ndarray:
    """Return the inverse document frequency of each bucket, 0 for those in no text or in all (Spärck Jones, 1972).

    Args:
        counts: Counts of the n-gram of each bucket in each text. Shape `(num_rows, ngram_buckets)`.
    """
    num_texts = np.bincount(counts.indices, minlength=counts.shape[1])
    return np.where(num_texts > 0, np.log((1 + counts.shape[0]) / (1 + num_texts)), 0.0)


def vectors_of_texts(counts: csr_array, weights: np.ndarray) -> csr_array:
    """Return the vectors of texts as the branch computes them, in which an n-gram that occurs twice is two entries.

    Args:
        counts: Counts of the n-gram of each bucket in each text. Shape `(num_rows, ngram_buckets)`.
        weights: Weight of each bucket. Shape `(ngram_buckets,)`.
    """
    lengths = np.sqrt(counts @ weights**2)
    entries = counts.data * weights[counts.indices]
    entries *= np.repeat(1 / np.maximum(lengths, 1e-6), np.diff(counts.indptr))
    # the indices are shared
    return csr_array((entries, counts.indices, counts.indptr), counts.shape)


def choose_power(counts: csr_array, idf: np.ndarray, labels: np.ndarray, num_labels: int, usual: float) -> float:
    """Return the usual power of the inverse document frequency, unless another is significantly better.

    That is, unless its error in a cross-validation is smaller by more than the standard error of the difference.

    Args:
        counts: Counts of the n-gram of each bucket in each text. Shape `(num_rows, ngram_buckets)`.
        idf: Inverse document frequency of each bucket. Shape `(ngram_buckets,)`.
        labels: Class ids of shape `(num_rows,)`, or targets of shape `(num_rows, num_labels)`.
        num_labels: Number of classes or targets.
        usual: The default power, one of `POWERS`.
    """
    if len(labels) < NUM_PARTS:
        return usual
    sampled = np.random.default_rng(0).permutation(len(labels))[:MOST_ROWS_TO_CHOOSE_BY]
    parts = [np.sort(part) for part in np.array_split(sampled, NUM_PARTS)]
    is_regression = labels.ndim == 2
    fit = fit_numbers if is_regression else partial(fit_classes, num_labels=num_labels)

    def errors(power: float) -> np.ndarray:
        found = []
        for number, held_out in enumerate(parts):
            rows = np.concatenate(parts[:number] + parts[number + 1 :])
            weights, bias = fit(vectors_of_texts(counts[rows], idf**power), labels[rows])
            answers, truth = vectors_of_texts(counts[held_out], idf**power) @ weights.T + bias, labels[held_out]
            found.append(np.square(answers - truth).sum(axis=1) if is_regression else answers.argmax(axis=1) != truth)
        return np.concatenate(found).astype(float)

    of_usual, chosen, least = errors(usual), usual, 0.0
    for power in POWERS.keys() - {usual}:
        gains = of_usual - errors(power)
        if gains.mean() - gains.std() / np.sqrt(len(gains)) > least:
            chosen, least = power, gains.mean()
    return chosen


def fit_numbers(texts: csr_array, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of each target, shape `(num_targets, ngram_buckets)`, and its bias, shape `(num_targets,)`.

    Args:
        texts: The vectors of the texts. Shape `(num_rows, ngram_buckets)`.
        targets: Standardized targets. Shape `(num_rows, num_targets)`.
    """
    ridge = Ridge(RIDGE_ALPHA, solver="sparse_cg").fit(texts, targets)
    return ridge.coef_.reshape(targets.shape[1], -1), np.atleast_1d(ridge.intercept_)


def fit_classes(
    texts: csr_array, labels: np.ndarray, num_labels: int, row_weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of each class, shape `(num_labels, ngram_buckets)`, and its bias, shape `(num_labels,)`.

    Args:
        texts: The vectors of the texts. Shape `(num_rows, ngram_buckets)`.
        labels: Class ids of shape `(num_rows,)`, or 1 for the classes of a text, of shape `(num_rows, num_labels)`.
        num_labels: Number of classes.
        row_weights: Weight of each row. Shape `(num_rows,)`.
    """
    weights, bias = np.zeros((num_labels, texts.shape[1])), np.zeros(num_labels)
    has_one = labels.ndim == 1
    # most of several labels are rare, and a machine that never predicts them would be right nearly always
    machine = LinearSVC(
        C=COST if has_one else COST_OF_SEVERAL, class_weight=None if has_one else "balanced", random_state=0
    )
    for label in progress_bar(range(num_labels), desc="Fitting the n-gram branch", delay=2, leave=False):
        is_of_class = labels == label if has_one else labels[:, label] > 0
        if is_of_class.all() or not is_of_class.any():
            bias[label] = 1.0 if is_of_class.any() else -1.0
            continue
        with warnings.catch_warnings():  # further improvement would be too small to measure
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(texts, is_of_class, row_weights)
        weights[label], bias[label] = machine.coef_[0], machine.intercept_[0]
        if has_one and num_labels == 2:  # the other class is its mirror image
            return np.stack([weights[0], -weights[0]]), np.array([bias[0], -bias[0]])
    return weights, bias


def weigh_branches(
    network: np.ndarray, branch: np.ndarray, labels: np.ndarray, problem_type: ProblemType
) -> tuple[float, float]:
    """Return the factors of the logits of network and branch whose sum is best (stacking: Wolpert, 1992).

    The best sum has the smallest loss or, if a text may have several labels, the highest macro F1 at the best
    thresholds. Except in a regression, the network's factor is 1, because temperature and thresholds adjust the
    confidence.

    Args:
        network: Logits of the network for rows that neither part was trained on. Shape `(num_rows, num_labels)`.
        branch: Logits of the branch. Same shape.
        labels: The labels of these rows; in a regression, standardized.
        problem_type: Problem type of the labels.

    Example:
        >>> weigh_branches(np.zeros((300, 1)), np.ones((300, 1)), np.full(300, 0.5), "regression")[1]
        0.5
    """
    parts, truth = torch.from_numpy(np.stack([network, branch])).double(), torch.from_numpy(labels)
    if len(labels) < FEWEST_ROWS_TO_WEIGH or not torch.isfinite(parts).all():
        return 1.0, 1.0
    if problem_type == "multi_label_classification":
        return 1.0, max(FACTORS_OF_SEVERAL, key=lambda factor: best_macro_f1(network + factor * branch, labels))
    if problem_type == "regression":
        truth = truth.double()
    elif (parts.sum(dim=0).argmax(dim=1) == truth).all():  # there is no smallest loss
        return 1.0, 1.0
    loss_of = create_loss(problem_type)

    def loss_and_gradient(factors: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(factors, requires_grad=True)
        loss = loss_of(torch.einsum("p,prl->rl", weights, parts), truth)
        loss.backward()
        return loss.item(), np.asarray(weights.grad)

    # the loss is convex in the two factors
    bounds = [(1 / LARGEST_FACTOR, LARGEST_FACTOR), (1 / LARGEST_FACTOR, LARGEST_FACTOR)]
    of_network, of_branch = minimize(loss_and_gradient, (1.0, 1.0), jac=True, bounds=bounds).x.tolist()
    if problem_type == "single_label_classification":
        of_network, of_branch = 1.0, of_branch / of_network
    return round(of_network, 6), round(of_branch, 6)


def best_macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the macro F1 of several labels at the best thresholds for these rows. Shapes as above."""
    probabilities = torch.from_numpy(logits).double().sigmoid().numpy()
    return float(f1_score(labels, probabilities >= best_thresholds(logits, labels), average="macro", zero_division=0))
