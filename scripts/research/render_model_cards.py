"""Render the cards and figures in `model_cards/` again, from the recipes and results in the same folders.

    python -m scripts.research.render_model_cards [NAME ...]

After a run, copy its `all_results.json` into `model_cards/NAME/` (those of further seeds as `all_results_seed_*.json`)
and render NAME. A NAME can also be the folder of a run, such as `runs/ag-news`. If the recipe leaves settings to the
data, copy the `recipe.yaml` of the run, which has all of them, as `resolved_recipe.yaml`.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, read_mapping
from rnn_hf.reporting.model_card import write_model_card
from rnn_hf.training.recipes import arguments_of_recipe, as_recipe

CARDS = Path(__file__).resolve().parents[2] / "model_cards"

# What a run has made of a recipe that leaves settings to the data
RESOLVED = "resolved_recipe.yaml"
# What a classifier has from the language model that it starts from
OF_THE_ENCODER = {"cell_type", "num_hidden_layers", "hidden_size", "embedding_size", "vocab_size"}


def resolved_recipe(path: Path) -> dict[str, Any]:
    """Return a recipe with the values a run had, or the defaults, of all arguments that it does not have."""
    resolved = path.with_name(RESOLVED)
    if path.name != RESOLVED and resolved.exists():
        return resolved_recipe(resolved) | read_mapping(path, "recipe", "flags to values")
    (args,), _ = CommandParser([arguments_of_recipe(path)]).parse([str(path), "--output_dir", path.parent.name])
    recipe = as_recipe(args)
    start = CARDS / Path(recipe["model_name_or_path"] or "").name / "recipe.yaml"
    if start.exists() and "bptt" in (encoder := read_mapping(start, "recipe", "flags to values")):
        recipe |= {name: encoder[name] for name in encoder.keys() & OF_THE_ENCODER}
        recipe["bidirectional"] = recipe["backward_model_name_or_path"] is not None
    return recipe


def described(folder: Path) -> dict[str, Any]:
    """Return the name of a model, its recipe and the path of the recipe, from the folder of its card."""
    path = folder.resolve() / "recipe.yaml"
    recipe = resolved_recipe(path)
    return {
        "name": recipe["hub_model_id"] or path.parent.name,
        "recipe": recipe,
        "recipe_path": path.relative_to(CARDS.parent).as_posix() if path.is_relative_to(CARDS) else path.name,
    }


@exit_statuses("render_model_cards")
def main(argv: Sequence[str] | None = None) -> None:
    """Render the named cards, or all."""
    names = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(names):
        print(__doc__)
        return
    with user_errors():
        if find_spec("matplotlib") is None:
            raise ValueError('The figures need matplotlib. Install it with `pip install -e ".[plots]"`.')
        cards = [CARDS / name if (CARDS / name).is_dir() else Path(name) for name in names]
        for folder in cards or sorted(path.parent for path in CARDS.glob("*/recipe.yaml")):
            write_model_card(folder, **described(folder))
            print(f"Written: {folder / 'README.md'}")


if __name__ == "__main__":
    main()
