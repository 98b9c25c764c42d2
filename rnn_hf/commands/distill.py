"""Train a small recurrent classifier on what one or several larger classifiers answer.

    python scripts/distill.py [RECIPE.yaml] --teacher_name_or_path TEACHER [TEACHER ...] --output_dir runs/student

A teacher is a classifier of any architecture with its own tokenizer, in a folder or on the Hub. It is asked once about
every text; the student then learns its answers (Hinton et al., 2015; Tang et al., 2019) by the flags of `train.py`.
`--help` lists them all.
"""

import copy
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from datasets import Dataset, DatasetDict, concatenate_datasets
from datasets.fingerprint import Hasher
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rnn_hf import RNNConfig
from rnn_hf.commands import train
from rnn_hf.commands.parser import ScriptParser, exit_statuses, user_errors
from rnn_hf.data.augmentation import noised_copy
from rnn_hf.data.batching import EncodedRows, SortedBatchSampler
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.tokenizing import training_length
from rnn_hf.errors import one_line
from rnn_hf.files import atomic_file
from rnn_hf.reporting.results import finish
from rnn_hf.safe_loading import check_model, check_token_ids, is_finite, read_tokenizer
from rnn_hf.training.arguments import DataArguments, DistillationArguments, ModelArguments, TrainArguments
from rnn_hf.training.distillation import DistillationLoss, teacher_columns, teacher_results
from rnn_hf.training.metrics import predict_split
from rnn_hf.training.preparation import Prepared, begin, create_loader, prepare, training_loss


class Teacher(NamedTuple):
    """A classifier that answers for the student to learn."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    columns: list[int]


def load_teacher(name: str, label_names: Sequence[str], args: DistillationArguments) -> Teacher:
    """Return a classifier of any architecture, with the logit of each class of the dataset.

    Raises:
        ValueError: If it is not a whole one with its tokenizer, of finite numbers, for the same classes.
    """
    config = AutoConfig.from_pretrained(name, trust_remote_code=args.trust_remote_code)
    if isinstance(config, RNNConfig):
        check_model(name)
    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=args.trust_remote_code,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except RuntimeError as error:  # sizes that contradict the configuration
        raise ValueError(
            f"The weights of the teacher {name!r} do not fit its configuration ({one_line(error)}). "
            "Save both together."
        ) from error
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:5])
        raise ValueError(f"The teacher {name!r} must be a trained classifier, but it lacks {missing}. Train it first.")
    problem_type = model.config.problem_type
    if problem_type not in (None, "single_label_classification"):
        raise ValueError(f"The teacher {name!r} must give one class a text, got the problem {problem_type}.")
    weights = () if isinstance(config, RNNConfig) else model.state_dict().values()  # those were looked at
    if not all(is_finite(weight) for weight in weights if weight.is_floating_point()):
        raise ValueError(f"The weights of the teacher {name!r} must be finite numbers, got NaN or infinity.")
    tokenizer = read_tokenizer(name, trust_remote_code=args.trust_remote_code)
    check_token_ids(tokenizer, len(model.get_input_embeddings().weight))
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # what transformers makes up where there is none
        raise ValueError(f"The tokenizer of the teacher {name!r} has no words. Save it beside the model.")
    if tokenizer.pad_token_id is None:
        raise ValueError(f"The tokenizer of the teacher {name!r} has no padding token. Add one and save it.")
    labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
    columns, is_guess = teacher_columns(name, labels, label_names)
    if is_guess:
        PartialState().print(f"{name}: its labels have no names and are taken in the order {', '.join(label_names)}")
    return Teacher(name, model, tokenizer, columns)


def noised_copies(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, args: DistillationArguments, seed: int
) -> dict[str, Dataset]:
    """Return copies of the training rows, masked with the word that stands for a missing one in a vocabulary."""
    mask_word = tokenizer.mask_token or tokenizer.unk_token or ""
    return {
        f"noised_{number}": noised_copy(
            rows,
            mask_word,
            seed=seed,
            number=number,
            mask_probability=args.mask_probability,
            ngram_probability=args.ngram_probability,
        )
        for number in range(args.num_noised_copies)
    }


def encode_noised_copies(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, args: DistillationArguments, seed: int
) -> DatasetDict:
    """Return the noised copies as one reader encodes them, its mask as the special token that it is."""
    reader = copy.deepcopy(tokenizer)
    reader.split_special_tokens = False
    return encode_dataset(DatasetDict(noised_copies(rows, reader, args, seed)), reader, max_length)


def with_noised_copies(prepared: Prepared, max_length: int, args: DistillationArguments, seed: int) -> Prepared:
    """Return what the student's run begins with, the noised copies among its training rows."""
    if args.num_noised_copies == 0:
        return prepared
    with PartialState().main_process_first():
        copies = encode_noised_copies(prepared.texts["train"], prepared.tokenizer, max_length, args, seed)
    rows = concatenate_datasets([prepared.dataset["train"], *copies.values()])
    rows = rows.remove_columns("row").add_column("row", np.arange(len(rows), dtype=np.int32))
    return prepared._replace(dataset=DatasetDict({**prepared.dataset, "train": rows}))


def ask_teacher(
    teacher: Teacher, texts: DatasetDict, args: DistillationArguments, seed: int, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return a teacher's logits for the training rows, their noised copies after them, and for the test rows.

    Returns:
        `"train"` and, where there is such a split, `"test"`. Shape `(num_rows, num_labels)`.
    """
    max_length = training_length(teacher.tokenizer) or getattr(teacher.model.config, "max_position_embeddings", None)
    with PartialState().main_process_first():
        asked = DatasetDict({split: texts[split] for split in ("train", "test") if split in texts})
        rows = encode_dataset(asked, teacher.tokenizer, max_length)
        copies = encode_noised_copies(texts["train"], teacher.tokenizer, max_length, args, seed)
    model, weights = teacher.model.to(accelerator.device), weights_digest(teacher.model)
    batch_size = args.per_device_teacher_batch_size * accelerator.num_processes

    def answers(split: Dataset) -> np.ndarray:
        # rows in a file are kept by the library until its cache is cleared, and so are the answers to them
        places = [Path(file["filename"]).parent for file in split.cache_files[:1]]
        files = [folder / f"teacher-{Hasher.hash([split._fingerprint, weights])}.npy" for folder in places]
        # on several machines with caches of their own, all have them or all ask
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

    of_train = np.concatenate([answers(split) for split in (rows["train"], *copies.values())])
    of_splits = {"train": of_train} | ({"test": answers(rows["test"])} if "test" in rows else {})
    return {split: logits[:, teacher.columns] for split, logits in of_splits.items()}


def weights_digest(model: torch.nn.Module) -> str:
    """Return what tells the weights of a model from all others."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def ask_teachers(
    teachers: list[Teacher], texts: DatasetDict, args: DistillationArguments, seed: int, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return the logits of all teachers, who go one by one, for `"train"` and `"test"`.

    Returns:
        Shape `(num_teachers, num_rows, num_labels)`.
    """
    answers = []
    while teachers:
        answers.append(ask_teacher(teachers.pop(0), texts, args, seed, accelerator))
    return {split: np.stack([each[split] for each in answers]) for split in answers[0]}


@exit_statuses("distill.py")
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and write a student; return what `all_results.json` holds."""
    started = time.perf_counter()
    with user_errors("distill.py"):
        parser = ScriptParser(
            (ModelArguments, DataArguments, TrainArguments, DistillationArguments), description=__doc__
        )
        (model_args, data_args, args, distillation), given = parser.parse(sys.argv[1:] if argv is None else argv)
        accelerator = begin(args)
        prepared = prepare(model_args, data_args, args, given)
        if prepared.problem_type != "single_label_classification":
            raise ValueError(f"Teachers need a problem with one class a text, got {prepared.problem_type}.")
        # whoever repeats a run decides anew whose code is run
        recipe = prepared.recipe | asdict(distillation) | {"trust_remote_code": False}
        names, texts, rows = distillation.teacher_name_or_path, prepared.texts, prepared.dataset["train"]
        loss = training_loss(rows, prepared.label_names, prepared.problem_type, args, accelerator.device)
        # what teachers draw, or do not because they have answered before, is nothing to the student
        with torch.random.fork_rng():
            # all are there before one has answered for an hour
            teachers = [load_teacher(name, prepared.label_names, distillation) for name in names]
            prepared = with_noised_copies(prepared, data_args.max_length, distillation, args.seed)
            answers = ask_teachers(teachers, texts, distillation, args.seed, accelerator)
        student_loss = DistillationLoss(distillation, answers["train"], loss, len(texts["train"]), accelerator.device)
        run = train.create_run(prepared._replace(recipe=recipe), args, accelerator, student_loss)

    run.train()
    run.finish_weights()
    results = run.results()
    num_texts = len(texts["train"])
    results = {"num_noised_examples": results["num_train_examples"] - num_texts, **results}
    results["num_train_examples"] = num_texts
    if run.test_logits is not None:
        labels = np.asarray(texts["test"].with_format("numpy")["label"][:])
        results = teacher_results(names, answers["test"], run.test_logits, labels) | results
    finish(run, prepared.tokenizer, results, started, "distill.py")
    return results


if __name__ == "__main__":
    main()
