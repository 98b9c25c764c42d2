"""Train a recurrent language model on the texts of a dataset, on one device, several processes, or several machines.

    python scripts/train_language_model.py [RECIPE.yaml] --output_dir runs/language-model [--flag value ...]
    torchrun --nproc_per_node 2 scripts/train_language_model.py ... --use_cpu

Labels and the test split are not read, and the validation split is the one that `train.py` cuts with the same seed: so
`train.py --model_name_or_path runs/language-model` fine-tunes the encoder on rows it may have seen, and is measured on
rows it has not (Howard and Ruder, 2018). A recipe is a YAML file of the same flags; `--help` lists them all.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from datasets import DatasetDict
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from rnn_hf import RNNCache, RNNConfig, RNNForCausalLM
from rnn_hf.commands.parser import ScriptParser, exit_statuses, user_errors
from rnn_hf.data.bptt import StreamSampler, TokenStreams
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import DEFAULT_DATASET, iterate_texts
from rnn_hf.reporting.results import finish, round_weights, size_and_versions
from rnn_hf.safe_loading import check_model
from rnn_hf.training.arguments import (
    DataArguments,
    LanguageModelArguments,
    LanguageModelTrainArguments,
    as_recipe,
)
from rnn_hf.training.checkpoints import Checkpoint
from rnn_hf.training.loop import Run
from rnn_hf.training.optimization import create_optimizer, create_schedule, num_training_steps
from rnn_hf.training.preparation import (
    CHANGEABLE,
    begin,
    check_checkpoint,
    load_data,
    load_tokenizer,
    place_word_vectors,
)

# How many tokens a text has that the finished model makes up
GENERATED_LENGTH = 40


def create_model(
    tokenizer: PreTrainedTokenizerBase,
    model_args: LanguageModelArguments,
    args: LanguageModelTrainArguments,
    given: set[str],
    config: RNNConfig | None,
) -> RNNForCausalLM:
    """Return a new model, or the checkpoint's, of which this is the configuration."""
    settings = asdict(model_args)
    if config is None or args.model_name_or_path is None:
        settings["vocab_size"] = len(tokenizer)
        return RNNForCausalLM(
            RNNConfig(
                **settings,
                pad_token_id=tokenizer.pad_token_id,
                unk_token_id=tokenizer.unk_token_id,
                # what ends a text is also what every text begins after
                bos_token_id=tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    check_checkpoint(config, args, settings, given, CHANGEABLE, len(tokenizer))
    model: RNNForCausalLM = RNNForCausalLM.from_pretrained(
        args.model_name_or_path,
        use_safetensors=True,
        **{name: settings[name] for name in given & CHANGEABLE},
    )
    return model


def prepare(
    model_args: LanguageModelArguments,
    data_args: DataArguments,
    args: LanguageModelTrainArguments,
    given: set[str],
) -> tuple[DatasetDict, PreTrainedTokenizerBase, RNNForCausalLM, dict[str, Any]]:
    """Return encoded texts, their tokenizer, the model, and every argument of the run as a recipe."""
    RNNConfig(**asdict(model_args))  # a wrong value is told before any data is read
    if data_args.dataset_name is None and not data_args.has_files:
        data_args.dataset_name = DEFAULT_DATASET
    config = None if args.model_name_or_path is None else check_model(args.model_name_or_path, RNNForCausalLM)
    with PartialState().main_process_first():  # the others read what it has cached
        texts = load_data(data_args, args, None)
        texts.pop("test", None)
        tokenizer = load_tokenizer(
            lambda: iterate_texts(texts["train"]), model_args, data_args, args, config, has_end_of_text=True
        )
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"The tokenizer {data_args.tokenizer_name_or_path or args.model_name_or_path!r} has no end-of-text "
                "token (`eos_token`), which tells the texts of a stream apart. Leave it out, or add one."
            )
        dataset = encode_dataset(texts, tokenizer, data_args.max_length)
    model = create_model(tokenizer, model_args, args, given, config)
    place_word_vectors(model, tokenizer, data_args)
    # the recipe says what the model became: a checkpoint's sizes, the vocabulary that was found
    model_args = LanguageModelArguments(**{name: getattr(model.config, name) for name in asdict(model_args)})
    return dataset, tokenizer, model, as_recipe(model_args, data_args, args)


def create_loaders(
    dataset: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    args: LanguageModelTrainArguments,
    accelerator: Accelerator,
    is_backward: bool,
) -> tuple[dict[str, DataLoader[Any]], StreamSampler]:
    """Return the prepared batches of every split, and the sampler of the training batches."""
    sizes = {"train": args.per_device_train_batch_size, "validation": args.per_device_eval_batch_size}
    loaders, samplers = {}, {}
    for split, rows in dataset.items():
        # every process reads streams of its own, the same ones from piece to piece
        num_streams = sizes[split] * accelerator.num_processes
        streams = TokenStreams(rows, tokenizer.eos_token_id, num_streams, args.bptt, is_backward)
        samplers[split] = StreamSampler(streams, args.seed if split == "train" else None)
        loader = DataLoader(
            streams,
            batch_sampler=samplers[split],
            collate_fn=lambda batch: batch,
            # making an iterator draws from a generator; the global one belongs to dropout
            generator=torch.Generator(),
        )
        loaders[split] = accelerator.prepare(loader, device_placement=[accelerator.device.type != "cpu"])
    return loaders, samplers["train"]


@dataclass(kw_only=True)
class LanguageModelRun(Run):
    """A language model in training."""

    args: LanguageModelTrainArguments
    sampler: StreamSampler

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cache = RNNCache()

    @property
    def has_little_work(self) -> bool:
        """Whether sharing out a step among threads costs more than it saves: the output layer is always worth it."""
        return False

    def read(self, batch: dict[str, torch.Tensor], cache: RNNCache) -> torch.Tensor:
        """Return the mean loss of one piece of all streams, and let `cache` go on to its end."""
        loss: torch.Tensor = self.model(
            input_ids=batch["input_ids"],
            shift_labels=batch["labels"],
            num_items_in_batch=batch["num_labels"],
            cache=cache,
            output_logits=False,
        ).loss
        return loss

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one piece of all streams, which go on from the piece before it."""
        if self.state.batch == 0:
            self.forget_batches()
        loss = self.read(batch, self.cache)
        self.note_loss(loss, batch["num_labels"])
        return loss

    def forget_batches(self) -> None:
        """Forget what the model remembers of the streams."""
        self.cache = RNNCache()

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        self.read_losses()
        state = self.state
        if state.seen:
            speed = state.num_texts / max(state.train_runtime, 1e-9)
            perplexity = perplexity_of(state.loss_sum / state.seen)
            self.progress.set_postfix_str(f"perplexity {perplexity:.1f}, {speed:,.0f} tokens/s", refresh=False)

    def log_running_figures(self) -> None:
        """Write a line with the perplexity of the epoch so far."""
        self.read_counts()
        state, num_batches = self.state, self.sampler.num_batches
        loss = state.loss_sum / state.seen
        self.record({"loss": loss, "learning_rate": float(self.schedule.get_last_lr()[0])})
        self.progress.write(
            f"epoch {state.epoch + 1} | {state.batch:>5}/{num_batches} batches | loss {loss:.3f} "
            f"| perplexity {perplexity_of(loss):.1f}"
        )

    @torch.no_grad()
    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        if not self.evaluates:
            return
        self.read_counts()
        self.model.eval()
        cache = RNNCache()
        pieces = [
            torch.stack([self.read(batch, cache) * batch["num_labels"], batch["num_labels"]])
            for batch in self.loaders["validation"]
        ]
        self.model.train()
        loss_sum, num_labels = self.accelerator.reduce(torch.stack(pieces), reduction="sum").double().sum(0).tolist()
        loss = loss_sum / num_labels
        self.record({"validation_perplexity": perplexity_of(loss), "validation_loss": loss})
        self.progress.write(f"step {self.state.step} | validation perplexity {perplexity_of(loss):.2f}")
        self.keep_if_best(-loss, loss)

    def stream_state(self) -> dict[str, torch.Tensor]:
        """Return what the model remembers of the streams of this process."""
        state = self.cache.state
        states = {"hidden_state": state.hidden_state, "cell_state": state.cell_state}
        return {name: value.cpu() for name, value in states.items() if value is not None}

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        super().resume(checkpoint)
        states = checkpoint.stream_states(self.accelerator.process_index, self.accelerator.num_processes)
        if states:
            device = self.accelerator.device
            cell_state = states.get("cell_state")
            self.cache.state.advance(
                states["hidden_state"].to(device),
                None if cell_state is None else cell_state.to(device),
                self.state.batch * self.args.bptt,
            )

    def results(self) -> dict[str, Any]:
        """Return what `all_results.json` holds."""
        state = self.state
        num_texts, num_tokens = {}, {}
        for split, loader in self.loaders.items():
            streams: TokenStreams = loader.dataset  # type: ignore[assignment]  # `create_loaders` made it so
            num_texts[split], num_tokens[split] = streams.num_texts, streams.num_labels
        loss = None if state.best_metric is None else -state.best_metric
        return {
            "problem_type": "language_modeling",
            "validation_perplexity": None if loss is None else perplexity_of(loss),
            "validation_loss": loss,
            "train_loss": state.loss_sum / max(state.seen, 1),
            "epoch": state.num_texts / num_tokens["train"],
            "step": state.step,
            "best_step": state.best_step if state.best_metric is not None else state.step,
            "train_runtime": state.train_runtime,
            "train_tokens_per_second": state.num_texts / max(state.train_runtime, 1e-9),
            "num_train_examples": num_texts["train"],
            "num_train_tokens": num_tokens["train"],
            "num_validation_examples": num_texts.get("validation", 0),
            "num_validation_tokens": num_tokens.get("validation", 0),
            "num_test_examples": 0,
            "reads_backward": self.recipe["reads_backward"],
            "num_processes": self.accelerator.num_processes,
            "seed": self.args.seed,
            "device": self.accelerator.device.type,
            "num_threads": self.num_threads,
            **size_and_versions(self.bare_model),
            "log": state.log,
        }


def perplexity_of(loss: float) -> float:
    """Return the perplexity of a mean loss in nats: among so many words, all as likely, it would be as unsure."""
    return math.exp(loss) if loss < 700 else math.inf


def generate_texts(model: RNNForCausalLM, tokenizer: PreTrainedTokenizerBase, number: int, seed: int) -> list[str]:
    """Return texts that the model makes up, drawn from the likeliest words, 90 % in all (Holtzman et al., 2020)."""
    if number == 0:
        return []
    set_seed(seed)
    model.eval()  # type: ignore[no-untyped-call]  # transformers does not type it
    tokens = model.generate(
        do_sample=True,
        top_p=0.9,
        max_new_tokens=GENERATED_LENGTH,
        num_return_sequences=number,
        suppress_tokens=[tokenizer.pad_token_id, tokenizer.unk_token_id],
    )
    if model.config.reads_backward:
        tokens = tokens.flip(1)
    texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def print_summary(results: dict[str, Any], folder: str, seconds: float) -> None:
    """Print what came out, where it lies and how to load it."""
    perplexity = results["validation_perplexity"]
    validation = "no validation split"
    if perplexity is not None:
        validation = f"perplexity {perplexity:.2f} on {results['num_validation_tokens']:,} tokens"
    samples = "\n".join(f"    {text}" for text in results["generated_texts"])
    size = (Path(folder) / "model.safetensors").stat().st_size / 1e6
    start = f"--model_name_or_path {folder}"
    if results["reads_backward"]:
        start = f"--model_name_or_path FORWARD --backward_model_name_or_path {folder}"
    print(
        f"""
Validation: {validation}
Training:   {results["train_runtime"]:.1f} s, {results["train_tokens_per_second"]:,.0f} tokens a second, \
{results["epoch"]:g} epochs of {results["num_train_tokens"]:,} tokens
Written:    {folder} ({size:.1f} MB of weights), {seconds:.1f} s in all
Made up:
{samples}

Fine-tune it with
    python scripts/train.py {start} --output_dir {folder}-classifier"""
    )


@exit_statuses("train_language_model.py")
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and write a language model; return what `all_results.json` holds."""
    started = time.perf_counter()
    with user_errors("train_language_model.py"):
        parser = ScriptParser(
            (LanguageModelArguments, DataArguments, LanguageModelTrainArguments), description=__doc__
        )
        (model_args, data_args, args), given = parser.parse(sys.argv[1:] if argv is None else argv)
        accelerator = begin(args)
        dataset, tokenizer, model, recipe = prepare(model_args, data_args, args, given)
        loaders, sampler = create_loaders(dataset, tokenizer, args, accelerator, model.config.reads_backward)
        streams = sampler.streams
        accelerator.print(
            f"{streams.num_texts:,} training texts, {streams.num_labels:,} tokens in {len(sampler):,} batches, "
            f"{len(tokenizer):,} words"
        )
        num_steps = num_training_steps(args, len(loaders["train"]))
        optimizer = create_optimizer(model, args, accelerator.device)
        run = LanguageModelRun(
            args=args,
            recipe=recipe,
            accelerator=accelerator,
            model=model,
            optimizer=optimizer,
            schedule=create_schedule(optimizer, args, num_steps),
            loaders=loaders,
            sampler=sampler,
            num_steps=num_steps,
        )
        run.start()

    run.train()
    round_weights(model, getattr(torch, args.save_dtype))
    results = run.results()
    if accelerator.is_main_process:
        results["generated_texts"] = generate_texts(model, tokenizer, args.num_generated_texts, args.seed)
    finish(run, tokenizer, results, started, "train_language_model.py", print_summary)
    return results


if __name__ == "__main__":
    main()
