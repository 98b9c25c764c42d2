"""Sections of a card: what the model is, how to use it, its limits, its data and its training."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_hf.errors import plain
from rnn_hf.hub import NAME_IS_TO_REPLACE

from .dataset_facts import dataset_title, hub_dataset, is_on_hub
from .markdown import escaped, fenced, table
from .run_facts import METRICS, RunFacts

# The most important of the dozens of arguments in a recipe
SHOWN_SETTINGS = (
    "cell_type", "num_hidden_layers", "bidirectional", "hidden_size", "embedding_size", "classifier_pooling",
    "concat_embedding_mean", "pack_padded_sequences", "recurrent_initializer", "vocab_size", "max_length",
    "word_dropout", "embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "label_smoothing_factor",
    "optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm",
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "save_dtype",
    "distillation_loss", "temperature", "alpha", "num_noised_copies", "mask_probability", "ngram_probability",
    "bptt", "adaptive_softmax_cutoffs",
)  # fmt: skip

# Shown only if they differ from these defaults
RARE_SETTINGS = {
    "max_steps": -1,
    "ngram_buckets": 0,
    "class_weights": None,
    "model_name_or_path": None,
    "backward_model_name_or_path": None,
    "layer_learning_rate_decay": 1.0,
    "gradual_unfreezing": False,
}

# Thresholds of up to this many labels are listed
MOST_THRESHOLDS = 30

# Not shown for a language model
SETTINGS_OF_CLASSIFIERS = {
    "bidirectional", "classifier_pooling", "concat_embedding_mean", "pack_padded_sequences", "label_smoothing_factor",
}  # fmt: skip


def summary(facts: RunFacts) -> str:
    """Return what the model is, in a few sentences."""
    recipe, results = facts.recipe, facts.results
    layers = recipe["num_hidden_layers"]
    direction = "bidirectional" if recipe["bidirectional"] else "unidirectional"
    first = (
        f"A recurrent text classifier of the `rnn_hf` family: {direction} {recipe['cell_type'].upper()}, "
        f"{layers} layer{'s' if layers > 1 else ''}, hidden size {recipe['hidden_size']}, "
        f"`{recipe['classifier_pooling']}` pooling"
    )
    if facts.is_language_model:
        first = (
            f"A recurrent language model of the `rnn_hf` family: {recipe['cell_type'].upper()}, "
            f"{layers} layer{'s' if layers > 1 else ''}, hidden size {recipe['hidden_size']}, word vectors of size "
            f"{recipe['embedding_size']} that the output layer shares"
        )
    size = f", {results['num_parameters']:,} parameters" if "num_parameters" in results else ""
    scores = " and ".join(f"{metric.title} {metric.shown(results[metric.key])}" for metric in facts.measured[:2])
    scores = scores.replace(" and M", " and m")
    second = f" {scores} on the {facts.split} split." if scores else ""
    rows = f"trained on {results['num_train_examples']:,} rows of {linked_dataset(facts)}."
    return f"{first}{size}, {rows}{ensemble(recipe)}{ngram_branch(recipe)}{second}"


def ensemble(recipe: Mapping[str, Any]) -> str:
    """Return how many networks the model joins, as a further sentence; nothing if there is one."""
    number = recipe.get("ensemble_size", 1)
    if number == 1:
        return ""
    return (
        f" {number} such networks, trained from different seeds, are joined into one model, whose logits are the mean "
        "of theirs (Hansen and Salamon, 1990)."
    )


def ngram_branch(recipe: Mapping[str, Any]) -> str:
    """Return what the n-gram branch of a classifier is, as a further sentence; nothing if it has none."""
    if not recipe.get("ngram_buckets"):
        return ""
    order, unit = recipe["ngram_order"], "word" if recipe["tokenizer_type"] == "word" else "token"
    ngrams = {1: f"{unit}s", 2: f"{unit}s and {unit} pairs"}.get(order, f"n-grams of up to {order} {unit}s")
    return (
        f" The logits of a linear model of hashed {ngrams} ({recipe['ngram_buckets']:,} buckets; Weinberger et al., "
        "2009), trained separately, are added to those of the recurrent network (wide and deep: Cheng et al., 2016)."
    )


def how_to_use(facts: RunFacts) -> str:
    """Return three ways to load the model."""
    # a JSON string is also a Python string
    name = json.dumps(plain(facts.name), ensure_ascii=False)
    text = json.dumps(next(iter(facts.data.examples), "A text to classify."))
    task = f'"{facts.task}", model={name}'
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
        f"classifier.explain({text}).contributions",
    )
    page = f"`rnn-hf lesson-page {shlex.quote(plain(facts.name))}`"
    has_owner = "/" in facts.name and is_on_hub(facts.name)
    return (
        f"## Use\n\n{'' if has_owner else NAME_IS_TO_REPLACE}"
        f"With the package `rnn_hf`:\n\n{with_package}\n\n"
        f"Without it, transformers runs the code that is stored with the weights:\n\n{with_remote_code}\n\n"
        f"`TextClassifier` is faster for many texts, and says why a text got its label:\n\n{with_text_classifier}\n\n"
        f"{page} writes a page that shows what the network computes while it reads your texts. In a clone of the "
        "package, the notebook `scripts/lesson.ipynb` trains recurrent networks step by step."
    )


def how_to_generate(facts: RunFacts) -> str:
    """Return how to generate text with a language model, and how to train a classifier from it."""
    name = json.dumps(plain(facts.name), ensure_ascii=False)
    lines = (
        "from transformers import pipeline",
        "",
        f'write = pipeline("text-generation", model={name}{{}})',
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
            "It reads texts from the last word to the first, so the words it generates are in reverse order. It is "
            "one half of a bidirectional encoder; the other half is a language model with the same word vectors that "
            "reads forward.\n\n"
        )
    command = f"rnn-hf train {start} --output_dir runs/classifier"
    return (
        f"## Use\n\n{reading}"
        f"With the package `rnn_hf`:\n\n{fenced('python', *with_package)}\n\n"
        "Without it, transformers runs the code that is stored with the weights:\n\n"
        f"{fenced('python', *with_remote_code)}\n\n"
        "To train a classifier that starts from its encoder (Howard and Ruder, 2018):\n\n"
        f"{fenced('bash', command)}"
    )


def use_and_limits(facts: RunFacts) -> str:
    """Return the intended use and the limits of the model."""
    if facts.is_language_model:
        return (
            "## Intended use and limits\n\n"
            "To initialize classifiers of similar texts, and to teach how language models work.\n\n"
            "- Generated text resembles the training texts; it is not necessarily true.\n"
            "- Text is converted to lower case, and words outside its vocabulary are unknown to it.\n"
            "- It reproduces errors and biases of its training texts."
        )
    limits = list(facts.data.limits)
    if not facts.recipe["pack_padded_sequences"]:
        limits.append(
            "It reads padding as if it were text (`pack_padded_sequences: false`), to show the consequence: the "
            "prediction for a text depends on the other texts in its batch."
        )
    points = "\n".join(f"- {limit}" for limit in limits)
    return f"## Intended use and limits\n\n{facts.data.intended_use}\n\n{points}"


def training_data(facts: RunFacts) -> str:
    """Return the source of the rows, and the number of rows used."""
    results, recipe, data = facts.results, facts.recipe, facts.data
    num_train, is_all = results["num_train_examples"], bool(results.get("trained_on_all_rows"))
    counts = {
        "training (validation rows included)" if is_all else "training": num_train,
        "validation": results.get("num_validation_examples"),
        "test": results["num_test_examples"],
    }
    # at the start of a line, a name could be read as the marker of a list
    parts = [f"The dataset: {linked_dataset(facts)}. {data.description}".strip()]
    parts.append(table(["split", "rows used"], [[name, f"{count:,}"] for name, count in counts.items() if count]))
    if data.num_train_examples is not None:
        if results.get("validation_accuracy") is not None or facts.is_language_model:
            share = f"{100 * recipe['validation_size']:.3g}"
            parts.append(
                f"The dataset has no validation split; a stratified random {share} % of its training rows were used "
                "as one."
            )
        if num_train + (0 if is_all else counts["validation"] or 0) < data.num_train_examples:
            parts.append(
                f"As published, the training split has {data.num_train_examples:,} rows. This run used fewer, so its "
                "results cannot be compared with published ones."
            )
    return "## Data\n\n" + "\n\n".join(parts)


def training(facts: RunFacts) -> str:
    """Return how the model was trained, and how to repeat the run."""
    results, recipe = facts.results, facts.recipe
    names = [name for name in SHOWN_SETTINGS if not (facts.is_language_model and name in SETTINGS_OF_CLASSIFIERS)]
    names += [name for name, usual in RARE_SETTINGS.items() if recipe.get(name, usual) != usual]
    if recipe.get("max_steps", -1) > 0:  # they decide, not the epochs
        names.remove("num_train_epochs")
    settings = [[f"`{name}`", shown_setting(recipe[name])] for name in names if recipe.get(name) is not None]
    parts = [how_to_repeat(facts), facts.figure("learning_curves.png")]
    if parts[-1]:
        smoothing = recipe.get("label_smoothing_factor")
        note = " The training loss includes label smoothing, the validation loss does not."
        parts.append(f"Training curves are running means over the epoch.{note if smoothing else ''}")
    parts += [
        table(["setting", "value"], settings),
        "`recipe.yaml` has every argument, `all_results.json` every result of the run.",
        "The run and its environment:",
        table(["fact", "value"], environment(results)),
        trained_twice(results),
        label_thresholds(results),
    ]
    return "## Training\n\n" + "\n\n".join(part for part in parts if part)


def trained_twice(results: Mapping[str, Any]) -> str:
    """Return what the validation figures stand for if the published model was trained on the validation rows, too."""
    if not results.get("trained_on_all_rows"):
        return ""
    of_first = ""
    if results.get("temperature") is not None:
        of_first = " Its temperature is that of the first model."
    elif results.get("label_thresholds") is not None:
        of_first = " Its thresholds are those of the first model."
    return (
        "The validation figures are those of a first model, which was trained without the validation rows. The "
        "published model was then trained from the start on all rows, training and validation, with the same "
        f"settings.{of_first}"
    )


def label_thresholds(results: Mapping[str, Any]) -> str:
    """Return the threshold of each of several labels, if they were chosen."""
    thresholds = results.get("label_thresholds")
    if not thresholds:
        return ""
    shown = list(thresholds.items())[:MOST_THRESHOLDS]
    listed = ", ".join(f"{escaped(name)} {threshold:.2f}" for name, threshold in shown)
    rest = len(thresholds) - len(shown)
    return (
        "Each label has its own threshold of probability, the one with the highest F1 on the validation split: "
        f"{listed}{f', and {rest:,} more in `config.json` (`label_thresholds`)' if rest else ''}."
    )


def how_to_repeat(facts: RunFacts) -> str:
    """Return the command that repeats a run; a run on texts in memory has none."""
    if facts.data_is_in_memory:
        return "It was trained in Python by `TextClassifier.train`, with the arguments in `recipe.yaml`."
    recipe_path, folder = map(shlex.quote, (plain(facts.recipe_path), f"runs/{plain(facts.name)}"))
    job = "train-language-model" if facts.is_language_model else "train"
    job = "distill" if "teacher_name_or_path" in facts.recipe else job
    command = f"rnn-hf {job} {recipe_path} --seed {facts.results['seed']} --output_dir {folder}"
    return f"To repeat the run with the `recipe.yaml` next to this card:\n\n{fenced('bash', command)}"


def shown_setting(value: Any) -> str:
    """Return a value of a recipe as Markdown; of a path only the last part, as the rest is specific to a machine."""
    if isinstance(value, str) and not is_on_hub(value):
        value = Path(value).name
    return f"`{plain(str(value).lower())}`"


def environment(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the cost of a run and the versions and devices it used, as far as they are known."""
    formats = {
        "epochs": ("epoch", "{:g}"),
        "optimizer steps": ("step", "{:,}"),
        "step of the selected weights": ("best_step", "{:,}"),
        "training time, s": ("train_runtime", "{:.1f}"),
        "training texts per second": ("train_samples_per_second", "{:,.0f}"),
        "training tokens per second": ("train_tokens_per_second", "{:,.0f}"),
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
    """Return the name of the dataset, with a link if it is on the Hub."""
    title = dataset_title(facts.recipe)
    if hub_dataset(facts.recipe) is not None:
        return f"[{escaped(title)}](https://huggingface.co/datasets/{title})"
    return escaped(title)
