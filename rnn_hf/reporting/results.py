"""How a run finishes: the files in its folder, the summary that a person reads, and the push to the Hub."""

import hashlib
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PreTrainedTokenizerBase

from rnn_hf.errors import ExitStatusError, one_line
from rnn_hf.files import atomic_folder, publish, write_json
from rnn_hf.hub import push_folder, remove_onnx
from rnn_hf.modeling_rnn import RNNPreTrainedModel
from rnn_hf.progress import say
from rnn_hf.safe_loading import WEIGHTS
from rnn_hf.training.arguments import TrainArguments
from rnn_hf.training.loop import Run
from rnn_hf.training.output_folder import save_model

from .model_card import write_model_card


def write_results(
    model: RNNPreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
    recipe: dict[str, Any],
    folder: Path,
) -> None:
    """Write a finished model with its recipe, results and card; each file there is replaced by a complete one only.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        results: Content of `all_results.json`; gets the size and the checksum of the weights.
        recipe: Every argument of the run.
        folder: Where the files go; other files there stay.
    """
    with atomic_folder(folder / "finished") as finished:
        results["model_bytes"] = save_model(model, tokenizer, finished, getattr(torch, recipe["save_dtype"]))
        with (finished / WEIGHTS).open("rb") as weights:
            results["model_sha256"] = hashlib.file_digest(weights, "sha256").hexdigest()
        (finished / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        write_json(finished / "all_results.json", results)
        write_model_card(finished, name=recipe["hub_model_id"] or folder.resolve().name, recipe=recipe)
        if find_spec("matplotlib") is None:
            say('No figures were drawn: matplotlib is not installed (`pip install "rnn-hf[plots]"`).')
    publish(folder / "finished", folder)
    remove_onnx(folder)


def classifier_summary(results: dict[str, Any], folder: Path, seconds: float) -> str:
    """Return the results of a classifier in a few lines: what it reached, where it is, and how to load it.

    Args:
        results: Content of `all_results.json`.
        folder: Where the model is.
        seconds: Duration of everything.
    """
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
    num_rows = sum(results.get(f"num_{kind}_examples", 0) for kind in ("train", "noised", "unlabelled"))
    size = (folder / WEIGHTS).stat().st_size / 1e6
    return f"""
Test:     {test}{teacher}
Training: {results["train_runtime"]:.1f} s, {results["train_samples_per_second"]:,.0f} texts a second, \
{results["epoch"]:g} epochs of {num_rows:,} rows
Written:  {folder} ({size:.1f} MB of weights), {seconds:.1f} s in all

Load it with
    from rnn_hf import TextClassifier
    classifier = TextClassifier.from_pretrained("{folder}")"""


def language_model_summary(results: dict[str, Any], folder: Path, seconds: float) -> str:
    """Return the results of a language model in a few lines; arguments are those of `classifier_summary`."""
    perplexity = results["validation_perplexity"]
    validation = "no validation split"
    if perplexity is not None:
        validation = f"perplexity {perplexity:.2f} on {results['num_validation_tokens']:,} tokens"
    samples = "\n".join(f"    {text}" for text in results["generated_texts"])
    size = (folder / WEIGHTS).stat().st_size / 1e6
    start = f"--model_name_or_path {folder}"
    if results["reads_backward"]:
        start = f"--model_name_or_path FORWARD --backward_model_name_or_path {folder}"
    return f"""
Validation: {validation}
Training:   {results["train_runtime"]:.1f} s, {results["train_tokens_per_second"]:,.0f} tokens a second, \
{results["epoch"]:g} epochs of {results["num_train_tokens"]:,} tokens
Written:    {folder} ({size:.1f} MB of weights), {seconds:.1f} s in all
Generated:
{samples}

Fine-tune it with
    rnn-hf train {start} --output_dir {folder}-classifier"""


def push_results(args: TrainArguments) -> None:
    """Push the finished folder of a run to the Hub.

    Raises:
        ExitStatusError: If the Hub refuses; the folder stays as it is.
    """
    name = str(args.hub_model_id)
    try:
        address = push_folder(str(args.output_dir), name, private=args.hub_private_repo, revision=args.hub_revision)
    except (ValueError, OSError) as error:
        raise ExitStatusError(
            f"The model is complete in {args.output_dir!r}, but it was not pushed: {one_line(error)} "
            f"`rnn-hf push {args.output_dir} {name}` tries again."
        ) from error
    say(f"Pushed:   {address}")


def finish_run(
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
    started: float,
    summary: Callable[[dict[str, Any], Path, float], str] = classifier_summary,
) -> None:
    """Write and show the results of a run, release the other processes, and push the folder if that was asked for.

    Args:
        run: The run, after its last step.
        tokenizer: The model's tokenizer.
        results: Content of `all_results.json`.
        started: What `time.perf_counter()` was when everything started.
        summary: Returns the results as text, given the folder and the seconds.
    """
    is_main_process = run.accelerator.is_main_process
    run.end()
    if not is_main_process or run.folder is None:
        return
    model: RNNPreTrainedModel = run.bare_model  # type: ignore[assignment]  # whatever it was wrapped in
    write_results(model, tokenizer, results, run.recipe, run.folder)
    say(summary(results, run.folder, time.perf_counter() - started))
    if run.args.push_to_hub:
        push_results(run.args)
