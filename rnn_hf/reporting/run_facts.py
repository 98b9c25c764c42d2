"""What a card is made from: the recipe, the results and the figures in the folder of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_hf.files import read_json

from .dataset_facts import DatasetFacts, dataset_facts

FIGURES = "figures"

FIGURE_TEXTS = {
    "confusion_matrix.png": "Confusion matrix of the test split",
    "reliability.png": "Reliability diagram of the test split",
    "learning_curves.png": "Loss and accuracy in training",
}


@dataclass(frozen=True)
class Metric:
    """A metric of a card, and its name on the Hub.

    Args:
        key: Its key in `all_results.json`.
        type: Its name among the Hub's metrics.
        title: Its name in the card.
        args: Arguments of the Hub's metric.
        is_share: Whether it is a share, shown in percent.
    """

    key: str
    type: str
    title: str
    args: dict[str, str] | None = None
    is_share: bool = True

    def shown(self, value: float) -> str:
        """Return a value with as many digits as are significant on thousands of rows."""
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


@dataclass(frozen=True)
class RunFacts:
    """What a card is made from.

    Args:
        name: Name of the model.
        recipe: Every argument of the run.
        results: Content of `all_results.json`.
        other_seeds: The results of runs that differ only in their seed.
        prediction: What `python -m scripts.benchmark predict` wrote about the model, if it was measured.
        figures: Names of the files in the folder of figures.
        recipe_path: Path of the recipe relative to a clone of the package.
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
        """What is known about the dataset."""
        return dataset_facts(self.recipe)

    @property
    def data_is_in_memory(self) -> bool:
        """Whether the model was trained on texts that no file and no dataset holds."""
        return self.recipe.get("dataset_name") is None and self.recipe.get("train_file") is None

    @property
    def is_language_model(self) -> bool:
        """Whether the model is a language model rather than a classifier."""
        return "bptt" in self.recipe

    @property
    def split(self) -> str:
        """The split that the metrics are computed on."""
        return "validation" if self.is_language_model else "test"

    @property
    def measured(self) -> list[Metric]:
        """The metrics that the results have."""
        metrics = (PERPLEXITY,) if self.is_language_model else METRICS
        return [metric for metric in metrics if self.results.get(metric.key) is not None]

    @property
    def task(self) -> str:
        """The task, as the Hub names it."""
        return "text-generation" if self.is_language_model else "text-classification"

    def figure(self, name: str) -> str:
        """Return a Markdown image of a figure, or an empty text if it was not drawn."""
        return f"![{FIGURE_TEXTS[name]}]({FIGURES}/{name})" if name in self.figures else ""


def read_run_facts(
    folder: Path, *, name: str, recipe: Mapping[str, Any], recipe_path: str = "recipe.yaml"
) -> RunFacts:
    """Read what a card is made from.

    Args:
        folder: Has `all_results.json`, optionally `all_results_seed_*.json` and `benchmark_predict.json`, and the
            figures in `figures/`.
        name: Name of the model.
        recipe: Every argument of the run.
        recipe_path: Path of the recipe relative to a clone of the package.
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
