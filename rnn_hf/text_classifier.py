"""From strings to labels and probabilities, with a saved model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME

from .configuration_rnn import ProblemType
from .data.tokenizing import fast_encoder, pad, training_length
from .errors import one_line
from .modeling_rnn import RNNForSequenceClassification
from .safe_loading import check_model, check_token_ids, folder_or_id, read_tokenizer

CHUNK_SIZE = 8192
UNITS_IN_A_BATCH = 4
SECONDS_BEFORE_PROGRESS = 2

# From ids and their mask to an answer for each text, of shape (batch, size)
BatchFunction = Callable[[Tensor, Tensor | None], Tensor]

# From logits to what `predict_proba` gives
ACTIVATIONS: dict[ProblemType, Callable[[Tensor], Tensor]] = {
    "single_label_classification": partial(torch.softmax, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": torch.Tensor.clone,
}


class TextClassifier:
    """A model of this family with its tokenizer: strings in, labels, probabilities or vectors out, fast.

    Texts of like length go through the model together, on a CPU one batch to each of torch's threads, so that hardly
    any time is spent on padding or on waiting.

    A classifier that `from_pretrained` loaded is pickled as the place it came from and how it was loaded, and is
    loaded from there again: another process is sent no weights, and a change made to the model since is not in the
    pickle, nor in a copy by `copy.deepcopy`. Any other classifier is pickled whole.

    Args:
        model: The classifier.
        tokenizer: The tokenizer it was trained with.

    Raises:
        ValueError: If the tokenizer has more tokens than the model.

    Example:
        >>> from rnn_hf import RNNConfig, RNNForSequenceClassification
        >>> from rnn_hf.data.tokenizer_training import train_tokenizer
        >>> tokenizer = train_tokenizer(["a dog", "a cat"])
        >>> classifier = TextClassifier(RNNForSequenceClassification(RNNConfig(vocab_size=5)), tokenizer)
        >>> classifier.predict_proba(["a dog", "a cat", "a"]).shape
        (3, 2)
    """

    def __init__(self, model: RNNForSequenceClassification, tokenizer: PreTrainedTokenizerBase) -> None:
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {len(tokenizer)} tokens but `config.vocab_size` is {model.config.vocab_size}. "
                "Load the tokenizer that was saved with the model."
            )
        self.model: RNNForSequenceClassification = model.eval()  # type: ignore[no-untyped-call]  # transformers' own
        self.tokenizer = tokenizer
        self._activate = ACTIVATIONS[self.problem_type]
        self._encode, _ = fast_encoder(tokenizer, self.max_length)
        self._load_again: Callable[[], TextClassifier] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._load_again is None:
            return type(self), (self.model, self.tokenizer)
        return self._load_again, ()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
    ) -> "TextClassifier":
        """Load a classifier from a folder or from the Hub; only safetensors are read, and no code is run.

        Args:
            name_or_path: Folder or `owner/name`.
            revision: Branch, tag or commit on the Hub.
            token: Access token of the Hub. It is in no pickle: the process that reads one needs its own login.
            cache_dir: Where downloads are kept.
            local_files_only: Whether to look into the cache only.
            device: Where the model runs; the CPU by default.
            dtype: Type of the weights, whatever they are saved in: a floating type of torch or its name.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If the folder or repository holds no model of this family, or one that is damaged, or the type
                is not a floating type.
        """
        name = folder_or_id(name_or_path)
        type_name = str(dtype).removeprefix("torch.")
        if type_name == "int8":
            raise ValueError(
                '`dtype="int8"` is no longer offered: it was slower than float32. Pass "float32", "float16" or '
                '"bfloat16".'
            )
        floating = getattr(torch, type_name, None)
        if not isinstance(floating, torch.dtype) or not floating.is_floating_point:
            raise ValueError(f"`dtype` must be a floating type of torch, got {dtype!r}.")
        hub: dict[str, Any] = {
            "revision": revision or "main",
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        config = check_model(name, RNNForSequenceClassification, **hub)
        try:
            model = RNNForSequenceClassification.from_pretrained(
                name, config=config, use_safetensors=True, dtype=floating, **hub
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{name!r} cannot be loaded: {one_line(error)}") from error
        tokenizer = read_tokenizer(name, **hub)
        check_token_ids(tokenizer, max(config.vocab_size, len(tokenizer)))
        placed: RNNForSequenceClassification = model if device is None else model.to(device)  # type: ignore[arg-type]
        classifier = cls(placed, tokenizer)
        is_folder = Path(name).is_dir()
        # another process has another working directory, and the branch may have moved on when it loads
        classifier._load_again = partial(
            cls.from_pretrained,
            str(Path(name).absolute()) if is_folder else name,
            revision=revision if is_folder else _commit_of(name, revision or "main", cache_dir),
            token=token if isinstance(token, bool) else None,
            cache_dir=None if cache_dir is None else Path(cache_dir).absolute(),
            local_files_only=local_files_only,
            device=device,
            dtype=dtype,
        )
        return classifier

    @property
    def problem_type(self) -> ProblemType:
        """What the model answers: one class a text, any number of classes, or numbers."""
        default: ProblemType = "regression" if self.model.num_labels == 1 else "single_label_classification"
        return self.model.config.problem_type or default

    @property
    def labels(self) -> list[str]:
        """Names of the classes in the order of their ids."""
        return [str(name) for _, name in sorted((self.model.config.id2label or {}).items())]

    @property
    def max_length(self) -> int | None:
        """Number of tokens after which a text is cut off, as in training; `None`: never."""
        return training_length(self.tokenizer)

    @property
    def pad_token_id(self) -> int:
        """Id that fills a batch up; the mask keeps it from being read, so any will do where there is none."""
        return self.model.config.pad_token_id or 0

    @overload
    def predict(self, texts: str, batch_size: int = ..., show_progress: bool = ..., threshold: float = ...) -> Any: ...
    @overload
    def predict(
        self, texts: Iterable[str], batch_size: int = ..., show_progress: bool = ..., threshold: float = ...
    ) -> list[Any]: ...
    def predict(
        self,
        texts: str | Iterable[str],
        batch_size: int = 256,
        show_progress: bool = True,
        threshold: float = 0.5,
    ) -> Any:
        """Return the answer to each text, in order; to a single string, its answer.

        An answer is the label; a list of labels where a text may have several, and for a regression a float, or a list
        of them where there are several targets.

        Args:
            texts: One string, or any iterable of strings; a generator is read in chunks.
            batch_size: Texts that go through the model together.
            show_progress: Whether to show a progress bar where it takes more than two seconds.
            threshold: Probability from which a label is given, where a text may have several.
        """
        if isinstance(texts, str):
            return self.answers(self.predict_proba(texts)[None], threshold)[0]
        chunks = _with_progress(self.iter_proba(texts, batch_size), texts, show_progress)
        return [answer for probabilities in chunks for answer in self.answers(probabilities, threshold)]

    def answers(self, probabilities: np.ndarray, threshold: float = 0.5) -> list[Any]:
        """Return what `predict` makes of the rows that `predict_proba` and `iter_proba` give.

        Args:
            probabilities: Shape `(num_texts, num_labels)`.
            threshold: As in `predict`.
        """
        if self.problem_type == "regression":
            return list((probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities).tolist())
        labels = np.array(self.labels, dtype=object)
        if self.problem_type == "multi_label_classification":
            return [labels[row >= threshold].tolist() for row in probabilities]
        return list(labels[probabilities.argmax(axis=1)])

    def predict_proba(
        self, texts: str | Iterable[str], batch_size: int = 256, show_progress: bool = True
    ) -> np.ndarray:
        """Return the probabilities of each text, in order; the numbers themselves for a regression.

        Args:
            texts: As in `predict`.
            batch_size: As in `predict`.
            show_progress: As in `predict`.

        Returns:
            float32 of shape `(num_texts, num_labels)`; `(num_labels,)` for a single string.
        """
        return self._rows(self._probabilities, self.model.num_labels, texts, batch_size, show_progress)

    def encode(
        self,
        texts: str | Iterable[str],
        batch_size: int = 256,
        show_progress: bool = True,
        normalize_embeddings: bool = False,
    ) -> np.ndarray:
        """Return the vector of each text that the classifier reads, in order: for search, clustering, neighbours.

        Texts of one class lie close together, and what the classes do not need may be lost.

        Args:
            texts: As in `predict`.
            batch_size: As in `predict`.
            show_progress: As in `predict`.
            normalize_embeddings: Whether to scale the vectors to length 1, so that their dot products are cosines. The
                vector of a text without tokens may stay 0.

        Returns:
            float32 of shape `(num_texts, size)`; `(size,)` for a single string. The size is that of the pooled states,
            `model.classifier.in_features`.
        """
        vectors = self._normalized_vectors if normalize_embeddings else self._vectors
        return self._rows(vectors, self.model.classifier.in_features, texts, batch_size, show_progress)

    def iter_proba(self, texts: Iterable[str], batch_size: int = 256) -> Iterator[np.ndarray]:
        """Yield the probabilities of a stream of texts, in order, without keeping the texts or the answers.

        Until the stream has ended, torch computes on one thread in each of several. Memory stays flat, once oneDNN has
        prepared its code for as many shapes of batches as it keeps (1,024, some 50 MiB; the environment variable
        `ONEDNN_PRIMITIVE_CACHE_CAPACITY` says how many).

        Args:
            texts: Any iterable of strings. It is read in chunks, two of them ahead of what is yielded.
            batch_size: Texts that go through the model together.

        Yields:
            Probabilities of the next chunk, float32 of shape `(num_texts, num_labels)`.

        Raises:
            TypeError: If a single string is given in the place of several.
            ValueError: If `batch_size` is below 1.
        """
        yield from self._chunks(self._probabilities, self.model.num_labels, texts, batch_size)

    def _probabilities(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self._activate(self.model.score(input_ids, attention_mask)[0].float())

    def _vectors(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self.model.score(input_ids, attention_mask)[1]

    def _normalized_vectors(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return F.normalize(self._vectors(input_ids, attention_mask).float(), dim=-1)

    def _rows(
        self, compute: BatchFunction, size: int, texts: str | Iterable[str], batch_size: int, show_progress: bool
    ) -> np.ndarray:
        """Return the answer to a single string, or those to all texts as one array."""
        if isinstance(texts, str):
            # a single text is too little to be shared out
            with num_threads(1):
                (row,) = self._run(compute, *self._encode([texts]))
            return np.asarray(row)
        chunks = _with_progress(self._chunks(compute, size, texts, batch_size), texts, show_progress)
        return np.concatenate([np.empty((0, size), dtype=np.float32), *chunks])

    def _chunks(
        self, compute: BatchFunction, size: int, texts: Iterable[str], batch_size: int
    ) -> Iterator[np.ndarray]:
        """Yield the answers to a stream of texts, in order, float32 of shape `(num_texts, size)`."""
        if isinstance(texts, str):
            raise TypeError("`texts` must be an iterable of strings, got one string. Pass `[text]`.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        stream = iter(texts)
        chunk = list(islice(stream, CHUNK_SIZE))
        num_workers = torch.get_num_threads()
        if len(chunk) <= batch_size or num_workers == 1 or self.model.device.type != "cpu":
            while chunk:
                answers = np.empty((len(chunk), size), dtype=np.float32)
                for rows, *arrays in self._tasks(chunk, batch_size):
                    answers[rows] = self._run(compute, *arrays)[: len(rows)]
                yield answers
                chunk = list(islice(stream, CHUNK_SIZE))
            return
        with one_thread_each(num_workers) as pool:
            waiting: list[tuple[np.ndarray, list[tuple[np.ndarray, Future[np.ndarray]]]]] = []
            while chunk or waiting:
                if chunk:
                    # the next chunk is tokenized while the last one is in the model
                    tasks = self._tasks(chunk, batch_size)
                    futures = [(rows, pool.submit(self._run, compute, *arrays)) for rows, *arrays in tasks]
                    waiting.append((np.empty((len(chunk), size), dtype=np.float32), futures))
                    chunk = list(islice(stream, CHUNK_SIZE))
                if len(waiting) > 1 or not chunk:
                    answers, futures = waiting.pop(0)
                    for rows, future in futures:
                        answers[rows] = future.result()[: len(rows)]
                    yield answers

    def _tasks(self, texts: list[str], batch_size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return batches of texts of like length, as rows, tokens and lengths.

        oneDNN prepares itself for every shape it meets, which takes about a fifth of the time of a batch, and keeps
        what it has prepared. So batches have few sizes: some texts go in twice, and the last answers are left out.
        """
        tokens, lengths = self._encode(texts)
        ends = lengths.cumsum()
        order = np.argsort(-lengths, kind="stable")
        unit = max(1, batch_size // UNITS_IN_A_BATCH)
        tasks = []
        for rows in batches_of_like_length(order, lengths, batch_size):
            filled = np.resize(rows, -(-len(rows) // unit) * unit) if len(rows) > unit / 2 else rows
            places = zip((ends[filled] - lengths[filled]).tolist(), ends[filled].tolist(), strict=True)
            tasks.append((rows, np.concatenate([tokens[first:last] for first, last in places]), lengths[filled]))
        return tasks

    @torch.inference_mode()
    def _run(self, compute: BatchFunction, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the answers to one batch."""
        # `model.device` would list all weights to find one
        device, attention_mask = self.model.model.embed_tokens.weight.device, None
        longest = int(lengths.max())
        if longest > 0 and longest == lengths.min():
            input_ids = torch.from_numpy(tokens.reshape(len(lengths), longest)).to(device)
        else:
            input_ids, attention_mask = (tensor.to(device) for tensor in pad(tokens, lengths, self.pad_token_id))
        answers: np.ndarray = compute(input_ids, attention_mask).float().cpu().numpy()
        return answers


def _commit_of(name: str, revision: str, cache_dir: str | Path | None) -> str:
    """Return the commit that a branch or tag stood at when a model was loaded from the Hub."""
    config = try_to_load_from_cache(name, CONFIG_NAME, cache_dir=cache_dir, revision=revision)
    return Path(config).parent.name if isinstance(config, str) else revision


def _with_progress(chunks: Iterator[np.ndarray], texts: Iterable[str], show_progress: bool) -> Iterator[np.ndarray]:
    total = len(texts) if isinstance(texts, Sequence) else None
    bar = tqdm(total=total, unit="text", delay=SECONDS_BEFORE_PROGRESS, disable=not show_progress)
    with bar:
        for chunk in chunks:
            bar.update(len(chunk))
            yield chunk


def batches_of_like_length(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield texts in batches, most of them without any padding.

    Texts of one length have batches of their own, in whole quarters of `batch_size`. Fewer than half a quarter go with
    such texts of other lengths; more count as a quarter.

    Args:
        order: The texts sorted by length. Shape `(num_texts,)`.
        lengths: Number of tokens of each text. Shape `(num_texts,)`.
        batch_size: Most texts in a batch.

    Example:
        >>> lengths = np.array([5, 5, 5, 5, 5, 3, 2, 1])
        >>> [batch.tolist() for batch in batches_of_like_length(np.arange(8), lengths, batch_size=16)]
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    unit = max(1, batch_size // UNITS_IN_A_BATCH)
    others = [order[:0]]
    for texts in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        rest = len(texts) % unit
        num_alone = len(texts) - (rest if rest < unit / 2 else 0)
        for start in range(0, num_alone, batch_size):
            yield texts[start : min(start + batch_size, num_alone)]
        others.append(texts[num_alone:])
    mixed = np.concatenate(others)
    for start in range(0, len(mixed), unit):
        yield mixed[start : start + unit]


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Let torch compute on so many threads, and put its setting, which is the whole process's, back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each(num_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool whose workers compute on one thread each: batches side by side are faster than one after another."""
    with num_threads(1), ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool
