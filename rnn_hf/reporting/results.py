"""What the training scripts end with: a finished folder, a summary, and a push to the Hub."""

import platform
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers import PreTrainedTokenizerBase

import rnn_hf
from rnn_hf import RNNPreTrainedModel
from rnn_hf.commands.parser import user_errors
from rnn_hf.data.tokenizer_training import save_tokenizer
from rnn_hf.errors import one_line
from rnn_hf.files import atomic_folder, publish, write_json
from rnn_hf.hub import push_folder
from rnn_hf.reporting.model_card import write_model_card
from rnn_hf.training.arguments import TrainArguments
from rnn_hf.training.loop import Run


@torch.no_grad()
def round_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Round weights to a type they will be saved in, so that what is tested is what is saved."""
    for weight in model.state_dict().values():
        weight.copy_(weight.to(dtype))


def size_and_versions(model: torch.nn.Module) -> dict[str, Any]:
    """Return what `all_results.json` tells of a model and of what it was trained with."""
    return {
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "rnn_hf_version": rnn_hf.__version__,
    }


def write_results(
    model: RNNPreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
    recipe: dict[str, Any],
) -> None:
    """Write the finished model and its papers; a file that stood there is replaced only by a whole one."""
    folder = Path(recipe["output_dir"])
    with atomic_folder(folder / "finished") as beside:
        # the configuration keeps float32, so that whoever loads the model computes in it
        dtype = getattr(torch, recipe["save_dtype"])
        # a weight that is tied to another is saved with it
        weights = {
            name: weight.to(dtype)
            for name, weight in model.state_dict().items()
            if name not in model.all_tied_weights_keys
        }
        model.save_pretrained(beside, state_dict=weights)
        save_tokenizer(tokenizer, beside)
        results["model_bytes"] = (beside / "model.safetensors").stat().st_size
        (beside / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        write_json(beside / "all_results.json", results)
        write_model_card(beside, name=recipe["hub_model_id"] or folder.resolve().name, recipe=recipe)
        if find_spec("matplotlib") is None:
            print('No figures were drawn: matplotlib is not installed (`pip install -e ".[plots]"`).')
    publish(folder / "finished", folder)


def print_summary(results: dict[str, Any], folder: str, seconds: float) -> None:
    """Print what came out, where it lies and how to load it."""
    test = "no test split"
    if results["num_test_examples"] and results["problem_type"] == "regression":
        test = f"R2 {results['test_r2']:.3f}, mean absolute error {results['test_mae']:.3f}"
    elif results["num_test_examples"]:
        test = f"{100 * results['test_accuracy']:.2f} % accuracy, {100 * results['test_macro_f1']:.2f} % macro F1"
    if results["num_test_examples"]:
        test += f" on {results['num_test_examples']:,} rows"
    teacher = ""
    if "teacher_accuracy" in results:
        accuracy, agreement = (100 * results[name] for name in ("teacher_accuracy", "teacher_agreement"))
        teacher = f"\nTeacher:  {accuracy:.2f} % accuracy; teacher and student agree on {agreement:.2f} % of the rows"
    num_rows = results["num_train_examples"] + results.get("num_noised_examples", 0)
    size = (Path(folder) / "model.safetensors").stat().st_size / 1e6
    print(
        f"""
Test:     {test}{teacher}
Training: {results["train_runtime"]:.1f} s, {results["train_samples_per_second"]:,.0f} texts a second, \
{results["epoch"]:g} epochs of {num_rows:,} rows
Written:  {folder} ({size:.1f} MB of weights), {seconds:.1f} s in all

Load it with
    import rnn_hf
    from transformers import pipeline
    classify = pipeline("text-classification", model="{folder}")"""
    )


def push_results(args: TrainArguments) -> None:
    """Push the finished folder to the Hub; a refusal leaves it as it is."""
    name = str(args.hub_model_id)
    try:
        address = push_folder(args.output_dir, name, private=args.hub_private_repo, revision=args.hub_revision)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"The model is whole in {args.output_dir!r}, but it was not pushed: {one_line(error)} "
            f"`python scripts/push_to_hub.py {args.output_dir} {name}` tries again."
        ) from error
    print(f"Pushed:   {address}")


def finish(
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
    started: float,
    script: str,
    print_summary: Callable[[dict[str, Any], str, float], None] = print_summary,
) -> None:
    """Write and show what came out, let go of the other processes, and push the folder if that was asked for.

    Args:
        run: The run, at its end.
        tokenizer: The model's tokenizer.
        results: What `all_results.json` will hold.
        started: When the script began, by `time.perf_counter`.
        script: Its name, which a line about an error begins with.
        print_summary: Prints the results, given the folder and the seconds it all took.
    """
    is_main_process = run.accelerator.is_main_process
    if is_main_process:
        model: RNNPreTrainedModel = run.bare_model  # type: ignore[assignment]  # whatever it was wrapped in
        write_results(model, tokenizer, results, run.recipe)
        print_summary(results, run.args.output_dir, time.perf_counter() - started)
    run.end()
    if run.args.push_to_hub and is_main_process:
        with user_errors(script):
            push_results(run.args)
