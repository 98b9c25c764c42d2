"""From strings to labels and probabilities, with a saved model."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

CHUNK_SIZE = 4096
NO_MAX_LENGTH = 10**9  # transformers gives a tokenizer without a limit a larger number than this


class TextClassifier:
    """A model of this family with its tokenizer.

    Args:
        model: The classifier.
        tokenizer: The tokenizer it was trained with.

    Raises:
        ValueError: If the tokenizer has more tokens than the model.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {len(tokenizer)} tokens but `config.vocab_size` is {model.config.vocab_size}. "
                "Load the tokenizer that was saved with the model."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> "TextClassifier":
        """Load a classifier from a folder or from the Hub; only safetensors are read, and no code is run.

        Args:
            name_or_path: Folder or `owner/name`.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as every `from_pretrained` takes them.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If the folder or repository holds no model of this family.
        """
        name = str(name_or_path)
        is_path = name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(name.split("/")[0]).is_dir()
        if is_path and not Path(name).is_dir():
            raise FileNotFoundError(f"The model folder {name!r} does not exist. Pass a folder, or `owner/name`.")
        try:
            model = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True, **kwargs)
            tokenizer = AutoTokenizer.from_pretrained(name, **kwargs)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{name!r} is not a model that can be loaded: {error}") from error
        return cls(model, tokenizer)

    @property
    def labels(self) -> list[str]:
        """Names of the classes in the order of their ids."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    @property
    def max_length(self) -> int | None:
        """Number of tokens after which a text is cut off, as in training; `None`: never."""
        length: int = self.tokenizer.model_max_length
        return length if length < NO_MAX_LENGTH else None

    @property
    def pad_token_id(self) -> int:
        """Id that fills a batch up; the mask keeps it from being read, so any will do where there is none."""
        return self.model.config.pad_token_id or 0

    def predict_proba(self, texts: Iterable[str], batch_size: int = 64) -> Iterator[np.ndarray]:
        """Yield the probabilities of each text, in order.

        The texts are read in chunks, and a chunk is sorted by length, so a stream of any length needs little memory
        and little padding.

        Args:
            texts: Any iterable of strings.
            batch_size: Texts that go through the model together.

        Yields:
            Probabilities, float32 of shape `(num_labels,)`.

        Raises:
            TypeError: If a single string is given in the place of several.
        """
        if isinstance(texts, str):
            raise TypeError("`texts` must be an iterable of strings, got one string. Pass `[text]`.")
        stream = iter(texts)
        while chunk := list(islice(stream, CHUNK_SIZE)):
            yield from self._predict_chunk(chunk, batch_size)

    @torch.inference_mode()
    def _predict_chunk(self, texts: list[str], batch_size: int) -> np.ndarray:
        # a lone surrogate is no text: tokenizers refuses it
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids = self.tokenizer(clean, truncation=self.max_length is not None, return_attention_mask=False)["input_ids"]
        order = np.argsort([len(tokens) for tokens in ids], kind="stable")
        probabilities = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            tokens = [torch.tensor(ids[row], dtype=torch.long) for row in rows]
            lengths = torch.tensor([len(text) for text in tokens])
            input_ids = pad_sequence(tokens, batch_first=True, padding_value=self.pad_token_id)
            attention_mask = torch.arange(input_ids.shape[1]) < lengths.unsqueeze(1)
            device = self.model.device
            logits = self.model(input_ids.to(device), attention_mask=attention_mask.to(device)).logits
            probabilities[rows] = logits.float().softmax(dim=-1).cpu().numpy()
        return probabilities
