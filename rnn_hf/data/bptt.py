"""Batches for truncated back-propagation through time, in which a language model reads all texts as one sequence."""

import math

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnn_hf.causal_lm_rnn import IGNORED_LABEL

from .batching import BatchSampler


class TokenStreams(Dataset[dict[str, Tensor]]):
    """The texts of a split as one sequence of tokens, arranged in the rows of a batch.

    An end-of-text token precedes the first text and follows each text. The sequence is cut into `num_streams` rows
    of equal length, the "streams". A batch holds the next `piece_length` tokens of every row, a "piece" of each, so
    that a model that carries its state from batch to batch reads each row as a whole (truncated back-propagation
    through time). Every token but the first of the sequence is a label once per epoch, at the position before it. Only
    the last rows may be shorter than the others; their missing positions have the label -100.

    Item `piece * num_streams + stream` is one piece of one row. All tokens are in memory, at eight bytes each.

    Args:
        dataset: Rows with the columns `input_ids` and `length`, as returned by `encode_dataset`.
        end_of_text_id: Id of the end-of-text token.
        num_streams: Number of rows in a batch.
        piece_length: Number of tokens of each row in a batch.
        is_backward: Whether the tokens of each text are in reverse order.

    Raises:
        ValueError: If a number is below 1, or no text has a token.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        end_of_text_id: int,
        num_streams: int,
        piece_length: int,
        is_backward: bool = False,
    ) -> None:
        for name, value in (("num_streams", num_streams), ("piece_length", piece_length)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}. Raise it.")
        table = dataset.with_format("arrow")[:]
        lengths = table["length"].to_numpy().astype(np.int64)
        if not lengths.any():
            raise ValueError("The texts must have tokens, got none. Pass other texts.")
        self.end_of_text_id = end_of_text_id
        self.num_streams, self.piece_length = num_streams, piece_length
        self._tokens = table["input_ids"].combine_chunks().flatten().to_numpy().astype(np.int32)
        if is_backward:  # reversing the sequence of all texts reverses each of them
            self._tokens, lengths = self._tokens[::-1], lengths[::-1]
        self._lengths, self._starts = lengths, lengths.cumsum() - lengths
        self.num_texts, self.num_labels = len(lengths), int(lengths.sum()) + len(lengths)
        self.stream_length = math.ceil(self.num_labels / num_streams)
        self.num_pieces = math.ceil(self.stream_length / piece_length)
        self.arrange(np.arange(len(lengths)))

    def arrange(self, order: np.ndarray) -> None:
        """Join the texts in another order.

        Args:
            order: Index of each text, once. Shape `(num_texts,)`.
        """
        lengths = self._lengths[order]
        ends = np.cumsum(lengths + 1)  # position of the end-of-text token after each text
        sequence = np.full(self.num_streams * self.stream_length + 1, self.end_of_text_id, dtype=np.int32)
        is_word = np.ones(self.num_labels + 1, dtype=bool)
        is_word[0] = is_word[ends] = False
        within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        sequence[: self.num_labels + 1][is_word] = self._tokens[np.repeat(self._starts[order], lengths) + within]
        self._sequence = sequence

    def __len__(self) -> int:
        return self.num_pieces * self.num_streams

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """Return the same piece of several rows, as one batch; a `DataLoader` calls this method.

        Returns:
            `input_ids` and `labels` (the token after each), int64 of shape `(batch_size, piece_length)`, with fewer
            columns in the last piece; and `num_labels`, the number of labels of the piece in all rows, times the share
            of the rows that was requested: the divisor for the sum of the losses in each process.
        """
        piece = indices[0] // self.num_streams
        first = piece * self.piece_length
        width = min(self.piece_length, self.stream_length - first)
        starts = np.arange(self.num_streams) * self.stream_length + first
        num_labels = int((self.num_labels - starts).clip(0, width).sum())
        positions = starts[np.asarray(indices) % self.num_streams, None] + np.arange(width)
        labels = np.where(positions < self.num_labels, self._sequence[positions + 1], IGNORED_LABEL)
        return {
            "input_ids": torch.from_numpy(self._sequence[positions].astype(np.int64)),
            "labels": torch.from_numpy(labels.astype(np.int64)),
            "num_labels": torch.tensor(num_labels * len(indices) / self.num_streams),
        }


class StreamSampler(BatchSampler):
    """The pieces of all rows in order; the texts are in a different order in each epoch.

    Args:
        streams: The rows, whose texts `set_epoch` rearranges.
        seed: Seed of the order of the texts; `None` keeps the order of the dataset.
    """

    def __init__(self, streams: TokenStreams, seed: int | None) -> None:
        super().__init__(np.full(len(streams), streams.piece_length), streams.num_streams, seed or 0)
        self.streams, self.is_random = streams, seed is not None
        self._arranged_epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Arrange the texts in the order of an epoch; Accelerate's loader calls this more than once."""
        super().set_epoch(epoch)
        if self.is_random and epoch != self._arranged_epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self.streams.arrange(generator.permutation(self.streams.num_texts))
            self._arranged_epoch = epoch

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the pieces in order."""
        return np.arange(len(self.lengths))
