"""Evaluate a saved model on a dataset: accuracy, F1, metrics of each class, confusion matrix; or regression metrics.

    rnn-hf evaluate --model_name_or_path runs/mine --test_file test.csv
    rnn-hf evaluate ... --errors_file errors.html
    torchrun --nproc_per_node 2 -m rnn_hf evaluate ... --use_cpu

Several processes divide the rows among them and give the same results as one.
"""

import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState

from rnn_hf.argument_fields import CheckedArguments, flag, path_flag
from rnn_hf.data.batching import EncodedRows, SortedBatchSampler
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import DATASET_HELP, DELIMITER_HELP, ENCODING_HELP, TEXT_COLUMNS_HELP, load_text_dataset
from rnn_hf.errors import plain
from rnn_hf.files import atomic_file, write_json
from rnn_hf.inference import ACTIVATIONS
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.training.classifier import create_loader
from rnn_hf.training.launch import create_accelerator
from rnn_hf.training.metrics import compute_metrics, most_frequent_classes, most_frequent_errors, predict_split

from .entry import command, user_errors
from .errors_page import write_errors_page
from .json_lines import THRESHOLD_HELP, AnswerFormat, json_lines
from .parser import check_folder_of

FIGURE_FORMATS = (".png", ".svg", ".pdf")
# Number of errors shown if there are too many classes for a confusion matrix
NUM_ERRORS = 20


@dataclass
class EvaluateArguments(CheckedArguments):
    """What is evaluated, and on which rows."""

    job: ClassVar[str] = "evaluate"
    group: ClassVar[str] = "data"
    most_used: ClassVar[tuple[str, ...]] = (
        "model_name_or_path", "dataset_name", "test_file", "split", "text_column_names", "label_column_name",
        "threshold", "output_file", "predictions_file", "figure_file",
    )  # fmt: skip

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub.", "is_path": True})
    dataset_name: str | None = path_flag(None, DATASET_HELP)
    dataset_config_name: str | None = flag(None, "Configuration of the dataset.")
    test_file: str | None = path_flag(
        None, "Test rows: .csv, .tsv, .jsonl or .json, optionally with .gz, .bz2 or .zst after it; or .parquet."
    )
    split: str = flag("test", "Split to evaluate: train, validation or test.")
    text_column_names: list[str] | None = flag(None, TEXT_COLUMNS_HELP)
    label_column_name: str = flag("label", "Column of the labels.")
    delimiter: str | None = flag(None, DELIMITER_HELP)
    encoding: str | None = flag(None, ENCODING_HELP)
    clean_text: bool = flag(False, "Whether to decode HTML entities and remove tags and stray backslashes.")
    threshold: float | None = flag(None, THRESHOLD_HELP, at_least=0, at_most=1)
    per_device_eval_batch_size: int = flag(256, "Batch size per process.", "distributed", at_least=1)
    output_file: str | None = path_flag(None, "JSON file for the metrics.")
    predictions_file: str | None = path_flag(
        None, "JSON Lines file for the predictions, one per row, in the format of `rnn-hf predict`."
    )
    figure_file: str | None = path_flag(
        None, "Image file for the confusion matrix: .png, .svg or .pdf; needs matplotlib."
    )
    errors_file: str | None = path_flag(
        None, "Web page, .html, for the 50 errors with the highest probabilities, and the words that decided."
    )
    use_cpu: bool = flag(False, "Whether to use only the CPU.", "distributed")


def check_figure_file(path: Path) -> None:
    """Reject a figure that could not be drawn at the end."""
    if path.suffix not in FIGURE_FORMATS:
        raise ValueError(f"`figure_file` must end in {', '.join(FIGURE_FORMATS)}, got {str(path)!r}.")
    if find_spec("matplotlib") is None:
        raise ValueError('`figure_file` needs matplotlib. Install it with `pip install "rnn-hf[plots]"`.')


def trained_columns(classifier: TextClassifier) -> list[str] | None:
    """Return the columns of texts that a classifier was trained on, unless they are the default."""
    names = classifier.config.text_column_names
    return None if names == ["text"] else names


def as_table(metrics: dict[str, Any]) -> str:
    """Return metrics as text: totals, a row for each class or target, and the confusion matrix of a classifier.

    With more than 50 classes, it shows the most frequent classes, and the most frequent errors instead of the matrix.

    Args:
        metrics: Result of `compute_metrics`.
    """
    if "r2" in metrics:
        per_target = metrics.get("per_target", {"": metrics})
        width = max(map(len, per_target))
        figures = ("r2", "mse", "mae", "pearson", "spearman")
        lines = [f"{metrics['num_examples']:,} rows", "", " ".join([" " * width, *(f"{name:>9}" for name in figures)])]
        for target, values in per_target.items():
            lines.append(" ".join([f"{target:<{width}}", *(f"{values[name]:>9.4f}" for name in figures)]))
        return "\n".join(lines)
    labels, shown = [plain(label) for label in metrics["per_class"]], most_frequent_classes(metrics["per_class"])
    width = max(len("class"), *(len(plain(label)) for label, _ in shown))
    lines = [
        f"accuracy {100 * metrics['accuracy']:.2f} %, macro F1 {100 * metrics['macro_f1']:.2f} %, "
        + (f"micro F1 {100 * metrics['micro_f1']:.2f} %, " if "micro_f1" in metrics else "")
        + f"{metrics['num_examples']:,} rows",
        "",
        f"{'class':<{width}} {'precision':>9} {'recall':>9} {'F1':>9} {'rows':>9}",
    ]
    for label, of_class in shown:
        shares = " ".join(f"{100 * of_class[name]:>9.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"{plain(label):<{width}} {shares} {of_class['support']:>9,}")
    if len(shown) < len(labels):
        lines.append(f"... and {len(labels) - len(shown):,} less frequent classes; `--output_file` writes all")
    if "confusion_matrix" not in metrics:
        return "\n".join(lines)
    if len(shown) < len(labels):
        lines += ["", "most frequent errors (true class, predicted class, rows)"]
        errors = most_frequent_errors(metrics["confusion_matrix"], NUM_ERRORS)
        lines += [f"{labels[true]}, {labels[predicted]}, {count:,}" for true, predicted, count in errors]
        return "\n".join(lines)
    cell = max(len(f"{count:,}") for row in metrics["confusion_matrix"] for count in row)
    cell = max(cell, *(min(len(label), 12) for label in labels))
    lines += ["", "confusion matrix (rows: true class, columns: predicted class)"]
    lines.append(" " * width + "".join(f" {label[:12]:>{cell}}" for label in labels))
    for label, row in zip(labels, metrics["confusion_matrix"], strict=True):
        lines.append(f"{label:<{width}}" + "".join(f" {count:>{cell},}" for count in row))
    return "\n".join(lines)


@command(EvaluateArguments, __doc__)
def main(args: EvaluateArguments) -> dict[str, Any]:
    """Evaluate a model; return its metrics."""
    with user_errors():
        for name in ("output_file", "predictions_file", "figure_file", "errors_file"):
            check_folder_of(name, getattr(args, name))
        if args.figure_file is not None:
            check_figure_file(Path(args.figure_file))
        if args.errors_file is not None and Path(args.errors_file).suffix != ".html":
            raise ValueError(f"`errors_file` must end in .html, got {args.errors_file!r}.")
        accelerator = create_accelerator(args.use_cpu)
        classifier = TextClassifier.from_pretrained(args.model_name_or_path)
        for name in ("figure_file", "errors_file"):
            if getattr(args, name) is not None and classifier.problem_type != "single_label_classification":
                raise ValueError(f"`{name}` needs a model with one class per text. Leave it out.")
        with PartialState().main_process_first():  # the others read its cache
            dataset = load_text_dataset(
                args.dataset_name,
                args.dataset_config_name,
                test_file=args.test_file,
                text_column_names=args.text_column_names or trained_columns(classifier),
                label_column_name=args.label_column_name,
                label_names=classifier.label_names,
                problem_type=classifier.problem_type,
                splits=[args.split],
                clean_text=args.clean_text,
                delimiter=args.delimiter,
                encoding=args.encoding,
            )
            rows = encode_dataset(dataset, classifier.tokenizer, classifier.max_length)[args.split]

    started = time.perf_counter()
    encoded = EncodedRows(rows)
    sampler = SortedBatchSampler(encoded.lengths, args.per_device_eval_batch_size)
    loader = create_loader(encoded, sampler, classifier.pad_token_id, num_workers=0, accelerator=accelerator)
    model = classifier.model.to(accelerator.device)
    logits, labels = predict_split(model, loader, accelerator)
    metrics = compute_metrics(
        logits, labels, classifier.label_names, classifier.problem_type, classifier.thresholds(args.threshold)
    )
    if accelerator.is_main_process:
        print(as_table(metrics))
        print(f"\n{len(labels):,} texts in {time.perf_counter() - started:.1f} s")
        if args.output_file is not None:
            write_json(Path(args.output_file), metrics)
            print(f"Written: {args.output_file}")
        probabilities = ACTIVATIONS[classifier.problem_type](torch.from_numpy(logits)).numpy()
        if args.predictions_file is not None:
            with atomic_file(Path(args.predictions_file)) as beside, beside.open("w", encoding="utf-8") as file:
                file.writelines(json_lines(classifier, probabilities, AnswerFormat(threshold=args.threshold)))
            print(f"Written: {args.predictions_file}")
        if args.figure_file is not None:
            from rnn_hf.reporting.figures import plot_confusion_matrix  # matplotlib is an extra

            with atomic_file(Path(args.figure_file)) as beside:
                plot_confusion_matrix(metrics["confusion_matrix"], classifier.label_names).savefig(beside, dpi=150)
            print(f"Written: {args.figure_file}")
        if args.errors_file is not None:
            write_errors_page(Path(args.errors_file), classifier, dataset[args.split]["text"], labels, probabilities)
            print(f"Written: {args.errors_file}")
    accelerator.end_training()
    return metrics
