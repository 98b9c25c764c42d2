"""Measure what a transformer and texts without labels add to a few labelled rows.

    python -m scripts.research.few_labels sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/few-labels
        [--dataset ag_news_1000] [--num_unlabelled 20000] [--seeds 42 1 2] [--word_vectors FILE] [--folder FOLDER]

For each seed, a sample of the panel's rows trains a teacher (`fine_tune_encoder`), the teacher answers for other texts
of the training split, and `rnn-hf distill` trains students on its answers, with and without pretrained word vectors.
All are measured on the test split. After an interruption, the same command continues.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from rnn_hf.argument_fields import flag, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.files import atomic_file, read_json, write_json
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import percent
from scripts.research.fine_tune_encoder import parse_encoder
from scripts.research.panel_datasets import DATASETS, check_datasets, other_texts, rows_of_run
from scripts.research.render_model_cards import CARDS
from scripts.research.run_recipe import SeedArguments, prepare_folder, refuse_single_seed, run_or_exit

# Epochs and batch size of the teacher: a thousand rows need several epochs
TEACHER_SETTINGS = ("--num_train_epochs", "5", "--per_device_train_batch_size", "16", "--validation_size", "0")

# Arguments that the models depend on
OF_THE_MODELS = ("dataset", "num_unlabelled", "freeze_embeddings", "word_vectors")

TEACHER, STUDENT, STUDENT_WITH_VECTORS = "teacher", "student", "student with word vectors"

Results = dict[str, Any]


@dataclass
class FewLabelsArguments(SeedArguments):
    """The rows, and where the models and the results go."""

    dataset: str = flag("ag_news_1000", "A row of the panel with one label a text.")
    num_unlabelled: int = flag(20_000, "Maximum number of texts without labels.", at_least=1)
    freeze_embeddings: bool = flag(True, "Whether the teacher keeps its word vectors, which saves time.")
    word_vectors: str | None = path_flag(None, "Pretrained word vectors for another student.")
    folder: str | None = path_flag(None, "Folder of local copies of the datasets; others are read from the Hub.")
    output_dir: str = path_flag("runs/few-labels", "Folder for the models.")
    overwrite_output_dir: bool = flag(False, "Whether to replace what is in `output_dir`.")
    output_file: str = path_flag(str(CARDS / "few_labels.json"), "JSON file of the results.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_datasets([self.dataset])
        if DATASETS[self.dataset].kind != "one label":
            raise ValueError(f"`dataset` must have one label a text, got {self.dataset}.")


def write_rows(folder: Path, args: FewLabelsArguments, seed: int) -> None:
    """Write the files of labelled rows, of texts without labels, and of test rows, unless they are there already."""
    last = folder / "unlabelled.parquet"
    if last.exists():  # the teacher's answers are kept for unchanged files
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of_run(args.dataset, args.folder, seed, is_test=True)
    for name, part in (("train", rows.train), ("test", rows.measured)):
        Dataset.from_dict({"text": part.texts, "label": part.labels}).to_parquet(folder / f"{name}.parquet")
    others = other_texts(args.dataset, args.folder, seed, args.num_unlabelled)
    with atomic_file(last) as beside:
        Dataset.from_dict({"text": others}).to_parquet(beside)


def train(name: str, folder: Path, argv: Sequence[str], seed: int) -> Results:
    """Train a model in a process of its own, unless it is finished, and return its results."""
    results_file = folder / name.replace(" ", "-") / "all_results.json"
    if not results_file.exists():
        files = ["--train_file", str(folder / "train.parquet"), "--test_file", str(folder / "test.parquet")]
        command = [sys.executable, "-m", *argv, *files, "--seed", str(seed), "--output_dir", str(results_file.parent)]
        run_or_exit(command)
    return read_json(results_file)


def run_seed(encoder: str, args: FewLabelsArguments, seed: int) -> list[Results]:
    """Return the accuracy of teacher and students on the test split, with their seed."""
    folder = Path(args.output_dir) / f"seed_{seed}"
    write_rows(folder, args, seed)
    frozen = ("--freeze_embeddings", str(args.freeze_embeddings).lower())
    teaching = ("scripts.research.fine_tune_encoder", encoder, *TEACHER_SETTINGS, *frozen)
    found = {TEACHER: train(TEACHER, folder, teaching, seed)}
    learning = ["rnn_hf", "distill", "--teacher_name_or_path", str(folder / TEACHER)]
    learning += ["--unlabelled_file", str(folder / "unlabelled.parquet")]
    found[STUDENT] = train(STUDENT, folder, learning, seed)
    if args.word_vectors is not None:
        learning += ["--word_vectors", args.word_vectors]
        found[STUDENT_WITH_VECTORS] = train(STUDENT_WITH_VECTORS, folder, learning, seed)
    names = ("test_accuracy", "teacher_agreement", "num_unlabelled_examples", "model_bytes", "train_runtime")
    return [
        {"name": name, "seed": seed, **{key: results[key] for key in names if key in results}}
        for name, results in found.items()
    ]


def few_labels_table(content: Mapping[str, Any], others: Mapping[str, Sequence[float]] | None = None) -> str:
    """Return the accuracy of teacher and students, means over the seeds.

    Args:
        content: Content of the file of results.
        others: Accuracies of other classifiers that were trained on the same labelled rows.
    """
    rows = [[name, percent(accuracies), "", ""] for name, accuracies in (others or {}).items()]
    for name in dict.fromkeys(run["name"] for run in content["runs"]):
        runs = [run for run in content["runs"] if run["name"] == name]
        agreement = "" if name == TEACHER else percent([run["teacher_agreement"] for run in runs])
        megabytes = f"{runs[0]['model_bytes'] / 1e6:.1f}" if "model_bytes" in runs[0] else ""
        rows.append([name, percent([run["test_accuracy"] for run in runs]), agreement, megabytes])
    return table(["model", "test accuracy, %", "same class as the teacher, %", "MB"], rows)


@exit_statuses("few_labels", FewLabelsArguments)
def main(argv: Sequence[str] | None = None) -> Results:
    """Train what is missing, write the results and print their table; return the content of the file."""
    with user_errors():
        refuse_single_seed(sys.argv[1:] if argv is None else argv)
        encoder, args = parse_encoder(FewLabelsArguments, argv, __doc__)
        # models of other rows or another encoder must not be taken for these
        models = {name: getattr(args, name) for name in OF_THE_MODELS}
        prepare_folder(Path(args.output_dir), {"encoder": encoder, **models}, args.overwrite_output_dir)
        runs = [run for seed in args.seeds for run in run_seed(encoder, args, seed)]
    content = {
        "encoder": Path(encoder).name,
        "dataset": args.dataset,
        "word_vectors": args.word_vectors and Path(args.word_vectors).name,
        "teacher": list(TEACHER_SETTINGS),
        "runs": runs,
    }
    write_json(Path(args.output_file), content)
    print(f"{few_labels_table(content)}\nWritten: {args.output_file}")
    return content


if __name__ == "__main__":
    main()
