"""From a dataset on the Hub, in a folder or in files to texts and labels.

Texts stay in Arrow files that are memory mapped, so that memory does not grow with the dataset.
"""

import glob
import html
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
    load_dataset,
)
from datasets.exceptions import DatasetNotFoundError
from datasets.fingerprint import Hasher
from huggingface_hub import constants, get_session

from rnn_hf.configuration_rnn import ProblemType

from .demo_news import load_demo_news
from .labels import (
    check_numbers,
    class_ids,
    column_of,
    convert_labels,
    item_of,
    label_feature,
    listed,
    multi_hot_width,
    recognize_problem_type,
)
from .memory import MappedPages

DEFAULT_DATASET = "fancyzhx/ag_news"
DEMO_DATASET = "demo"
SPLITS = ("train", "validation", "test")

_VALIDATION_ALIASES = ("validation", "valid", "val", "dev")

# pandas would read the words "NA", "null" and "None" as missing; only an empty field is.
_CSV = {"keep_default_na": False, "na_values": [""]}
# Tab-separated values know no quoting (3 is `csv.QUOTE_NONE`): a stray quote must not swallow the lines after it.
_READERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", {**_CSV, "sep": "\t", "quoting": 3}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".parquet": ("parquet", {}),
}

# Names that no English sentence ends a word with, so that they are entities even where the ampersand is lost.
_ENTITY = re.compile(
    r"&(#?\w+;)|(#\d+;|\b(?:quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash|[a-z](?:acute|grave|uml|cedil|tilde));)"
)
_APOSTROPHE = re.compile(r" +(?:#39|#8217|rsquo);(?=(?:s|t|re|ve|ll|d|m)\b|(?!\w))", re.IGNORECASE)
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def clean_text(text: str) -> str:
    r"""Return the text without the remains of HTML and of escapes that AG News carries.

    AG News lost the ampersands of its entities (a blank stands in their place) and has backslashes for line ends.
    Entities become their characters, tags are dropped, backslashes and runs of white space become one blank.

    Example:
        >>> clean_text("Oil at  #36;46.75, up on yesterday #39;s close. &lt;b&gt;Reuters&lt;/b&gt;")
        "Oil at $46.75, up on yesterday's close. Reuters"
        >>> clean_text(r"A second\team grabs \$1B of AT amp;T")
        'A second team grabs $1B of AT&T'
    """
    text = re.sub(r"\\+(?=\$)", "", text).replace("\\", " ")
    text = re.sub(r"(?<=[A-Z]) amp;(?=[A-Z])", "&", _APOSTROPHE.sub("'", text))
    text = _ENTITY.sub(lambda match: html.unescape("&" + (match[1] or match[2])), text)
    return " ".join(_TAG.sub(" ", text).split())


def load_text_dataset(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    *,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    text_column_names: Sequence[str] | None = None,
    label_column_name: str = "label",
    label_names: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    splits: Sequence[str] | None = None,
    validation_size: float = 0.05,
    seed: int = 42,
    clean_text: bool = False,
    max_train_samples: int | None = None,
) -> DatasetDict:
    """Load a dataset as the columns `text` and `label`: one class a text, several, or numbers.

    Where there is no validation split, one is cut from the training rows. With one class a text it is stratified: at
    least one row of each class that has two or more; a class of one row stays in training. The cut and the sample
    depend on `seed` alone.

    Args:
        dataset_name: Id on the Hugging Face Hub, folder in the Hub's layout, or `"demo"` (generated, needs no
            network). `DEFAULT_DATASET` if neither a name nor a file is given.
        dataset_config_name: Configuration of the dataset, where it has several.
        train_file: Training rows in a file: `.csv`, `.tsv` (unquoted), `.jsonl`, `.json` or `.parquet`.
        validation_file: Validation rows, likewise.
        test_file: Test rows, likewise.
        text_column_names: Columns that make up the text, joined by one blank; a missing value counts as an empty
            text. Defaults to `text`, or else to the only column of strings.
        label_column_name: Column of the labels: a `ClassLabel`, strings, integers or booleans for one class a text;
            lists of them for several, where integers of 0 and 1, as many in each row, stand for all classes in turn;
            floating-point numbers for a regression, lists of them for one with several targets.
        label_names: Classes in the order of their ids, such as those of a loaded model. Labels are matched by name;
            where none matches and all are numbers, they are taken for ids. Defaults to the classes of the training
            split: the names of its `ClassLabel`, or else its labels, sorted. A regression does not ask for them.
        problem_type: What the labels ask for, such as a regression on integers. Defaults to what their type says.
        splits: Which of `"train"`, `"validation"` and `"test"` to return. Defaults to those there are.
        validation_size: Share of the training rows that becomes the validation split, where there is none; 0: none.
        seed: Seed of the cut and of the sample.
        clean_text: Whether to pass the texts through `clean_text`.
        max_train_samples: Size of a random sample of the training rows, drawn after the cut. Defaults to all.

    Returns:
        The splits that are present, each with the columns `text` (string) and `label`: a `ClassLabel`, a list of it,
        a float32, or a list of as many float32.

    Raises:
        FileNotFoundError: If the dataset or a file does not exist.
        ConnectionError: If the Hub does not answer and the dataset is not in the cache.
        ValueError: If an argument, a file, a column or a label is not as described above.

    Example:
        >>> load_text_dataset("demo")["train"].features["label"].names
        ['World', 'Sports', 'Business', 'Sci/Tech']
    """
    for split in splits or ():
        if split not in SPLITS:
            raise ValueError(f'`splits` must be of {listed(SPLITS)}, got "{split}".')
    if not 0 <= validation_size < 1:
        raise ValueError(f"`validation_size` must be at least 0 and below 1, got {validation_size}.")
    if max_train_samples is not None and max_train_samples < 1:
        raise ValueError(f"`max_train_samples` must be at least 1, got {max_train_samples}.")
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    found = find_splits(dataset_name, dataset_config_name, files)

    cut = validation_size > 0 and "validation" not in found and "train" in found
    available = [split for split in SPLITS if split in found or (cut and split == "validation")]
    for split in splits or ():
        if split not in available:
            raise ValueError(f'The dataset has no "{split}" split. Choose from {listed(available)}.')
    wanted = [split for split in available if splits is None or split in splits]
    needed = [split for split in found if split in wanted or (cut and split == "train" and "validation" in wanted)]

    columns = TextColumns.of(
        {split: found[split] for split in (["train"] if "train" in found else needed)},
        text_column_names,
        label_column_name,
        label_names,
        problem_type,
        clean_text,
    )
    result = {split: columns.read(found[split], split) for split in needed}
    if cut and "train" in needed:
        result["train"], result["validation"] = _cut_validation(result["train"], validation_size, seed)
    if max_train_samples is not None and max_train_samples < len(result.get("train", ())):
        sample = np.random.default_rng(seed).permutation(len(result["train"]))[:max_train_samples]
        result["train"] = result["train"].select(np.sort(sample))
    return DatasetDict({split: result[split] for split in wanted})


def find_splits(
    dataset_name: str | None,
    dataset_config_name: str | None,
    files: Mapping[str, str | Path | None],
    *,
    streaming: bool = False,
) -> dict[str, Any]:
    """Return the splits there are, as they lie in their files.

    Args:
        dataset_name: As in `load_text_dataset`.
        dataset_config_name: As there.
        files: File of each split, where one was given.
        streaming: Whether to open them as `IterableDataset` rather than read them.
    """
    given = {split: Path(file).expanduser() for split, file in files.items() if file is not None}
    if given and dataset_name is not None:
        raise ValueError(f'`dataset_name` is "{dataset_name}" but files are given, too. Pass one or the other.')
    if given:
        return {split: _read_file(split, path, streaming) for split, path in given.items()}
    loaded = _load_named(DEFAULT_DATASET if dataset_name is None else dataset_name, dataset_config_name, streaming)
    names = {split: _VALIDATION_ALIASES if split == "validation" else (split,) for split in SPLITS}
    found = {split: loaded[name] for split in SPLITS for name in reversed(names[split]) if name in loaded}
    if not found:
        raise ValueError(f"The dataset must have a split of {listed(SPLITS)}, got {listed(loaded)}.")
    return found


@dataclass(frozen=True)
class TextColumns:
    """Which columns texts and labels lie in, and what they become: `text` and `label`.

    Args:
        text_column_names: As in `load_text_dataset`.
        label_column_name: As there.
        problem_type: What the labels ask for.
        label: Feature of the column `label`.
        is_multi_hot: Whether rows hold 0 or 1 for each class.
        ids_allowed: Whether numbers may stand for classes that have names.
        clean_text: Whether to pass the texts through `clean_text`.
    """

    text_column_names: Sequence[str] | None
    label_column_name: str
    problem_type: ProblemType
    label: ClassLabel | List | Value
    is_multi_hot: bool
    ids_allowed: bool
    clean_text: bool

    @classmethod
    def of(
        cls,
        reference: Mapping[str, Dataset],
        text_column_names: Sequence[str] | None,
        label_column_name: str,
        label_names: Sequence[str] | None,
        problem_type: ProblemType | None,
        clean_text: bool,
    ) -> "TextColumns":
        """Return what the labels of some splits, which are all there are, become."""
        problem = problem_type or recognize_problem_type(reference, label_column_name)
        label = label_feature(reference, label_column_name, problem, label_names)
        features = [item_of(rows.features[label_column_name]) for rows in reference.values()]
        return cls(
            text_column_names=text_column_names,
            label_column_name=label_column_name,
            problem_type=problem,
            label=label,
            is_multi_hot=multi_hot_width(reference, label_column_name, problem, label_names) is not None,
            ids_allowed=label_names is not None or all(isinstance(feature, ClassLabel) for feature in features),
            clean_text=clean_text,
        )

    def read(self, rows: Dataset, split: str) -> Dataset:
        """Return the columns `text` and `label` of some rows, checked.

        Args:
            rows: As they lie in their file.
            split: What they are called in the message of an error.
        """
        column = self.label_column_name
        texts = text_columns_of(rows, self.text_column_names, column)
        ids = None
        if self.problem_type == "regression" or self.is_multi_hot:
            width = len(item_of(self.label).names) if self.is_multi_hot else getattr(self.label, "length", None)
            check_numbers(rows, column, split, self.problem_type, width)
        else:
            names = item_of(self.label).names
            ids = class_ids(rows, column, split, self.problem_type, names, ids_allowed=self.ids_allowed)
        return _text_and_label(rows, texts, column, self.problem_type, ids, self.label, self.clean_text)


def reason_of(error: BaseException) -> str:
    """Return in one line what lies under an error of `datasets`."""
    return (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]


def _read_file(split: str, path: Path, streaming: bool) -> Dataset | IterableDataset:
    """Return the rows of one file."""
    flag = f"`--{split}_file`"
    if path.is_dir():
        raise ValueError(f"{flag} must be a file, got the directory {path}. Pass a directory as `--dataset_name`.")
    if not path.exists():
        raise FileNotFoundError(f"{flag} must be a file, but there is none at {path}. Check the path.")
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{flag} must end in {listed(_READERS)}, got {path}. Convert the file or rename it.")
    if os.path.expandvars(path.absolute()) != str(path.absolute()):
        raise ValueError(f"{flag} must not have the name of a variable in it, got {path}. Rename the file.")
    reader, options = _READERS[path.suffix.lower()]
    try:
        files = {split: glob.escape(str(path.absolute()))}
        return load_dataset(reader, data_files=files, split=split, streaming=streaming, **options)
    except Exception as error:
        if "corresponds to no data" in reason_of(error):
            raise ValueError(f"{flag} must have rows, got none in {path}. Pass another file.") from error
        raise ValueError(
            f"{flag} must hold rows in the format {path.suffix}, got {path} ({reason_of(error)}). Mend the file."
        ) from error


def _load_named(name: str, config: str | None, streaming: bool) -> DatasetDict | IterableDatasetDict:
    """Return the splits of a dataset on the Hub, in a folder, or of the demo."""
    if name == DEMO_DATASET:
        return load_demo_news()
    expected = f'`--dataset_name` must be a folder, an id on the Hugging Face Hub or "{DEMO_DATASET}"'
    path = Path(name).expanduser()
    if path.is_file():
        raise ValueError(f"{expected}, got the file {path}. Pass files as `--train_file` and `--test_file`.")
    if path.is_dir():
        name = str(path)
    elif not _HUB_ID.fullmatch(name):
        raise FileNotFoundError(f"{expected}, but there is no folder {name}. Check the path.")
    unreachable = None if path.is_dir() else _hub_failure()
    try:
        with _offline(unreachable is not None):
            return load_dataset(name, config, streaming=streaming)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f'{expected}, got "{name}" ({reason_of(error)}). Check the name.') from error
    except Exception as error:
        if unreachable or isinstance(error, ConnectionError):
            raise ConnectionError(
                f'The Hugging Face Hub must be reachable for "{name}", which is neither a local folder nor cached, '
                f"but it is not ({reason_of(unreachable or error)}). Pass a local folder, or "
                f"`--dataset_name {DEMO_DATASET}`."
            ) from error
        configs = _configs_to_choose_from(name, config)
        if configs:
            raise ValueError(
                f'`--dataset_config_name` must be one of {listed(configs)} for "{name}", got {config}. Choose one.'
            ) from error
        raise ValueError(f'"{name}" could not be read as a dataset ({reason_of(error)}). Mend its files.') from error


def _configs_to_choose_from(name: str, config: str | None) -> list[str]:
    """Return the configurations of a dataset if `config` is none of them."""
    try:
        configs = datasets.get_dataset_config_names(name)
        chosen = config or datasets.get_dataset_default_config_name(name)
    except Exception:
        return []
    return [] if chosen in configs else configs


def _hub_failure() -> Exception | None:
    """Return why the Hub cannot be reached, found in one request; `datasets` would try for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # which classes these are depends on the HTTP client of huggingface_hub
        return error
    return None


@contextmanager
def _offline(enabled: bool) -> Iterator[None]:
    """Let `datasets` look into its cache only."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or enabled
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def text_columns_of(
    dataset: Dataset, wanted: Sequence[str] | None = None, label_column: str | None = None
) -> list[str]:
    """Return the columns that make up the text, checked.

    Args:
        dataset: Rows; only their types are looked at.
        wanted: The columns. Defaults to `text`, or else to the only column of strings.
        label_column: A column that is none of them.

    Raises:
        ValueError: If a column is missing or does not hold strings, or none is the one by default.
    """
    others = [name for name in dataset.column_names if name != label_column]
    if wanted is None:
        strings = [name for name in others if dataset.features[name] in (Value("string"), Value("large_string"))]
        wanted = ["text"] if "text" in others else strings
        if len(wanted) != 1:
            raise ValueError(
                f'The dataset has no column "text" and {len(strings)} other columns of strings '
                f"(columns: {listed(dataset.column_names)}). Pass `--text_column_names`."
            )
    for name in wanted:
        if name not in others:
            problem = "is the label" if name == label_column else "is not in the dataset"
            raise ValueError(
                f'Text column "{name}" {problem} (columns: {listed(dataset.column_names)}). '
                "Pass other `--text_column_names`."
            )
        if not isinstance(dataset.features[name], Value):
            raise ValueError(f'Text column "{name}" must hold strings, got {dataset.features[name]}.')
    return list(wanted)


def _text_and_label(
    dataset: Dataset,
    text_columns: list[str],
    label_column: str,
    problem_type: ProblemType,
    ids: dict[Any, int] | None,
    label: ClassLabel | List | Value,
    clean: bool,
) -> Dataset:
    """Return the columns `text` and `label`, written anew only where they differ from those that are there."""
    features = Features(text=Value("string"), label=label)
    first = text_columns[0]
    as_they_are = len(text_columns) == 1 and not clean and dataset.features[first] == features["text"]
    if (
        as_they_are
        and dataset.features[label_column] == features["label"]
        and not column_of(dataset, first).null_count
    ):
        return dataset.select_columns([first, label_column]).rename_columns({first: "text", label_column: "label"})
    settings = {
        "text_columns": text_columns,
        "label_column": label_column,
        "problem_type": problem_type,
        "ids": ids,
        "clean": clean,
    }
    return (
        dataset.with_format("arrow")
        .map(
            _convert,
            batched=True,
            remove_columns=dataset.column_names,
            features=features,
            fn_kwargs={**settings, "pages": MappedPages(dataset)},
            # where the pages lie is nothing that the texts depend on
            new_fingerprint=Hasher.hash([dataset._fingerprint, _convert, clean_text, settings, label]),
            desc="Preparing texts",
        )
        .with_format(None)
    )


def joined_texts(table: pa.Table, text_columns: Sequence[str]) -> pa.ChunkedArray:
    """Return the text of each row: its columns joined by one blank, a missing value as an empty one.

    Example:
        >>> joined_texts(pa.table({"title": ["Oil", None], "body": ["rose", "fell"]}), ["title", "body"]).to_pylist()
        ['Oil rose', ' fell']
    """
    texts = [pc.fill_null(pc.cast(table[name], pa.string()), "") for name in text_columns]
    return pc.binary_join_element_wise(*texts, " ")


def _convert(
    table: pa.Table,
    text_columns: list[str],
    label_column: str,
    problem_type: ProblemType,
    ids: dict[Any, int] | None,
    clean: bool,
    pages: MappedPages,
) -> pa.Table:
    """Return `text` and `label` of a batch of rows, copies that need the pages of the batch no longer."""
    text = joined_texts(table, text_columns)
    if clean:
        text = pa.array([clean_text(text) for text in text.to_pylist()], type=pa.string())
    label = convert_labels(table[label_column], problem_type, ids)
    pages.release()
    return pa.table({"text": text, "label": label})


def _cut_validation(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return the rows that stay in training and those that are held out, both in their old order."""
    labels = np.zeros(len(dataset), dtype=np.int64)
    if isinstance(dataset.features["label"], ClassLabel):
        labels = column_of(dataset, "label").to_numpy()
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = shuffled[labels[shuffled] == label]
        held_out[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    if not held_out.any():
        raise ValueError(
            'A class must have two rows to be cut into training and validation, got one row of each in "train". '
            "Pass `--validation_file` or `--validation_size 0`."
        )
    return dataset.select(np.flatnonzero(~held_out)), dataset.select(np.flatnonzero(held_out))
