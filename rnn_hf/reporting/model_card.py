"""The facts of a run, read from the files in its folder, become the card that stands beside the weights."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rnn_hf.errors import plain
from rnn_hf.files import atomic_file, read_json
from rnn_hf.training.metrics import confusion_entries, most_frequent_classes, most_frequent_errors

from .dataset_facts import DatasetFacts, dataset_facts, dataset_title, hub_dataset, is_hub_id
from .markdown import escaped, fenced, table
from .seeds import INTERVAL_NOTE, seed_statistics

FIGURES = "figures"
TASK = "text-classification"
GENERATION = "text-generation"


@dataclass(frozen=True)
class Metric:
    """A figure of the test split as the Hub names it.

    Args:
        key: Its key in `all_results.json`.
        type: Its name among the Hub's metrics.
        title: Its name in the card.
        args: How it is computed, as the Hub's metric takes it.
        is_share: Whether it is shown in percent.
    """

    key: str
    type: str
    title: str
    args: dict[str, str] | None = None
    is_share: bool = True

    def shown(self, value: float) -> str:
        """Return a value with the digits a test split of thousands of rows can bear."""
        return f"{100 * value:.2f} %" if self.is_share else f"{value:.4g}"


METRICS = (
    Metric("test_accuracy", "accuracy", "Accuracy"),
    Metric("test_macro_f1", "f1", "Macro F1", {"average": "macro"}),
    Metric("test_micro_f1", "f1", "Micro F1", {"average": "micro"}),
    Metric("test_mse", "mse", "Mean squared error", is_share=False),
    Metric("test_mae", "mae", "Mean absolute error", is_share=False),
    Metric("test_r2", "r_squared", "R²", is_share=False),
    Metric("test_pearson", "pearsonr", "Pearson correlation", is_share=False),
    Metric("test_spearman", "spearmanr", "Spearman correlation", is_share=False),
)

PERPLEXITY = Metric("validation_perplexity", "perplexity", "Perplexity", is_share=False)

# What a reader asks first about a run, out of the dozens of arguments in its recipe
SHOWN_SETTINGS = (
    "cell_type", "num_hidden_layers", "bidirectional", "hidden_size", "embedding_size", "classifier_pooling",
    "concat_embedding_mean", "pack_padded_sequences", "recurrent_initializer", "vocab_size", "max_length",
    "word_dropout", "embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "label_smoothing_factor",
    "optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm",
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "save_dtype",
    "distillation_loss", "temperature", "alpha", "num_noised_copies", "mask_probability", "ngram_probability",
    "bptt", "adaptive_softmax_cutoffs",
)  # fmt: skip

# What only some runs do, and what it is for the others
RARE_SETTINGS = {
    "model_name_or_path": None,
    "backward_model_name_or_path": None,
    "layer_learning_rate_decay": 1.0,
    "gradual_unfreezing": False,
}

# What a language model has no use for
SETTINGS_OF_CLASSIFIERS = {
    "bidirectional", "classifier_pooling", "concat_embedding_mean", "pack_padded_sequences", "label_smoothing_factor",
}  # fmt: skip

TEACHER_FIGURES = ("teacher_accuracy", "teacher_agreement")

FIGURE_TEXTS = {
    "confusion_matrix.png": "Confusion matrix of the test split",
    "reliability.png": "Reliability diagram of the test split",
    "learning_curves.png": "Loss and accuracy in training",
}


@dataclass(frozen=True)
class RunFacts:
    """All that a card is made from.

    Args:
        name: Name of the model.
        recipe: Every argument of the run.
        results: What `all_results.json` holds.
        other_seeds: The same of runs that differ in their seed only.
        prediction: What `benchmark.py predict` wrote about the model, if it was measured.
        figures: Names of the files in the folder of figures.
        recipe_path: Where the recipe lies, as seen from a clone of the package.
    """

    name: str
    recipe: Mapping[str, Any]
    results: Mapping[str, Any]
    other_seeds: Sequence[Mapping[str, Any]] = ()
    prediction: Mapping[str, Any] | None = None
    figures: Sequence[str] = ()
    recipe_path: str = "recipe.yaml"

    @property
    def data(self) -> DatasetFacts:
        """What is known of the dataset."""
        return dataset_facts(self.recipe)

    @property
    def is_language_model(self) -> bool:
        """Whether the model predicts words rather than classes."""
        return "bptt" in self.recipe

    @property
    def split(self) -> str:
        """The split that the metrics are measured on."""
        return "validation" if self.is_language_model else "test"

    @property
    def measured(self) -> list[Metric]:
        """The metrics that the results have."""
        metrics = (PERPLEXITY,) if self.is_language_model else METRICS
        return [metric for metric in metrics if self.results.get(metric.key) is not None]


def write_model_card(folder: Path, *, name: str, recipe: Mapping[str, Any], recipe_path: str = "recipe.yaml") -> None:
    """Draw the figures of a run, where matplotlib is installed, and write its card beside them.

    Args:
        folder: What `read_run_facts` reads; gets `README.md` and `figures/`.
        name: Name of the model.
        recipe: Every argument of the run.
        recipe_path: Where the recipe lies, as seen from a clone of the package.
    """
    if find_spec("matplotlib") is not None:
        from .figures import draw_figures  # matplotlib is an extra

        draw_figures(read_json(folder / "all_results.json"), folder / FIGURES)
    facts = read_run_facts(folder, name=name, recipe=recipe, recipe_path=recipe_path)
    with atomic_file(folder / "README.md") as beside:
        render_model_card(facts).save(beside)


def read_run_facts(
    folder: Path, *, name: str, recipe: Mapping[str, Any], recipe_path: str = "recipe.yaml"
) -> RunFacts:
    """Return what a card is made from.

    Args:
        folder: Holds `all_results.json` and, where they were measured, `all_results_seed_*.json` and
            `benchmark_predict.json`; its figures lie in `figures/`.
        name: Name of the model.
        recipe: Every argument of the run.
        recipe_path: Where the recipe lies, as seen from a clone of the package.
    """
    prediction = folder / "benchmark_predict.json"
    return RunFacts(
        name=name,
        recipe=recipe,
        results=read_json(folder / "all_results.json"),
        other_seeds=[read_json(path) for path in sorted(folder.glob("all_results_seed_*.json"))],
        prediction=read_json(prediction) if prediction.exists() else None,
        figures=[figure for figure in FIGURE_TEXTS if (folder / FIGURES / figure).exists()],
        recipe_path=recipe_path,
    )


def render_model_card(facts: RunFacts) -> ModelCard:
    """Return the card of a run: what the Hub reads, and what a person reads."""
    sections = (
        f"# {escaped(facts.name)}\n\n{summary(facts)}",
        how_to_generate(facts) if facts.is_language_model else how_to_use(facts),
        use_and_limits(facts),
        language_results(facts) if facts.is_language_model else test_results(facts),
        distillation(facts),
        speed_and_size(facts),
        training_data(facts),
        training(facts),
        f"## Licence\n\n{facts.data.license_text}",
    )
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{card_data(facts).to_yaml()}\n---\n\n{text}\n")


def card_data(facts: RunFacts) -> ModelCardData:
    """Return the front matter of a card."""
    dataset = plain(dataset_title(facts.recipe))
    start = facts.recipe.get("model_name_or_path")
    evaluations = [
        EvalResult(
            task_type=GENERATION if facts.is_language_model else TASK,
            task_name="Text Generation" if facts.is_language_model else "Text Classification",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_config=facts.recipe.get("dataset_config_name"),
            dataset_split=facts.split,
            metric_type=metric.type,
            metric_name=metric.title,
            metric_value=facts.results[metric.key],
            metric_args=metric.args,
        )
        for metric in facts.measured
    ]
    return ModelCardData(
        language=facts.data.language,
        license=facts.data.license,
        license_name=facts.data.license_name,
        license_link=facts.data.license_link,
        library_name="transformers",
        pipeline_tag=GENERATION if facts.is_language_model else TASK,
        tags=["rnn_hf", facts.recipe["cell_type"], "recurrent-neural-network"],
        base_model=start if start is not None and is_hub_id(start) else None,
        datasets=[dataset] if hub_dataset(facts.recipe) is not None else None,
        metrics=list(dict.fromkeys(metric.type for metric in facts.measured)) or None,
        widget=[{"text": text} for text in facts.data.examples] or None,
        model_name=plain(facts.name) if evaluations else None,
        eval_results=evaluations or None,
    )


def summary(facts: RunFacts) -> str:
    """Return what the model is, in two sentences."""
    recipe, results = facts.recipe, facts.results
    layers = recipe["num_hidden_layers"]
    directions = "both directions" if recipe["bidirectional"] else "one direction"
    first = (
        f"A recurrent text classifier of the `rnn_hf` family: {recipe['cell_type'].upper()}, "
        f"{layers} layer{'s' if layers > 1 else ''}, {directions}, hidden size {recipe['hidden_size']}, "
        f"pooling `{recipe['classifier_pooling']}`"
    )
    if facts.is_language_model:
        first = (
            f"A recurrent language model of the `rnn_hf` family: {recipe['cell_type'].upper()}, "
            f"{layers} layer{'s' if layers > 1 else ''}, hidden size {recipe['hidden_size']}, word vectors of size "
            f"{recipe['embedding_size']} that the output layer shares"
        )
    size = f", {results['num_parameters']:,} parameters" if "num_parameters" in results else ""
    scores = " and ".join(f"{metric.title} {metric.shown(results[metric.key])}" for metric in facts.measured[:2])
    second = f" {scores} on the {facts.split} split." if scores else ""
    return f"{first}{size}, trained on {results['num_train_examples']:,} rows of {linked_dataset(facts)}.{second}"


def how_to_use(facts: RunFacts) -> str:
    """Return three ways to load the model."""
    # a string of JSON is one of Python, too
    name = json.dumps(plain(facts.name), ensure_ascii=False)
    text = json.dumps(next(iter(facts.data.examples), "A text to classify."))
    task = f'"{TASK}", model={name}'
    with_package = fenced(
        "python",
        "import rnn_hf  # registers the models with transformers' Auto classes",
        "from transformers import pipeline",
        "",
        f"classify = pipeline({task})",
        f"classify({text})",
    )
    with_remote_code = fenced(
        "python",
        "from transformers import pipeline",
        "",
        f"classify = pipeline({task}, trust_remote_code=True)",
        f"classify({text})",
    )
    with_text_classifier = fenced(
        "python",
        "from rnn_hf import TextClassifier",
        "",
        f"classifier = TextClassifier.from_pretrained({name})",
        f"classifier.predict([{text}])",
    )
    has_owner = "/" in facts.name and is_hub_id(facts.name)
    place = "The name in the lines below is that of the folder with this card and the weights; on the Hub, put the "
    place += "owner and a slash before it.\n\n"
    return (
        f"## Use\n\n{'' if has_owner else place}"
        f"With the package `rnn_hf`:\n\n{with_package}\n\n"
        f"Without it: transformers runs the code beside the weights once you trust it.\n\n{with_remote_code}\n\n"
        f"For many texts, `TextClassifier` is the fast way:\n\n{with_text_classifier}"
    )


def how_to_generate(facts: RunFacts) -> str:
    """Return how to go on with a text, and how to make a classifier of a language model."""
    name = json.dumps(plain(facts.name), ensure_ascii=False)
    lines = (
        "from transformers import pipeline",
        "",
        f'write = pipeline("{GENERATION}", model={name}{{}})',
        'write("the company said", max_new_tokens=20, do_sample=True, top_p=0.9)',
    )
    with_package = [line.format("") for line in ("import rnn_hf  # registers the models with transformers", *lines)]
    with_remote_code = [line.format(", trust_remote_code=True") for line in lines]
    folder = shlex.quote(plain(facts.name))
    start = f"--model_name_or_path {folder}"
    reading = ""
    if facts.recipe.get("reads_backward"):
        start = f"--model_name_or_path FORWARD --backward_model_name_or_path {folder}"
        reading = (
            "It reads texts from the last word to the first, so what it writes is to be turned round. It is half of a "
            "bidirectional encoder, whose other half is a language model with the same word vectors.\n\n"
        )
    command = f"python scripts/train.py {start} --output_dir runs/classifier"
    return (
        f"## Use\n\n{reading}"
        f"With the package `rnn_hf`:\n\n{fenced('python', *with_package)}\n\n"
        "Without it: transformers runs the code beside the weights once you trust it.\n\n"
        f"{fenced('python', *with_remote_code)}\n\n"
        "A classifier begins with what the encoder has learned (Howard and Ruder, 2018):\n\n"
        f"{fenced('bash', command)}"
    )


def use_and_limits(facts: RunFacts) -> str:
    """Return what the model is for, and where it fails."""
    if facts.is_language_model:
        return (
            "## Intended use and limits\n\n"
            "To begin classifiers of such texts with, and to teach how language models work.\n\n"
            "- What it writes looks like its training texts, but nothing in it need be true.\n"
            "- Words that it has not seen, and all letters but small ones, are foreign to it.\n"
            "- Whatever is wrong or one-sided in its training texts, it has learned, too."
        )
    limits = list(facts.data.limits)
    if not facts.recipe["pack_padded_sequences"]:
        limits.append(
            "It reads padding as if it were text (`pack_padded_sequences: false`), which is there to show what comes "
            "of that: the answer to a text depends on the others in its batch."
        )
    points = "\n".join(f"- {limit}" for limit in limits)
    return f"## Intended use and limits\n\n{facts.data.intended_use}\n\n{points}"


def test_results(facts: RunFacts) -> str:
    """Return all that was measured on the test split."""
    results, title = facts.results, "## Results on the test split\n\n"
    if not facts.measured:
        return f"{title}There was no test split."
    parts = [f"{results['num_test_examples']:,} rows, read once, after training.", scores_table(facts)]
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
            parts.append(f"Each class, in %{seed}:")
        else:
            parts.append(
                f"The {len(shown)} most frequent of the {len(per_class):,} classes, in %{seed}; `all_results.json` "
                "has the others:"
            )
        parts.append(table(["class", "precision", "recall", "F1", "rows"], rows))
    parts.append(commonest_error(results))
    parts.append(figure(facts, "confusion_matrix.png"))
    if results.get("test_calibration") is not None:
        error, num_bins = (results["test_calibration"][key] for key in ("expected_calibration_error", "num_bins"))
        parts.append(
            f"The expected calibration error, the mean gap between the probability of the predicted class and the "
            f"share of right predictions (Guo et al., 2017), is {100 * error:.1f} % over {num_bins} bins."
        )
    if results.get("temperature") is not None:
        parts.append(
            f"The logits are divided by a temperature of {results['temperature']:.3g}, the one that fits the "
            "validation split best; the division is part of the weights and changes no prediction. Without it, the "
            f"error would be {100 * results['test_ece_before_scaling']:.1f} %."
        )
    parts.append(figure(facts, "reliability.png"))
    return title + "\n\n".join(part for part in parts if part)


def language_results(facts: RunFacts) -> str:
    """Return the perplexity of a language model, and texts that it made up."""
    results = facts.results
    parts = ["There was no validation split."]
    if facts.measured:
        parts = [
            f"{results['num_validation_tokens']:,} tokens of {results['num_validation_examples']:,} rows, the end of "
            "each text counted as one. They chose the weights that were kept; the test split was not read.",
            scores_table(facts),
        ]
    if results.get("generated_texts"):
        texts = [plain(text) or "(an empty text)" for text in results["generated_texts"]]
        parts += ["Texts that it makes up:", fenced("text", *texts)]
    return "## Results on the validation split\n\n" + "\n\n".join(parts)


def scores_table(facts: RunFacts) -> str:
    """Return the metrics of the model, and over the seeds their mean, spread and interval."""
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


def commonest_error(results: Mapping[str, Any]) -> str:
    """Return which class is most often taken for which other one."""
    matrix, labels = results.get("test_confusion_matrix") or [], list(results.get("test_per_class") or ())
    errors = most_frequent_errors(matrix, 1) if matrix and labels else []
    if not errors:
        return ""
    [(true, predicted, count)] = errors
    of_class, _, counts = confusion_entries(matrix)
    return (
        f"The commonest error: {escaped(labels[true])} taken for {escaped(labels[predicted])}, "
        f"{count:,} of {counts[of_class == true].sum():,} rows."
    )


def distillation(facts: RunFacts) -> str:
    """Return whom the model learned from, and how near it has come."""
    results, recipe = facts.results, facts.recipe
    if "teacher_name_or_path" not in recipe:
        return ""
    parts = ["The model was trained on the answers of larger ones, its teachers (Hinton et al., 2015)."]
    if results.get("num_noised_examples"):
        parts[0] += (
            f" They also answered {results['num_noised_examples']:,} noised copies of the training texts "
            "(Tang et al., 2019)."
        )
    if "teachers" in results:
        together = {"name": "all teachers together", **{name: results[name] for name in TEACHER_FIGURES}}
        several = [together] if len(results["teachers"]) > 1 else []
        rows = [
            [escaped(teacher_title(teacher["name"])), *(f"{100 * teacher[name]:.2f}" for name in TEACHER_FIGURES)]
            for teacher in [*results["teachers"], *several]
        ]
        parts.append(table(["teacher", "test accuracy, %", "same label as this model, %"], rows))
    return "## Teachers\n\n" + "\n\n".join(parts)


def teacher_title(name: str) -> str:
    """Return a teacher's name on the Hub, or that of its folder: the path would be one of this machine."""
    return name if is_hub_id(name) else Path(name).name


def speed_and_size(facts: RunFacts) -> str:
    """Return how large the model is and, where it was measured, how fast it is beside others."""
    results, sizes = facts.results, []
    if "num_parameters" in results:
        sizes.append(f"{results['num_parameters']:,} parameters")
    if "model_bytes" in results:
        sizes.append(f"{results['model_bytes'] / 1e6:.1f} MB of weights on disk (`{facts.recipe['save_dtype']}`)")
    parts = [f"{', '.join(sizes)}."] if sizes else []
    if facts.prediction is not None:
        machine, versions = facts.prediction["machine"], facts.prediction["versions"]
        parts += [
            f"Strings in, labels out, measured in turns, medians, on {machine['num_threads']} threads of a shared "
            f"machine ({escaped(machine['cpu'])}), torch {versions['torch']}. "
            "Its peers learned from the same training split and answered the same test rows:",
            prediction_table(facts.prediction),
        ]
    return "## Speed and size\n\n" + "\n\n".join(parts) if parts else ""


def prediction_table(report: Mapping[str, Any]) -> str:
    """Return speed and accuracy of the classifiers that a benchmark measured both of."""
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
    return table(["classifier", "texts a second", "ms for one text", "test accuracy, %"], rows)


def training_data(facts: RunFacts) -> str:
    """Return where the rows come from, and how many there were."""
    results, recipe, data = facts.results, facts.recipe, facts.data
    counts = {
        "training": results["num_train_examples"],
        "validation": results.get("num_validation_examples"),
        "test": results["num_test_examples"],
    }
    # a name at the beginning of a line could be the mark of a list
    parts = [f"The dataset: {linked_dataset(facts)}. {data.description}".strip()]
    parts.append(table(["split", "rows used"], [[name, f"{count:,}"] for name, count in counts.items() if count]))
    if data.num_train_examples is not None:
        if results.get("validation_accuracy") is not None or facts.is_language_model:
            parts.append(
                f"The dataset has no validation split; {100 * recipe['validation_size']:g} % of its training rows, "
                "cut off at random with equal shares of the classes, serve as one."
            )
        if counts["training"] + (counts["validation"] or 0) < data.num_train_examples:
            parts.append(
                f"As published, the training split has {data.num_train_examples:,} rows. This run used fewer, so "
                "results published elsewhere are no measure for its own."
            )
    return "## Data\n\n" + "\n\n".join(parts)


def training(facts: RunFacts) -> str:
    """Return how the model was trained, and how to do it again."""
    results, recipe = facts.results, facts.recipe
    names = [name for name in SHOWN_SETTINGS if not (facts.is_language_model and name in SETTINGS_OF_CLASSIFIERS)]
    names += [name for name, usual in RARE_SETTINGS.items() if recipe.get(name, usual) != usual]
    settings = [[f"`{name}`", shown_setting(recipe[name])] for name in names if recipe.get(name) is not None]
    recipe_path, folder = map(shlex.quote, (plain(facts.recipe_path), f"runs/{plain(facts.name)}"))
    script = "train_language_model.py" if facts.is_language_model else "train.py"
    script = "distill.py" if "teacher_name_or_path" in recipe else script
    command = f"python scripts/{script} {recipe_path} --seed {results['seed']} --output_dir {folder}"
    parts = [
        "From a clone of `rnn_hf`, with the `recipe.yaml` that lies beside this card, this repeats the run:\n\n"
        f"{fenced('bash', command)}",
        figure(facts, "learning_curves.png"),
    ]
    if parts[-1]:
        smoothing = recipe.get("label_smoothing_factor")
        note = " The training loss counts the smoothing of the labels, the validation loss does not."
        parts.append(f"The curves of training are means over the epoch so far.{note if smoothing else ''}")
    parts += [
        table(["setting", "value"], settings),
        "`recipe.yaml` holds every argument, `all_results.json` every figure of the run.",
        "The run and its surroundings:",
        table(["fact", "value"], environment(results)),
    ]
    return "## Training\n\n" + "\n\n".join(part for part in parts if part)


def shown_setting(value: Any) -> str:
    """Return a value of a recipe as it stands there; of a folder the name, whose path would be one of this machine."""
    if isinstance(value, str) and not is_hub_id(value):
        value = Path(value).name
    return f"`{plain(str(value).lower())}`"


def environment(results: Mapping[str, Any]) -> list[list[str]]:
    """Return what a run took and what it ran on, as far as it is known."""
    formats = {
        "epochs": ("epoch", "{:g}"),
        "optimizer steps": ("step", "{:,}"),
        "step of the weights kept": ("best_step", "{:,}"),
        "seconds of training": ("train_runtime", "{:.1f}"),
        "texts a second in training": ("train_samples_per_second", "{:,.0f}"),
        "tokens a second in training": ("train_tokens_per_second", "{:,.0f}"),
        "seed": ("seed", "{}"),
        "processes": ("num_processes", "{}"),
        "device": ("device", "{}"),
        "threads": ("num_threads", "{}"),
        "Python": ("python_version", "{}"),
        "torch": ("torch_version", "{}"),
        "transformers": ("transformers_version", "{}"),
        "rnn_hf": ("rnn_hf_version", "{}"),
    }
    rows = [
        [title, form.format(results[key])] for title, (key, form) in formats.items() if results.get(key) is not None
    ]
    for metric in METRICS:
        value = results.get(metric.key.replace("test_", "validation_"))
        if value is not None:
            rows.append([f"{metric.title} on the validation split", metric.shown(value)])
    return rows


def linked_dataset(facts: RunFacts) -> str:
    """Return the name of the dataset, with a link where it is one of the Hub's."""
    title = dataset_title(facts.recipe)
    if hub_dataset(facts.recipe) is not None:
        return f"[{escaped(title)}](https://huggingface.co/datasets/{title})"
    return escaped(title)


def figure(facts: RunFacts, name: str) -> str:
    """Return a figure by its place relative to the card, or nothing if it was not drawn."""
    return f"![{FIGURE_TEXTS[name]}]({FIGURES}/{name})" if name in facts.figures else ""
