"""Teachers: larger classifiers that are loaded, and asked once about every text."""

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from datasets import Dataset, DatasetDict, concatenate_datasets
from datasets.fingerprint import Hasher
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import RNNConfig
from rnn_hf.data.augmentation import noised_copy
from rnn_hf.data.batching import EncodedRows, SortedBatchSampler
from rnn_hf.data.columns import NO_LABEL
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.tokenizing import training_length
from rnn_hf.errors import one_line
from rnn_hf.files import atomic_file
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.progress import say
from rnn_hf.safe_loading import check_model, check_token_ids, folder_or_id, is_finite, read_tokenizer

from .arguments import DistillationArguments, DistillationRunArguments
from .classifier import create_loader
from .distillation import mean_probabilities, teacher_columns
from .metrics import predict_split
from .splits import TextSplits


class Teacher(NamedTuple):
    """A classifier whose predictions the student learns."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    columns: list[int]


def load_teacher(name: str, label_names: Sequence[str], args: DistillationArguments) -> Teacher:
    """Return a classifier of any architecture, with the index of its logit for each class of the dataset.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it is not a complete classifier with its tokenizer and finite weights, for the same classes.
    """
    name = folder_or_id(name)
    config = AutoConfig.from_pretrained(name, trust_remote_code=args.trust_remote_code)
    if isinstance(config, RNNConfig):
        check_model(name, RNNForSequenceClassification)
    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=args.trust_remote_code,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except RuntimeError as error:  # the sizes contradict the configuration
        raise ValueError(
            f"The weights of the teacher {name!r} do not fit its configuration ({one_line(error)}). "
            "Save both together."
        ) from error
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:5])
        raise ValueError(
            f"The teacher {name!r} must be a trained classifier, but it lacks {missing}. Fine-tune it first with "
            "transformers' `Trainer`, as scripts/research/fine_tune_encoder.py does."
        )
    problem_type = model.config.problem_type
    if problem_type not in (None, "single_label_classification"):
        raise ValueError(f"The teacher {name!r} must give one class per text, got the problem {problem_type}.")
    weights = () if isinstance(config, RNNConfig) else model.state_dict().values()  # those were checked before
    if not all(is_finite(weight) for weight in weights if weight.is_floating_point()):
        raise ValueError(f"The weights of the teacher {name!r} must be finite numbers, got NaN or infinity.")
    tokenizer = read_tokenizer(name, trust_remote_code=args.trust_remote_code)
    check_token_ids(tokenizer, len(model.get_input_embeddings().weight))
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # an empty vocabulary that transformers makes up if there is no tokenizer
        raise ValueError(f"The tokenizer of the teacher {name!r} has no words. Save it beside the model.")
    if tokenizer.pad_token_id is None:
        raise ValueError(f"The tokenizer of the teacher {name!r} has no padding token. Add one and save it.")
    labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
    columns, is_guess = teacher_columns(name, labels, label_names)
    if is_guess:
        say(f"{name}: its labels have no names; they are assumed to be in the order {', '.join(label_names)}")
    return Teacher(name, model, tokenizer, columns)


def noised_copies(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, args: DistillationRunArguments
) -> dict[str, Dataset]:
    """Return noised copies of the training rows for one model.

    Args:
        rows: The training rows, with the columns `text` and `label`.
        tokenizer: The tokenizer, whose mask token, or else its unknown word, replaces masked words.
        args: Number and noise of the copies.
    """
    mask_word = tokenizer.mask_token or tokenizer.unk_token or ""
    return {
        f"noised_{number}": noised_copy(
            rows,
            mask_word,
            seed=args.seed,
            number=number,
            mask_probability=args.mask_probability,
            ngram_probability=args.ngram_probability,
        )
        for number in range(args.num_noised_copies)
    }


def encode_noised_copies(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, args: DistillationRunArguments
) -> DatasetDict:
    """Return the noised copies encoded by a model's tokenizer, truncated to `max_length` tokens unless it is `None`.

    The other arguments are those of `noised_copies`.
    """
    # the mask is a special token, not the characters of its name
    encoder = copy.deepcopy(tokenizer)
    encoder.split_special_tokens = False
    return encode_dataset(DatasetDict(noised_copies(rows, encoder, args)), encoder, max_length)


def with_teachers_rows(
    rows: dict[str, Any], splits: TextSplits, tokenizer: PreTrainedTokenizerBase, args: DistillationRunArguments
) -> dict[str, Any]:
    """Return the encoded splits with the rows that only teachers answer among the training rows.

    Args:
        rows: The encoded splits.
        splits: Their texts, and the texts without labels, which follow the training rows.
        tokenizer: The student's tokenizer.
        args: Number and noise of the copies of both, which come last.
    """
    if splits.unlabelled is None and args.num_noised_copies == 0:
        return rows
    with PartialState().main_process_first():
        further = DatasetDict() if splits.unlabelled is None else DatasetDict(unlabelled=splits.unlabelled)
        further = encode_dataset(further, tokenizer, args.max_length)
        copies = encode_noised_copies(splits.texts_to_learn(), tokenizer, args.max_length, args)
    train = concatenate_datasets([rows["train"], *further.values(), *copies.values()])
    train = train.remove_columns("row").add_column("row", np.arange(len(train), dtype=np.int32))
    return {**rows, "train": train}


def with_teachers_labels(rows: Dataset, answers: np.ndarray) -> Dataset:
    """Return encoded rows in which those without a label have the one that the teachers predict.

    Args:
        rows: The training rows of `with_teachers_rows`.
        answers: The teachers' logits. Shape `(num_teachers, num_rows, num_labels)`.
    """
    labels = np.asarray(rows.with_format("numpy")["labels"][:])
    if (labels != NO_LABEL).all():
        return rows
    labels = np.where(labels == NO_LABEL, mean_probabilities(answers).argmax(axis=-1), labels)
    return rows.remove_columns("labels").add_column("labels", labels)


def ask_teacher(
    teacher: Teacher, splits: TextSplits, args: DistillationRunArguments, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return a teacher's logits for the rows of `with_teachers_rows`, and for the test rows.

    Returns:
        `"train"` and, if that split exists, `"test"`. Shape `(num_rows, num_labels)`.
    """
    limits = training_length(teacher.tokenizer), getattr(teacher.model.config, "max_position_embeddings", None)
    max_length = min(filter(None, limits), default=None)
    with PartialState().main_process_first():
        test = {"test": splits.others["test"]} if "test" in splits.others else {}
        further = {} if splits.unlabelled is None else {"unlabelled": splits.unlabelled}
        rows = encode_dataset(DatasetDict(train=splits.train, **further, **test), teacher.tokenizer, max_length)
        copies = encode_noised_copies(splits.texts_to_learn(), teacher.tokenizer, max_length, args)
    model, weights = teacher.model.to(accelerator.device), weights_digest(teacher.model)
    batch_size = args.per_device_teacher_batch_size * accelerator.num_processes

    def answers(split: Dataset) -> np.ndarray:
        # `datasets` keeps rows in a file until its cache is cleared; the logits for them are kept beside it
        places = [Path(file["filename"]).parent for file in split.cache_files[:1]]
        # `_fingerprint` is private, but the only digest of the rows
        files = [folder / f"teacher-{Hasher.hash([split._fingerprint, weights])}.npy" for folder in places]
        # on several machines with separate caches, either all have them or all compute them
        if files and all(gather_object([files[0].exists()])):
            return np.asarray(np.load(files[0]))
        encoded = EncodedRows(split)
        sampler = SortedBatchSampler(encoded.lengths, batch_size)
        loader = create_loader(encoded, sampler, teacher.tokenizer.pad_token_id, 0, accelerator)
        logits, _ = predict_split(model, loader, accelerator, f"Asking {teacher.name}")
        if files and accelerator.is_local_main_process:
            with atomic_file(files[0]) as beside:
                np.save(beside, logits)
        return logits

    further_rows = [rows[name] for name in further]
    of_train = np.concatenate([answers(split) for split in (rows["train"], *further_rows, *copies.values())])
    of_splits = {"train": of_train} | ({"test": answers(rows["test"])} if "test" in rows else {})
    return {split: logits[:, teacher.columns] for split, logits in of_splits.items()}


def weights_digest(model: torch.nn.Module) -> str:
    """Return a digest that identifies the weights of a model."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def ask_teachers(
    teachers: list[Teacher], splits: TextSplits, args: DistillationRunArguments, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return the logits of all teachers, asked one after the other, for `"train"` and `"test"`.

    Returns:
        Shape `(num_teachers, num_rows, num_labels)`.
    """
    answers = []
    while teachers:
        answers.append(ask_teacher(teachers.pop(0), splits, args, accelerator))
    return {split: np.stack([each[split] for each in answers]) for split in answers[0]}
