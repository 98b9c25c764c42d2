"""Training of a language model: its batches, evaluation, results, and texts that it generates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from rnn_hf.causal_lm_rnn import RNNCache, RNNForCausalLM
from rnn_hf.data.bptt import StreamSampler, TokenStreams
from rnn_hf.progress import say

from .arguments import LanguageModelTrainArguments
from .checkpoints import Checkpoint
from .loop import Run

# Number of tokens in a generated text
GENERATED_LENGTH = 40


def create_stream_loaders(
    splits: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    args: LanguageModelTrainArguments,
    accelerator: Accelerator,
    is_backward: bool,
) -> tuple[dict[str, DataLoader[Any]], StreamSampler]:
    """Return the prepared batches of every split, and the sampler of the training batches.

    Args:
        splits: The encoded rows of each split.
        tokenizer: The tokenizer of the model, which has an end-of-text token.
        args: Batch sizes, length of a piece and seed.
        accelerator: The accelerator of this process.
        is_backward: Whether each text is read from its last token to its first.
    """
    sizes = {"train": args.per_device_train_batch_size, "validation": args.per_device_eval_batch_size}
    loaders, samplers = {}, {}
    for split, rows in splits.items():
        # each process reads its own streams, the same ones in every piece
        num_streams = sizes[split] * accelerator.num_processes
        streams = TokenStreams(rows, tokenizer.eos_token_id, num_streams, args.bptt, is_backward)
        samplers[split] = StreamSampler(streams, args.seed if split == "train" else None)
        loader = DataLoader(
            streams,
            batch_sampler=samplers[split],
            collate_fn=lambda batch: batch,
            # creating an iterator draws from a generator; the global one belongs to dropout
            generator=torch.Generator(),
        )
        loaders[split] = accelerator.prepare(loader, device_placement=[accelerator.device.type != "cpu"])
    streams = samplers["train"].streams
    say(
        f"{streams.num_texts:,} training texts, {streams.num_labels:,} tokens in {len(samplers['train']):,} batches, "
        f"{len(tokenizer):,} words"
    )
    return loaders, samplers["train"]


@dataclass(kw_only=True)
class LanguageModelRun(Run):
    """Training of a language model, which carries its state from batch to batch of an epoch."""

    args: LanguageModelTrainArguments
    sampler: StreamSampler

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cache = RNNCache()

    @property
    def is_faster_on_one_thread(self) -> bool:
        """Whether sharing a step among threads costs more than it saves; with an output layer, it never does."""
        return False

    def read(self, batch: dict[str, torch.Tensor], cache: RNNCache) -> torch.Tensor:
        """Return the mean loss of one piece of all streams, and advance `cache` to the end of the piece."""
        loss: torch.Tensor = self.model(
            input_ids=batch["input_ids"],
            shift_labels=batch["labels"],
            num_items_in_batch=batch["num_labels"],
            cache=cache,
            output_logits=False,
        ).loss
        return loss

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one piece of all streams, which continue from the piece before it."""
        if self.state.batch == 0:
            self.forget_batches()
        loss = self.read(batch, self.cache)
        self.note_loss(loss, batch["num_labels"])
        return loss

    def forget_batches(self) -> None:
        """Reset the state of the model in the streams."""
        self.cache = RNNCache()

    def read_counts(self) -> None:
        """Add the counts of all devices to the state, and show it."""
        self.read_losses()
        state = self.state
        if state.seen:
            speed = state.num_texts / max(state.train_runtime, 1e-9)
            perplexity = perplexity_of(state.loss_sum / state.seen)
            self.progress.set_postfix_str(f"perplexity {perplexity:.1f}, {speed:,.0f} tokens/s", refresh=False)

    def log_running_figures(self) -> None:
        """Print and record the perplexity of the epoch so far."""
        self.read_counts()
        state, num_batches = self.state, self.sampler.num_batches
        loss = state.loss_sum / state.seen
        self.record({"loss": loss, "learning_rate": float(self.schedule.get_last_lr()[0])})
        say(
            f"epoch {state.epoch + 1} | {state.batch:>5}/{num_batches} batches | loss {loss:.3f} "
            f"| perplexity {perplexity_of(loss):.1f}"
        )

    @torch.no_grad()
    def evaluate(self) -> None:
        """Evaluate on the validation split, and keep the weights if they are the best so far."""
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
        say(f"step {self.state.step} | validation perplexity {perplexity_of(loss):.2f}")
        self.keep_if_best(-loss, loss)

    def carried_state(self) -> dict[str, torch.Tensor]:
        """Return the state of the model in the streams of this process."""
        state = self.cache.state
        states = {"hidden_state": state.hidden_state, "cell_state": state.cell_state}
        return {name: value.cpu() for name, value in states.items() if value is not None}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where the run of a checkpoint would have continued."""
        super().restore(checkpoint)
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
        """Return the content of `all_results.json`."""
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
            **self.facts(),
            "log": state.log,
        }


def perplexity_of(loss: float) -> float:
    """Return the perplexity of a mean loss in nats, its exponential."""
    return math.exp(loss) if loss < 700 else math.inf


def generate_texts(model: RNNForCausalLM, tokenizer: PreTrainedTokenizerBase, number: int, seed: int) -> list[str]:
    """Return texts sampled from the most likely words that make up 90 % (nucleus sampling; Holtzman et al., 2020)."""
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
