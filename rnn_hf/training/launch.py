"""The accelerator of a process, and the settings of launchers that are not supported."""

import os
from typing import Any

from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import is_torch_xla_available, set_seed

from .arguments import TrainArguments

# Settings of `accelerate launch` that would be ignored, change the results, or write only a part of the model
UNSUPPORTED_LAUNCHES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}

# Number of kernels that oneDNN keeps. It compiles two for every new length of a batch, in 0.7 ms, and would keep 1,024
# of them, some of which hold a megabyte: an LSTM alone took 690 MB on batches of AG News, and now takes 300. The whole
# training takes 5 % longer; with texts of some 30 lengths, no longer
ONEDNN_PRIMITIVES = 64


def check_launch(bf16: bool = False, gradient_accumulation_steps: int = 1) -> None:
    """Check that `accelerate launch` and its configuration file agree with the arguments of a run.

    Args:
        bf16: Whether the run computes in bfloat16.
        gradient_accumulation_steps: Number of batches per optimizer step.

    Raises:
        ValueError: If they do not.
    """
    for variable, name in UNSUPPORTED_LAUNCHES.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise ValueError(
                f"The launcher asks for {name} (`{variable}`), but training is data parallel: models of a few "
                "megabytes need no sharding. Launch with `torchrun --nproc_per_node N`."
            )
    if is_torch_xla_available():
        raise ValueError("Accelerate would train on XLA, which is not supported. Set `USE_TORCH_XLA=0`.")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in ("no", "bf16" if bf16 else "no"):
        raise ValueError(
            f"The launcher asks for mixed precision in {precision}, but the run computes in "
            f"{'bfloat16' if bf16 else 'float32'}. Launch with `--mixed_precision no`, and train with `bf16=true`."
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", str(gradient_accumulation_steps)):
        raise ValueError(
            f"The launcher asks for {steps} batches per step, but the run takes {gradient_accumulation_steps}. Pass "
            f"`gradient_accumulation_steps={steps}` to the run, not to the launcher."
        )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise ValueError(
            f"The launcher asks for torch.compile ({backend}), which would compile again for every batch length. "
            "Launch with `--dynamo_backend no`."
        )


def create_accelerator(
    use_cpu: bool, bf16: bool = False, gradient_accumulation_steps: int = 1, **settings: Any
) -> Accelerator:
    """Return the accelerator of this process.

    Args:
        use_cpu: Whether to use only the CPU.
        bf16: Whether to compute in bfloat16.
        gradient_accumulation_steps: Number of batches per optimizer step.
        settings: Passed on to `Accelerator`.

    Raises:
        ValueError: If the launcher contradicts the arguments, or started more processes than Accelerate sees.
    """
    check_launch(bf16, gradient_accumulation_steps)
    # the variable would override the argument
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision="bf16" if bf16 else "no",
        gradient_accumulation_steps=gradient_accumulation_steps,
        **settings,
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"The launcher started {launched} processes, but Accelerate sees {accelerator.num_processes}: they would "
            "train separate models. Pass `use_cpu=true` if there are fewer GPUs."
        )
    return accelerator


def start_accelerator(args: TrainArguments) -> Accelerator:
    """Return the accelerator of a training run, with all random generators seeded.

    Args:
        args: Device, precision, gradient accumulation, seed and experiment tracker of the run.

    Raises:
        ValueError: If the launcher contradicts the arguments, or the experiment tracker is not installed.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_PRIMITIVES))
    accelerator = create_accelerator(
        args.use_cpu,
        args.bf16,
        args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
        # batches of similar length are split among processes, so that none waits for longer texts of another
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    if args.report_to != "none" and not accelerator.log_with:
        raise ValueError(
            f"`report_to={args.report_to}` needs the package {args.report_to}. Install it, or leave `report_to` out."
        )
    set_seed(args.seed)
    return accelerator
