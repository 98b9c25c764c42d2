"""Train `TextClassifier.train` with its defaults on many datasets, beside other classifiers on the same rows.

    python -m scripts.research.panel [--datasets NAME ...] [--seeds 42 1 2] [--test] [--folder FOLDER]
        [--models ours tfidf fasttext] [--word_vectors X] [--name COLUMN] [--setting KEY=VALUE ...]
        [--output_file panel.json]

Without `--test` it measures on the validation split or, where there is none, on rows cut from the training split, and
leaves the test split alone. Results that are already in the output file with the same rows and settings are not
computed again. `--name` gives runs with other settings a column of their own. The peers depend on the rows alone, so
where all seeds train on the same rows, they are trained once. fastText is in the extra `benchmark`.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from accelerate.utils import tqdm

from rnn_hf.argument_fields import names_of, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, check_folder_of
from rnn_hf.files import read_json, write_json
from rnn_hf.progress import silenced
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.training.arguments import ClassifierRunArguments
from scripts.research import baselines
from scripts.research.panel_datasets import DATASETS, PanelRows, check_datasets, rows_of_run
from scripts.research.panel_peers import TITLES, check_model2vec, peers_of, settings_of, train_peer
from scripts.research.panel_results import OURS, Run, comparison, measure, panel_table
from scripts.research.render_model_cards import CARDS
from scripts.research.run_recipe import SeedArguments, refuse_single_seed

MODELS = [OURS, "tfidf", "fasttext", "model2vec"]
# The files whose size counts; the others are text for people and code
MODEL_FILES = ("model.safetensors", "tokenizer.json", "config.json")


@dataclass
class PanelArguments(SeedArguments):
    """What to train, on which datasets, and where the results go."""

    datasets: list[str] = field(
        default_factory=lambda: list(DATASETS), metadata={"help": f"Datasets, of {', '.join(DATASETS)}."}
    )
    models: list[str] = field(
        default_factory=lambda: MODELS[:3], metadata={"help": f"Models to train, of {', '.join(MODELS)}."}
    )
    test: bool = field(default=False, metadata={"help": "Measure on the test split, not on validation rows."})
    folder: str | None = path_flag(None, "Folder of local copies of the datasets; others are read from the Hub.")
    word_vectors: str | None = path_flag(None, "Passed to `TextClassifier.train`.")
    setting: list[str] = field(
        default_factory=list, metadata={"help": "Further arguments of `TextClassifier.train`, each KEY=VALUE."}
    )
    name: str = field(default="rnn_hf", metadata={"help": "Column of these results of ours in the table."})
    output_file: str = path_flag(str(CARDS / "panel.json"), "JSON file of the results, which is continued.")
    overwrite: bool = field(
        default=False, metadata={"help": "Train ours again, even if the output file has the results."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_datasets(self.datasets)
        baselines.check_models(self.models, MODELS)
        if "model2vec" in self.models:
            check_model2vec()
        if self.folder is not None and not Path(self.folder).is_dir():
            raise FileNotFoundError(f"`folder` must be a folder, but there is none at {self.folder!r}.")
        self.settings = given_settings(self.setting)
        if self.word_vectors is not None:
            self.settings["word_vectors"] = self.word_vectors

    @property
    def split(self) -> str:
        """Name of the split that is measured."""
        return "test" if self.test else "validation"


def given_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return arguments of training from words of the form `KEY=VALUE`, with the types of their fields.

    Example:
        >>> given_settings(["hidden_size=8", "learning_rate=1e-3"])
        {'hidden_size': 8, 'learning_rate': 0.001}
    """
    for word in settings:
        name, has_value, _ = word.partition("=")
        if not has_value or name in ("seed", "output_dir") or name not in names_of(ClassifierRunArguments):
            raise ValueError(f"`setting` must be KEY=VALUE, an argument of `TextClassifier.train`, got {word!r}.")
    words = [f"--{word}" for word in settings]
    (args,), _ = CommandParser([ClassifierRunArguments]).parse([*words, "--output_dir=unused"])
    return {name: getattr(args, name) for name in (word.split("=")[0] for word in settings)}


class PanelFile:
    """The file of results, which is written after each new one.

    Seeds that share the result of a peer share its answers, which are in the file once.

    Args:
        path: The file.

    Raises:
        ValueError: If it has another form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = read_json(path) if path.exists() else {"runs": [], "comparisons": []}
            answers = {run["key"]: run["answers"] for run in content["runs"] if "answers" in run}
            self.runs: list[Run] = [{**run, "answers": answers[run["key"]]} for run in content["runs"]]
            self.comparisons: list[dict[str, Any]] = list(content["comparisons"])
            self.runs.sort(key=order)
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} must be a file of results of the panel, but it cannot be read as one "
                f"({type(error).__name__}: {error}). Remove it, or choose another file."
            ) from error

    def find(self, **wanted: Any) -> list[Run]:
        """Return the runs that have these values."""
        return [run for run in self.runs if run.items() >= wanted.items()]

    def add(self, run: Run) -> None:
        """Add a run, in the place of one of the same model, dataset, split and seed, and write the file."""
        self.runs = [other for other in self.runs if order(other) != order(run)]
        self.runs.append(run)
        self.runs.sort(key=order)
        self.write()

    def write(self) -> None:
        """Write the file."""
        keys = [run["key"] for run in self.runs]
        runs = [
            {name: run[name] for name in run if name != "answers" or run["key"] not in keys[:number]}
            for number, run in enumerate(self.runs)
        ]
        write_json(self.path, {"runs": runs, "comparisons": self.comparisons})


def order(run: Run) -> tuple[Any, ...]:
    """Return what identifies a run, which is also its sort key."""
    models = [OURS, *TITLES]
    # the column of the default name first
    name = (run["name"] != PanelArguments.name, run["name"])
    return list(DATASETS).index(run["dataset"]), run["split"], models.index(run["model"]), name, run["seed"]


def key_of(run: Mapping[str, Any], rows_digest: str, settings: Mapping[str, Any]) -> str:
    """Return a hash of what the results of a run depend on.

    Args:
        run: Its dataset, split, model, name and, for ours, its seed: the peers depend on the rows alone.
        rows_digest: A hash of its rows.
        settings: The settings of its model.
    """
    seed = run["seed"] if run["model"] == OURS else None
    parts = {name: run[name] for name in ("dataset", "split", "model", "name")}
    content = json.dumps({**parts, "seed": seed, "rows": rows_digest, "settings": settings}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@cache
def digest_of_run(dataset: str, folder: str | None, seed: int, is_test: bool) -> str:
    """Return a hash of the rows of a run; the arguments are those of `rows_of_run`."""
    return rows_of_run(dataset, folder, seed, is_test).digest()


def planned_runs(args: PanelArguments) -> list[Run]:
    """Return all runs with what is known before training, in the order of training."""
    runs = []
    for dataset in args.datasets:
        for seed in args.seeds:
            digest = digest_of_run(dataset, args.folder, seed, args.test)
            for model in [*([OURS] if OURS in args.models else []), *peers_of(args.models, DATASETS[dataset])]:
                settings = args.settings if model == OURS else settings_of(model, DATASETS[dataset])
                name = args.name if model == OURS else None
                run = {"dataset": dataset, "split": args.split, "model": model, "name": name, "seed": seed}
                runs.append({**run, "key": key_of(run, digest, settings)})
    return runs


def classes_of(rows: PanelRows) -> list[str]:
    """Return the names of all classes of rows that may have several, or of those that have one; no numbers."""
    labels = [label for part in (rows.train, rows.measured) for label in part.labels]
    names = {name for label in labels for name in (label if isinstance(label, list) else [label])}
    return sorted(name for name in names if isinstance(name, str))


def train_ours(rows: PanelRows, seed: int, settings: Mapping[str, Any]) -> tuple[TextClassifier, dict[str, Any]]:
    """Train our classifier; return it with the time, the size and the settings.

    Args:
        rows: The rows; those to measure on are not used.
        seed: The seed.
        settings: Arguments of `TextClassifier.train`.
    """
    started = time.perf_counter()
    with user_errors():  # settings that do not fit the data, word vectors that cannot be read
        classifier = TextClassifier.train(
            *rows.train, validation=rows.validation, show_progress=False, seed=seed, **settings
        )
    seconds = time.perf_counter() - started
    defaults = ClassifierRunArguments()
    with tempfile.TemporaryDirectory() as folder, silenced():
        classifier.save_pretrained(folder)
        num_bytes = sum((Path(folder) / name).stat().st_size for name in MODEL_FILES)
    resolved = {
        name: value
        for name, value in classifier.recipe.items()
        if value is not None and value != getattr(defaults, name, None)
    }
    if (
        "word_vectors" in resolved and Path(resolved["word_vectors"]).exists()
    ):  # where a file lies says nothing elsewhere
        resolved["word_vectors"] = Path(resolved["word_vectors"]).name
    facts = {"num_steps": classifier.results["step"], "megabytes": round(num_bytes / 1e6, 3), "settings": resolved}
    return classifier, {"seconds": round(seconds, 2), **facts}


def measure_run(run: Run, args: PanelArguments) -> Run:
    """Train a model and return the run with its results.

    Args:
        run: What is known before training.
        args: The arguments of the program.
    """
    dataset = DATASETS[run["dataset"]]
    rows = rows_of_run(run["dataset"], args.folder, run["seed"], args.test)
    if run["model"] == OURS:
        classifier, facts = train_ours(rows, run["seed"], args.settings)
        answers = classifier.predict(rows.measured.texts, show_progress=False)
    else:
        started = time.perf_counter()
        with user_errors():  # embeddings that cannot be downloaded
            peer = train_peer(run["model"], dataset, rows)
        facts = {"seconds": round(time.perf_counter() - started, 2), "settings": peer.settings}
        answers = list(peer.predict(rows.measured.texts))
    classes = classes_of(rows)
    return {
        **run,
        "num_train_rows": len(rows.train.texts),
        "num_measured_rows": len(rows.measured.texts),
        "num_classes": len(classes),
        **facts,
        **measure(dataset.kind, rows.measured.labels, answers, classes),
    }


def has_these_rows(peer: Run, args: PanelArguments) -> bool:
    """Return whether the result of a peer is for the rows that its dataset and seed have now."""
    digest = digest_of_run(peer["dataset"], args.folder, peer["seed"], args.test)
    return bool(peer["key"] == key_of(peer, digest, settings_of(peer["model"], DATASETS[peer["dataset"]])))


def compare(file: PanelFile, args: PanelArguments) -> None:
    """Write the comparisons of ours with the better peer on the datasets of this call into the file."""
    others = [
        found for found in file.comparisons if found["split"] != args.split or found["dataset"] not in args.datasets
    ]
    compared = []
    for dataset in args.datasets:
        runs = file.find(dataset=dataset, split=args.split)
        rows = rows_of_run(dataset, args.folder, args.seeds[0], args.test)
        peers = [run for run in runs if run["model"] != OURS and has_these_rows(run, args)]
        for name in dict.fromkeys(run["name"] for run in runs if run["model"] == OURS):
            ours = [run for run in runs if run["name"] == name]
            found = comparison(dataset, ours, peers, rows.measured.labels, classes_of(rows))
            if found is not None:
                compared.append({"dataset": dataset, "split": args.split, "name": name, **found})
    file.comparisons = others + compared
    file.write()


@exit_statuses("panel", PanelArguments)
def main(argv: Sequence[str] | None = None) -> list[Run]:
    """Train what is missing, and write the results and the table; return the runs of the split."""
    started = time.perf_counter()
    with user_errors():
        words = sys.argv[1:] if argv is None else list(argv)
        refuse_single_seed(words)
        if sum(word.split("=")[0] == "--setting" for word in words) > 1:
            raise ValueError("`setting` must be given once. Pass every KEY=VALUE after it.")
        (args,), _ = CommandParser([PanelArguments], description=__doc__).parse(words)
        path = Path(args.output_file)
        check_folder_of("output_file", str(path))
        file = PanelFile(path)
        planned = planned_runs(args)

    overwritten = {run["key"] for run in planned if args.overwrite and run["model"] == OURS}
    missing = [run for run in planned if run["key"] in overwritten or not file.find(**run)]
    with tqdm(missing, desc="Measuring the panel", unit="run") as progress:
        for run in progress:
            progress.set_postfix_str(f"{run['dataset']}, {run['model']}, seed {run['seed']}")
            # another seed with the same rows
            equal = [] if run["key"] in overwritten else file.find(key=run["key"])
            file.add({**equal[0], "seed": run["seed"]} if equal else measure_run(run, args))
    compare(file, args)
    shown = panel_table({"runs": file.runs, "comparisons": file.comparisons}, args.split)
    minutes = (time.perf_counter() - started) / 60
    print(f"{shown}\nWritten: {path} ({len(missing)} new runs in {minutes:.1f} minutes)")
    return file.find(split=args.split)


if __name__ == "__main__":
    main()
