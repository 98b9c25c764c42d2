"""Train a recurrent language model on the texts of a dataset, on one device, several processes, or several machines.

    rnn-hf train-language-model --train_file mine.csv --output_dir runs/lm
    rnn-hf train --model_name_or_path runs/lm --train_file mine.csv ...
    torchrun --nproc_per_node 2 -m rnn_hf train-language-model ... --use_cpu

The second line fine-tunes the encoder of the language model as a classifier (Howard and Ruder, 2018). With the same
`--seed` and `--validation_size`, both hold out the same validation rows. The test split is never read.
"""

import time
from typing import Any

import torch

from rnn_hf.hub import check_hub_access
from rnn_hf.reporting.results import finish_run, language_model_summary
from rnn_hf.training.arguments import LanguageModelRunArguments
from rnn_hf.training.initial_models import checkpoint_config, create_language_model, load_tokenizer
from rnn_hf.training.language_model import LanguageModelRun, create_stream_loaders, generate_texts
from rnn_hf.training.launch import start_accelerator
from rnn_hf.training.output_folder import check_output_folder, round_weights
from rnn_hf.training.signals import StopSignals
from rnn_hf.training.splits import load_splits

from .entry import command, user_errors


@command(LanguageModelRunArguments, __doc__)
def main(args: LanguageModelRunArguments) -> dict[str, Any]:
    """Train, evaluate and write a language model; return the content of `all_results.json`."""
    started = time.perf_counter()
    with user_errors():
        check_output_folder(args)
        if args.push_to_hub:
            check_hub_access(args.hub_model_id)
        accelerator = start_accelerator(args)

        config = checkpoint_config(args)
        with accelerator.main_process_first():
            splits = load_splits(args)
            splits.others.pop("test", None)
            tokenizer = load_tokenizer(splits.iterate_texts, args, config)
            rows = splits.encode(tokenizer, args)

        model = create_language_model(tokenizer, args, config)
        loaders, sampler = create_stream_loaders(rows, tokenizer, args, accelerator, model.config.reads_backward)
        run = LanguageModelRun.prepare(
            model,
            args,
            accelerator,
            loaders,
            sampler,
            signals=StopSignals(accelerator.num_processes),
        )
        run.start()

    run.train()
    round_weights(model, getattr(torch, args.save_dtype))
    results = run.results()
    if accelerator.is_main_process:
        results["generated_texts"] = generate_texts(model, tokenizer, args.num_generated_texts, args.seed)
    finish_run(run, tokenizer, results, started, language_model_summary)
    return results
