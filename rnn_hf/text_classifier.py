"""From texts to labels and probabilities, with a trained or saved model."""

import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .configuration_rnn import RNNConfig
from .data.tokenizing import fast_encoder, prepared_backend
from .errors import missing_extra
from .explanations import Explanation, ExplanationMethod
from .files import expand_home
from .inference import ACTIVATIONS, BatchedInference, check_belong_together, fingerprint
from .modeling_rnn import RNNForSequenceClassification
from .progress import silenced
from .random_states import kept_random_states
from .safe_loading import commit_of, folder_or_id, load_classifier
from .text_predictor import TextPredictor
from .threads import in_new_thread


class TextClassifier(TextPredictor):
    """A model of this package with its tokenizer: strings in; labels, probabilities or embeddings out; fast.

    `train` makes one from texts and labels, `from_pretrained` loads one. Texts of similar length are batched, and on
    a CPU, each of torch's threads runs a batch. Threads may share a classifier, and a process may fork after use.

    A classifier from `from_pretrained` is pickled as its source and loaded from there again: no weights are sent to
    another process, and later changes to the model are neither in the pickle nor in a copy by `copy.deepcopy`. Any
    other classifier is pickled with its weights.

    Args:
        model: The classifier.
        tokenizer: The tokenizer it was trained with.

    Attributes:
        results: Results of training, as in `all_results.json`, such as `results["validation_accuracy"]`; empty unless
            `train` made the classifier.
        recipe: All arguments of that training, by name; also empty otherwise.

    Raises:
        TypeError: If the model is not one of this package, or has PEFT adapters.
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
        check_belong_together(model, tokenizer)
        self.model: RNNForSequenceClassification = model.eval()  # type: ignore[no-untyped-call]  # transformers' own
        self.tokenizer = tokenizer
        self.results: dict[str, Any] = {}
        self.recipe: dict[str, Any] = {}
        self._activate = ACTIVATIONS[self.problem_type]
        encode, self._tokenizer_identity = fast_encoder(tokenizer, self.max_length)
        self._inference = BatchedInference(self.model, encode, self.pad_token_id)
        self._place: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._place is None:
            return type(self), (self.model, self.tokenizer), {"results": self.results, "recipe": self.recipe}
        return _load_again, (self._place, self._fingerprint())

    def _fingerprint(self) -> str:
        return fingerprint(self.model, self._tokenizer_identity)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        show_progress: bool = True,
        **settings: Any,
    ) -> "TextClassifier":
        """Train a new classifier on texts and labels.

        Needs `pip install "rnn-hf[train]"`. The random states, threads and signals of the process are left as they
        were. Trainings in several threads take turns; other threads should draw no random numbers meanwhile.

        Args:
            texts: Strings: a list, an array, or a column of a data frame or a dataset.
            labels: As many labels. Strings, integers or booleans: one class per text; lists of strings or of integers:
                any number of classes; floating-point numbers, or lists of them: a regression. Integers are predicted
                as `int`, other classes as `str`.
            validation: Texts and labels to choose the best weights on. Defaults to a tenth of the rows, or 2,000 of
                more than 20,000 (`validation_size` is another share), held out with equal shares of the classes; a
                class with a single row stays in training.
            show_progress: Whether to print lines and show progress bars.
            settings: Arguments of `rnn-hf train`, by name, such as `hidden_size=64`, `tune_minutes=10`,
                `class_weights="balanced"`, `seed=1`; `model_name_or_path` continues from a saved model. With
                `output_dir`, the model, its results and its card are written there; without it, nothing is written.

        Raises:
            ImportError: If a package that training needs is missing.
            TypeError: If an argument is unknown, or a value has the wrong type.
            ValueError: If a value is missing or out of its domain, or there are fewer than two classes.

        Example:
            >>> texts, labels = ["a good film", "a bad film"] * 20, ["good", "bad"] * 20
            >>> settings = {"hidden_size": 8, "num_train_epochs": 20, "word_dropout": 0.0}
            >>> classifier = TextClassifier.train(texts, labels, show_progress=False, **settings)
            >>> classifier.predict("a good film"), classifier.results["validation_accuracy"]
            ('good', 1.0)
        """
        with kept_random_states():  # some packages draw random numbers on import
            try:
                from .reporting.results import write_results
                from .training.from_lists import train_on_lists
            except ModuleNotFoundError as error:
                raise missing_extra("TextClassifier.train", error) from error
        with silenced(not show_progress):
            model, tokenizer, results, recipe = train_on_lists(texts, labels, validation, settings)
            if recipe["output_dir"] is not None:
                write_results(model, tokenizer, results, recipe, Path(recipe["output_dir"]))
        classifier = cls(model, tokenizer)
        classifier.results, classifier.recipe = results, recipe
        return classifier

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
        backend: Literal["torch", "onnx"] = "torch",
    ) -> "TextClassifier":
        """Load a classifier from a folder or the Hub; only safetensors or ONNX are read, and no code is run.

        Args:
            name_or_path: Folder or `owner/name`.
            revision: Branch, tag or commit on the Hub.
            token: Access token of the Hub. It is not pickled: the process that unpickles needs its own login.
            cache_dir: Folder for downloads.
            local_files_only: Whether to use only the cache.
            device: Device of the model; the CPU by default.
            dtype: Floating-point type of the weights, of torch or by name, whatever type they are saved in.
            backend: What computes: `"torch"`, or `"onnx"` for onnxruntime, which answers single texts in less time and
                can only predict, evaluate, and explain by leave-one-out. It needs `pip install "rnn-hf[onnx]"` and a
                model that `export_onnx` has exported.

        Raises:
            FileNotFoundError: If the folder does not exist, or there is no export for `"onnx"`.
            ImportError: If the package of the backend is missing.
            ValueError: If the folder or repository has no model of this package, or a damaged one, or the type is not
                floating-point.
        """
        hub: dict[str, Any] = {
            "revision": revision or "main",
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        name = folder_or_id(name_or_path)
        if backend == "onnx":
            from .onnx_backend import load_onnx_classifier

            classifier: TextClassifier = load_onnx_classifier(name, device, dtype, **hub)
        elif backend == "torch":
            # in a thread that also works in a forked process
            model, tokenizer = in_new_thread(load_classifier, name, dtype, **hub)
            classifier = cls(model if device is None else model.to(device), tokenizer)  # type: ignore[arg-type]
        else:
            raise ValueError(f"`backend` must be 'torch' or 'onnx', got {backend!r:.40}.")
        is_folder = Path(name).is_dir()
        # another process may have another working directory, and the branch may have moved by then
        classifier._place = {
            "name_or_path": str(Path(name).absolute()) if is_folder else name,
            "revision": revision if is_folder else commit_of(name, revision or "main", cache_dir),
            "token": token if isinstance(token, bool) else None,
            "cache_dir": None if cache_dir is None else Path(cache_dir).absolute(),
            "local_files_only": local_files_only,
            "device": device,
            "dtype": dtype,
            "backend": backend,
        }
        return classifier

    @property
    def config(self) -> RNNConfig:
        """Configuration of the model."""
        return self.model.config

    @cached_property
    def offset_tokenizer(self) -> Tokenizer:
        """The tokenizer's backend, which knows where in a text its tokens are; truncates as `max_length` says.

        Raises:
            TypeError: If the tokenizer has no fast backend.
        """
        backend = prepared_backend(self.tokenizer, self.max_length)
        if backend is None:
            raise TypeError(
                f"`explain` needs a fast tokenizer, got `{type(self.tokenizer).__name__}`. Save it with its "
                "`tokenizer.json`."
            )
        return backend

    @overload
    def explain(  # type: ignore[overload-overlap]  # a string is an iterable of strings
        self,
        texts: str,
        label: Any = ...,
        method: ExplanationMethod = ...,
        num_steps: int = ...,
        batch_size: int = ...,
        show_progress: bool = ...,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        texts: Iterable[str],
        label: Any = ...,
        method: ExplanationMethod = ...,
        num_steps: int = ...,
        batch_size: int = ...,
        show_progress: bool = ...,
    ) -> list[Explanation]: ...
    def explain(
        self,
        texts: str | Iterable[str],
        label: Any = None,
        method: ExplanationMethod = "leave_one_out",
        num_steps: int = 256,
        batch_size: int = 256,
        show_progress: bool = True,
    ) -> Explanation | list[Explanation]:
        """Return how much each word of a text raises or lowers the score of a label.

        A word is what stands between spaces, punctuation included; in scripts without spaces, such as Chinese, it is a
        token. Words that the model does not read, such as those after `max_length` tokens, contribute 0.

        - `"leave_one_out"` (Li et al., 2016): the probability of the label minus its probability without the word. It
          says what the answer would be without that word. All contributions are small if the probability is close to
          0 or 1, and so are those of words of which one is enough.
        - `"integrated_gradients"` (Sundararajan et al., 2017): the logit of the label, after calibration, divided
          among the words: `baseline`, the logit for as many zero vectors, plus all contributions is the logit. It
          neither saturates nor overlooks redundant words, but says nothing about removing a word, which moves the
          others together. The network is integrated over its word vectors. The n-gram branch has exact
          contributions, and those of a word pair are divided equally between its words.

        Probabilities are what users see, so the first method explains them; logits can be added up, so the second one
        explains those. With the first, a text of `n` words takes as long as `n` predictions; with the second, as about
        40 training steps with this text alone.

        Args:
            texts: One string, or any iterable of strings.
            label: The label to explain, or the target of a regression. Default: the most probable label of each text.
            method: The method. A regression is explained in the unit of its target.
            num_steps: For `"integrated_gradients"`, the maximum number of gradients per text, at least 3. There are as
                many as needed for contributions that add up within 1 %: about 40, and rarely more than 100.
            batch_size: As in `predict`, for `"leave_one_out"`.
            show_progress: As in `predict`.

        Returns:
            One explanation for a single string, otherwise a list of explanations, in order.

        Raises:
            TypeError: If a text is not a string, or the tokenizer has no fast backend.
            ValueError: If the label or the method is unknown, or there are several targets and none is named.

        Example:
            >>> classifier = TextClassifier.from_pretrained("model_cards/ag-news")
            >>> explanation = classifier.explain("The striker scored twice.")
            >>> explanation.label, explanation.words[np.argmax(explanation.contributions)]
            ('Sports', 'striker')
        """
        from .word_contributions import explain

        return explain(self, texts, label, method, num_steps, batch_size, show_progress)

    def encode(
        self,
        texts: str | Iterable[str],
        batch_size: int = 256,
        show_progress: bool = True,
        normalize_embeddings: bool = False,
    ) -> np.ndarray:
        """Return the embedding of each text, in order, as the classifier uses it: for search, clustering, neighbours.

        Texts of one class are close together, and information that the classes do not need may be lost.

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
        vectors = self._unit_vectors if normalize_embeddings else self._vectors
        return self._inference.rows(vectors, self.model.classifier.in_features, texts, batch_size, show_progress)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Save the model, its tokenizer, the code for loading it elsewhere, and its card.

        If `train` made the classifier, its recipe and results are saved, too.

        Args:
            save_directory: Folder for the files; other files in it are kept, except in `figures/`.
        """
        folder = Path(expand_home(save_directory))
        if not str(save_directory) or (folder.exists() and not folder.is_dir()):
            raise ValueError(f"`save_directory` must be a folder, got {str(save_directory)!r}. Pass another one.")
        self._save(folder, None)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, revision: str | None = None, commit_message: str | None = None
    ) -> str:
        """Push the classifier and a new card to the Hub in one commit, and return the address of the commit.

        Args:
            repo_id: `owner/name`; the repository is created if it does not exist.
            private: Whether a new repository is private. An existing public repository is then rejected.
            revision: Branch to commit to, created from `main` if it does not exist. Default: `main`.
            commit_message: Commit message.

        Raises:
            ValueError: If the name or the access token is not valid, or the Hub rejects the commit.
            ConnectionError: If the Hub does not answer.
        """
        from .hub import check_hub_access, push_folder

        check_hub_access(repo_id)
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder), repo_id)
            return push_folder(folder, repo_id, private=private, revision=revision, commit_message=commit_message)

    def export_onnx(self, folder: str | Path) -> None:
        """Export the classifier as ONNX, for onnxruntime and transformers.js. Needs `pip install "rnn-hf[onnx]"`.

        Args:
            folder: Folder of the model; the graphs are written into `onnx/` there, and the configuration and the
                tokenizer beside it if they are missing.

        Raises:
            ImportError: If a package is missing.
            ValueError: If the tokenizer has no `tokenizer.json`, or a subclass of the model computes something else.
        """
        try:
            from .onnx_export import export_onnx
        except ModuleNotFoundError as error:
            raise missing_extra("TextClassifier.export_onnx", error, "onnx") from error
        export_onnx(self.model, self.tokenizer, Path(expand_home(folder)))

    def _save(self, folder: Path, name: str | None) -> None:
        if self.recipe:
            from .reporting.results import write_results

            recipe = self.recipe | {"hub_model_id": name or self.recipe["hub_model_id"]}
            write_results(self.model, self.tokenizer, self.results, recipe, folder)
            return
        from .reporting.short_card import write_with_short_card

        write_with_short_card(self.model, self.tokenizer, folder, name or folder.resolve().name, self.label_names)

    def _logits(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return sum(self.model.classify(input_ids, attention_mask)[0]).float()  # type: ignore[union-attr]  # no number

    def _probabilities(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self._activate(self._logits(input_ids, attention_mask))

    def _vectors(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return self.model.classify(input_ids, attention_mask)[1]

    def _unit_vectors(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return F.normalize(self._vectors(input_ids, attention_mask).float(), dim=-1)


def _load_again(place: dict[str, Any], fingerprint: str) -> TextClassifier:
    # the fingerprint is for caches of pickled objects
    return TextClassifier.from_pretrained(**place)
