"""Sections of a card that show results: test metrics, teachers, speed and size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_hf.errors import plain
from rnn_hf.training.metrics import confusion_entries, most_frequent_classes, most_frequent_errors

from .dataset_facts import is_on_hub
from .markdown import escaped, fenced, table
from .run_facts import RunFacts
from .seeds import INTERVAL_NOTE, seed_statistics

TEACHER_FIGURES = ("teacher_accuracy", "teacher_agreement")


def test_results(facts: RunFacts) -> str:
    """Return the results on the test split."""
    results, title = facts.results, "## Results on the test split\n\n"
    if not facts.measured:
        return f"{title}There was no test split."
    parts = [f"{results['num_test_examples']:,} rows, evaluated once, after training.", scores_table(facts)]
    per_class = results.get("test_per_class")
    if per_class:
        shown = most_frequent_classes(per_class)
        rows = [
            [
                escaped(label),
                *(f"{100 * figures[key]:.2f}" for key in ("precision", "recall", "f1")),
                f"{figures['support']:,}",
            ]
            for label, figures in shown
        ]
        seed = f" (seed {results['seed']})" if facts.other_seeds else ""
        if len(shown) == len(per_class):
            parts.append(f"Per class, in %{seed}:")
        else:
            parts.append(
                f"The {len(shown)} most frequent of the {len(per_class):,} classes, in %{seed}; `all_results.json` "
                "has all of them:"
            )
        parts.append(table(["class", "precision", "recall", "F1", "rows"], rows))
    parts.append(most_frequent_error(results))
    parts.append(facts.figure("confusion_matrix.png"))
    if results.get("test_calibration") is not None:
        error, num_bins = (results["test_calibration"][key] for key in ("expected_calibration_error", "num_bins"))
        parts.append(
            "The expected calibration error, the mean difference between the probability of the predicted class and "
            f"the share of correct predictions (Guo et al., 2017), is {100 * error:.1f} % over {num_bins} bins."
        )
    if results.get("temperature") is not None:
        parts.append(
            f"The logits are divided by a temperature of {results['temperature']:.3g}, fitted on the validation "
            "split; the division is part of the weights and does not change predicted classes. Without it, the "
            f"calibration error would be {100 * results['test_ece_before_scaling']:.1f} %."
        )
        parts.append(facts.figure("reliability.png"))
    return title + "\n\n".join(part for part in parts if part)


def language_results(facts: RunFacts) -> str:
    """Return the perplexity of a language model, and generated texts."""
    results = facts.results
    parts = ["There was no validation split."]
    if facts.measured:
        parts = [
            f"{results['num_validation_tokens']:,} tokens of {results['num_validation_examples']:,} rows, counting "
            "the end of each text as a token. The weights were selected on these rows; the test split was not used.",
            scores_table(facts),
        ]
    if results.get("generated_texts"):
        texts = [plain(text) or "(an empty text)" for text in results["generated_texts"]]
        parts += ["Generated texts:", fenced("text", *texts)]
    return "## Results on the validation split\n\n" + "\n\n".join(parts)


def scores_table(facts: RunFacts) -> str:
    """Return the metrics of the model and, with several seeds, their mean, standard deviation and interval."""
    runs = [facts.results, *facts.other_seeds]
    titles, rows = ["metric", "value"], []
    if facts.other_seeds:
        seeds = ", ".join(str(run["seed"]) for run in runs)
        mean_title = f"mean ± standard deviation (seeds {seeds})"
        titles = ["metric", f"this model (seed {facts.results['seed']})", mean_title, "95 % interval of the mean"]
    for metric in facts.measured:
        row = [metric.title, metric.shown(facts.results[metric.key])]
        if facts.other_seeds:
            over_seeds = seed_statistics([run[metric.key] for run in runs if run.get(metric.key) is not None])
            mean = metric.shown(over_seeds.mean)
            if over_seeds.standard_deviation is None or over_seeds.interval is None:
                row += [mean, ""]
            else:
                low, high = map(metric.shown, over_seeds.interval)
                row.append(f"{mean.removesuffix(' %')} ± {metric.shown(over_seeds.standard_deviation)}")
                row.append(f"{low.removesuffix(' %')} to {high}")
        rows.append(row)
    return table(titles, rows) + (f"\n\n{INTERVAL_NOTE}" if facts.other_seeds else "")


def most_frequent_error(results: Mapping[str, Any]) -> str:
    """Return which class is most often confused with which other class."""
    matrix, labels = results.get("test_confusion_matrix") or [], list(results.get("test_per_class") or ())
    errors = most_frequent_errors(matrix, 1) if matrix and labels else []
    if not errors:
        return ""
    [(true, predicted, count)] = errors
    of_class, _, counts = confusion_entries(matrix)
    return (
        f"The most frequent error: {escaped(labels[true])} classified as {escaped(labels[predicted])}, "
        f"{count:,} of {counts[of_class == true].sum():,} rows."
    )


def distillation(facts: RunFacts) -> str:
    """Return the teachers of a distilled model, and how often it agrees with them."""
    results, recipe = facts.results, facts.recipe
    if "teacher_name_or_path" not in recipe:
        return ""
    parts = ["The model was trained on the predictions of larger models, its teachers (Hinton et al., 2015)."]
    if results.get("num_unlabelled_examples"):
        parts[0] += f" They also labelled {results['num_unlabelled_examples']:,} texts that had no label."
    if results.get("num_noised_examples"):
        parts[0] += (
            f" The teachers also labelled {results['num_noised_examples']:,} noised copies of the training texts "
            "(Tang et al., 2019)."
        )
    if "teachers" in results:
        together = {"name": "all teachers together", **{name: results[name] for name in TEACHER_FIGURES}}
        several = [together] if len(results["teachers"]) > 1 else []
        rows = [
            [escaped(teacher_title(teacher["name"])), *(f"{100 * teacher[name]:.2f}" for name in TEACHER_FIGURES)]
            for teacher in [*results["teachers"], *several]
        ]
        parts.append(table(["teacher", "test accuracy, %", "agreement with this model, %"], rows))
    return "## Teachers\n\n" + "\n\n".join(parts)


def teacher_title(name: str) -> str:
    """Return a teacher's name on the Hub, or that of its folder, as a path is specific to a machine."""
    return name if is_on_hub(name) else Path(name).name


def speed_and_size(facts: RunFacts) -> str:
    """Return the size of the model and, if it was measured, its speed compared with other classifiers."""
    results, sizes = facts.results, []
    if "num_parameters" in results:
        sizes.append(f"{results['num_parameters']:,} parameters")
    if "model_bytes" in results:
        sizes.append(f"{results['model_bytes'] / 1e6:.1f} MB of weights on disk (`{facts.recipe['save_dtype']}`)")
    parts = [f"{', '.join(sizes)}."] if sizes else []
    if facts.prediction is not None:
        machine, versions = facts.prediction["machine"], facts.prediction["versions"]
        measured, has_branch = (bool(of.get("ngram_buckets")) for of in (facts.prediction, facts.recipe))
        of_another = " The model was measured without its n-gram branch." if has_branch and not measured else ""
        parts += [
            f"Prediction from strings to labels: medians over rounds in which the classifiers took turns, on "
            f"{machine['num_threads']} threads of a shared machine ({escaped(machine['cpu'])}), torch "
            f"{versions['torch']}. All were trained and tested on the same rows.{of_another}",
            prediction_table(facts.prediction),
        ]
    return "## Speed and size\n\n" + "\n\n".join(parts) if parts else ""


def prediction_table(report: Mapping[str, Any]) -> str:
    """Return speed and accuracy of the classifiers for which a benchmark has both."""
    rows = [
        [
            escaped(row["name"]),
            f"{row['texts_per_second']['median']:,.0f}",
            f"{row['milliseconds_for_one_text']['median']:.2f}",
            f"{100 * row['accuracy']:.1f}",
        ]
        for row in report["rows"]
        if row.get("accuracy") is not None and row.get("milliseconds_for_one_text") is not None
    ]
    return table(["classifier", "texts per second", "ms for one text", "test accuracy, %"], rows)
