"""The output folder of a run: its checks before the run, and the finished model in it."""

import platform
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from rnn_hf.data.tokenizer_training import save_tokenizer
from rnn_hf.modeling_rnn import RNNPreTrainedModel
from rnn_hf.safe_loading import WEIGHTS
from rnn_hf.version import __version__

from .arguments import TrainArguments


def check_folder_can_be_made(folder: Path) -> None:
    """Check that a folder exists or could be created, before hours are spent on its content.

    Args:
        folder: The value of `output_dir`.

    Raises:
        ValueError: If the folder, or one of its parents, is a file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(
                f"`output_dir` must be a folder, got {str(folder)!r}, but {str(place)!r} is a file. Pass another one."
            )


def check_output_folder(args: TrainArguments) -> Path:
    """Return the folder of a run, which must be new, empty, that of the resumed run, or one that may be overwritten.

    Args:
        args: `output_dir`, `overwrite_output_dir` and `resume_from_checkpoint`.

    Raises:
        FileNotFoundError: If the checkpoint to resume from does not exist.
        ValueError: If no folder is given, or it has another run.
    """
    if args.output_dir is None:
        raise ValueError("`output_dir` must be given, got none. Pass the folder for the model.")
    folder = Path(args.output_dir)
    check_folder_can_be_made(folder)
    may_have_files = args.overwrite_output_dir or args.resume_from_checkpoint is not None
    if not may_have_files and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"The folder {str(folder)!r} is not empty. Pass `overwrite_output_dir` to replace the run in it, or "
            "another `output_dir`; `resume_from_checkpoint=latest` resumes the run."
        )
    checkpoint = args.resume_from_checkpoint
    if checkpoint not in (None, "latest") and not Path(str(checkpoint)).is_dir():
        raise FileNotFoundError(f"The checkpoint '{checkpoint}' does not exist. Pass the path of one, or `latest`.")
    return folder


@torch.no_grad()
def round_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Round weights to the type in which they will be saved, so that the tested model is the saved one."""
    for weight in model.state_dict().values():
        if weight.is_floating_point():
            weight.copy_(weight.to(dtype))


def run_facts(
    model: torch.nn.Module, args: TrainArguments, device: torch.device, num_processes: int, num_threads: int
) -> dict[str, Any]:
    """Return the entries of `all_results.json` on the size of a model and how it was trained.

    Args:
        model: The model.
        args: The seed of the run.
        device: Device of the model.
        num_processes: Number of processes.
        num_threads: Number of threads of each process.
    """
    return {
        "num_processes": num_processes,
        "seed": args.seed,
        "device": device.type,
        "num_threads": num_threads,
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "rnn_hf_version": __version__,
    }


def save_model(model: RNNPreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype) -> int:
    """Save a model with its tokenizer; return the size of the weights in bytes.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: Folder for the files.
        dtype: Type of the saved weights. The configuration keeps float32, so that a loaded model computes in float32.
    """
    tied = model.all_tied_weights_keys
    weights = {
        name: weight.to(dtype) if weight.is_floating_point() else weight
        for name, weight in model.state_dict().items()
        if name not in tied
    }
    model.save_pretrained(folder, state_dict=weights)
    save_tokenizer(tokenizer, folder)
    return (folder / WEIGHTS).stat().st_size
