r"""Train a small recurrent classifier on the answers of one or several larger classifiers.

    rnn-hf distill --teacher_name_or_path TEACHER [TEACHER ...] \
        --train_file mine.csv --unlabelled_file more.txt --output_dir runs/mine

A teacher is a classifier of any architecture, with its tokenizer, in a folder or on the Hub. It classifies each text
once; the student then learns its answers (Hinton et al., 2015; Tang et al., 2019). The other flags are those of
`rnn-hf train`, and most that you leave out are chosen from the data.
"""

import time
from typing import Any

import numpy as np
import torch

from rnn_hf.hub import check_hub_access
from rnn_hf.progress import say
from rnn_hf.reporting.results import finish_run
from rnn_hf.training.arguments import DistillationRunArguments
from rnn_hf.training.classifier import ClassifierRun, create_label_loss, create_loaders
from rnn_hf.training.distillation import DistillationLoss, teacher_results
from rnn_hf.training.initial_models import checkpoint_config, create_classifier, load_tokenizer
from rnn_hf.training.launch import start_accelerator
from rnn_hf.training.ngram_fit import fit_ngrams
from rnn_hf.training.output_folder import check_output_folder
from rnn_hf.training.settings import CHOSEN_FOR_STUDENTS, follow_the_data
from rnn_hf.training.signals import StopSignals
from rnn_hf.training.splits import load_splits, show_data
from rnn_hf.training.teachers import ask_teachers, load_teacher, with_teachers_labels, with_teachers_rows

from .entry import command, user_errors


@command(DistillationRunArguments, __doc__, from_data=CHOSEN_FOR_STUDENTS)
def main(args: DistillationRunArguments) -> dict[str, Any]:
    """Train, evaluate and write a student; return the content of `all_results.json`."""
    started = time.perf_counter()
    with user_errors():
        check_output_folder(args)
        if args.push_to_hub:
            check_hub_access(args.hub_model_id)
        accelerator = start_accelerator(args)

        config = checkpoint_config(args)
        with accelerator.main_process_first():
            splits = load_splits(args, config)
            follow_the_data(args, splits)
            tokenizer = load_tokenizer(splits.iterate_texts, args, config)
            rows = splits.encode(tokenizer, args)
        num_texts = len(rows["train"])
        if splits.problem_type != "single_label_classification":
            raise ValueError(f"Distillation needs one class per text, got a problem of type {splits.problem_type}.")
        data = show_data(splits, rows, tokenizer, args) if accelerator.is_main_process else None
        if splits.unlabelled is not None:
            say(f"No label: {len(splits.unlabelled):,} texts, for the teachers")
        model = create_classifier(splits, tokenizer, args, config, None)
        label_loss = create_label_loss(rows["train"], splits, args, accelerator.device)

        # the student must not depend on random numbers of the teachers, nor on whether their answers are cached
        with torch.random.fork_rng():
            # load all teachers before the first one answers, which may take an hour
            teachers = [load_teacher(name, splits.label_names, args) for name in args.teacher_name_or_path]
            rows = with_teachers_rows(rows, splits, tokenizer, args)
            answers = ask_teachers(teachers, splits, args, accelerator)
        rows["train"] = with_teachers_labels(rows["train"], answers["train"])
        loss = DistillationLoss(args, answers["train"], label_loss, num_texts, accelerator.device)

        without_copies = rows["train"].select(range(len(splits.texts_to_learn())))
        fit_ngrams(model, without_copies, splits, args.class_weights, args.word_vectors is not None)
        loaders, sampler = create_loaders(rows, tokenizer, args, accelerator)
        run = ClassifierRun.prepare(
            model,
            args,
            accelerator,
            loaders,
            sampler,
            signals=StopSignals(accelerator.num_processes),
            label_names=splits.label_names,
            problem_type=splits.problem_type,
            loss=loss,
        )
        run.start()

    run.train()
    run.finish_weights()
    results = run.results()
    num_noised, num_unlabelled = results["num_train_examples"] - len(without_copies), len(without_copies) - num_texts
    results = {"num_noised_examples": num_noised, "num_unlabelled_examples": num_unlabelled, **results, "data": data}
    results["num_train_examples"] = num_texts
    if run.test_logits is not None:
        labels = np.asarray(splits.others["test"].with_format("numpy")["label"][:])
        results = teacher_results(args.teacher_name_or_path, answers["test"], run.test_logits, labels) | results
    finish_run(run, tokenizer, results, started)
    return results
