"""Train a recurrent text classifier on one device, several processes, or several machines.

    rnn-hf train --train_file mine.csv --output_dir runs/mine
    rnn-hf train model_cards/ag-news/recipe.yaml --output_dir runs/ag-news
    torchrun --nproc_per_node 2 -m rnn_hf train ... --use_cpu

Most settings that you leave out are chosen from the data, shown, and written to `recipe.yaml` in the output folder.
"""

import time
from typing import Any

from rnn_hf.hub import check_hub_access
from rnn_hf.reporting.results import finish_run
from rnn_hf.training.arguments import ClassifierRunArguments
from rnn_hf.training.classifier_task import ClassifierTask
from rnn_hf.training.initial_models import checkpoint_config, load_tokenizer
from rnn_hf.training.launch import start_accelerator
from rnn_hf.training.output_folder import check_output_folder
from rnn_hf.training.settings import CHOSEN_FROM_DATA, follow_the_data
from rnn_hf.training.signals import StopSignals
from rnn_hf.training.splits import load_splits, show_data
from rnn_hf.training.tuning import check_tuning, tune

from .entry import command, user_errors


@command(ClassifierRunArguments, __doc__, from_data=CHOSEN_FROM_DATA)
def main(args: ClassifierRunArguments) -> dict[str, Any]:
    """Train, evaluate and write a classifier; return the content of `all_results.json`."""
    started = time.perf_counter()
    with user_errors():
        check_output_folder(args)
        if args.push_to_hub:
            check_hub_access(args.hub_model_id)
        accelerator = start_accelerator(args)
        check_tuning(args, accelerator.num_processes)

        # the first process reads and tokenizes the rows, the others find them in its cache
        config = checkpoint_config(args)
        with accelerator.main_process_first():
            splits = load_splits(args, config, can_stream=True)
            follow_the_data(args, splits)
            tokenizer = load_tokenizer(splits.iterate_texts, args, config)
            rows = splits.encode(tokenizer, args)
        data = show_data(splits, rows, tokenizer, args) if accelerator.is_main_process else None

        task = ClassifierTask(splits, rows, tokenizer, args, config, accelerator)
        tuning = tune(task, started)
        run = task.prepare(StopSignals(accelerator.num_processes))
        run.start()

    task, run = task.train(run)
    results = run.results() | {"data": data} | ({} if tuning is None else {"tuning": tuning})
    finish_run(run, task.tokenizer, results, started)
    return results
