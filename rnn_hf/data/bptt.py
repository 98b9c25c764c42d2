"""From encoded texts to parallel streams of tokens, which a language model reads piece by piece."""

import math

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnn_hf.causal_lm_rnn import IGNORED_LABEL

from .batching import BatchSampler


class TokenStreams(Dataset[dict[str, Tensor]]):
    """The texts of a split, joined into one sequence that is cut into equal streams, and these into pieces.

    An end-of-text token stands before the first text and after each. Every token but the first one of all is the label
    of the position before it, once in an epoch. The streams go on from piece to piece: a model that carries its state
    along reads them as a whole (truncated back-propagation through time). Only the last streams may end earlier than
    the others: what is missing there has the label -100.

    Item `piece * num_streams + stream` is one piece of one stream. All tokens are in memory, eight bytes for each.

    Args:
        dataset: Rows with the columns `input_ids` and `length`, as `encode_dataset` makes them.
        end_of_text_id: Id of the token between the texts.
        num_streams: Number of streams, which is the size of a batch.
        piece_length: Tokens of a stream in one batch.
        is_backward: Whether each text is turned round.

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
        if is_backward:  # all texts in one
            self._tokens, lengths = self._tokens[::-1], lengths[::-1]
        self._lengths, self._starts = lengths, lengths.cumsum() - lengths
        self.num_texts, self.num_labels = len(lengths), int(lengths.sum()) + len(lengths)
        self.stream_length = math.ceil(self.num_labels / num_streams)
        self.num_pieces = math.ceil(self.stream_length / piece_length)
        self.arrange(np.arange(len(lengths)))

    def arrange(self, order: np.ndarray) -> None:
        """Join the texts in another order; `order` holds the index of each text once. Shape `(num_texts,)`."""
        lengths = self._lengths[order]
        ends = np.cumsum(lengths + 1)  # where the token after each text stands
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
        """Return one piece of some streams; a `DataLoader` looks for this method.

        Returns:
            `input_ids` and `labels`, the token after each, int64 of shape `(num_streams, piece_length)`, the last
            piece shorter; and `num_labels`, how many labels the piece has over all streams, in proportion to the
            number of those that were asked for: what a process divides its sum of losses by.
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
    """The pieces of all streams in their order; each epoch has another order of texts.

    Args:
        streams: The streams, whose texts `set_epoch` brings into the order of the epoch.
        seed: Seed of the order; `None`: the texts stay as they are.
    """

    def __init__(self, streams: TokenStreams, seed: int | None) -> None:
        super().__init__(np.full(len(streams), streams.piece_length), streams.num_streams, seed or 0)
        self.streams, self.is_random = streams, seed is not None
        self._arranged_epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Bring the texts into the order of an epoch; Accelerate's loader calls this more than once."""
        super().set_epoch(epoch)
        if self.is_random and epoch != self._arranged_epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self.streams.arrange(generator.permutation(self.streams.num_texts))
            self._arranged_epoch = epoch

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the pieces in their order."""
        return np.arange(len(self.lengths))
