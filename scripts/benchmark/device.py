"""The sub-command `device`: how well training uses a GPU."""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
import yaml
from accelerate.utils import tqdm

from rnn_hf import RNNConfig, RNNModel
from rnn_hf.argument_fields import flag
from rnn_hf.data.batching import EncodedRows, LengthGroupedBatchSampler
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import iterate_texts, load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from scripts.benchmark.report import IN_TURNS, Benchmark, DatasetBenchmarkArguments, Promise, Report, take_turns
from scripts.benchmark.training import RECIPES, few_steps, recipe_file, train_quietly

MAX_LENGTH = 512


@dataclass(kw_only=True)
class DeviceBenchmarkArguments(DatasetBenchmarkArguments):
    """Training texts per second, compared with the recurrent layers alone, on the GPU if there is one."""

    recipe: str = flag("ag-news", "Recipe in `model_cards/` whose training is measured.")
    num_steps: int = flag(300, "Optimizer steps per round.", at_least=1)
    bf16: bool = flag(False, "Whether both compute in bfloat16.")
    use_cpu: bool = flag(False, "Whether to stay on the CPU.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (RECIPES / self.recipe / "recipe.yaml").is_file():
            raise ValueError(f"`recipe` must be a folder of {RECIPES.name}, got {self.recipe!r}.")


class DeviceBenchmark(Benchmark):
    """Compares training with the forward and backward pass of the model's recurrent layers alone.

    Args:
        args: The flags.
    """

    def __init__(self, args: DeviceBenchmarkArguments) -> None:
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() and not args.use_cpu else "cpu")
        self.recipe = yaml.safe_load(recipe_file(args.recipe).read_text())
        dataset = load_text_dataset(args.dataset_name, splits=["train"], validation_size=0)
        tokenizer = train_tokenizer(iterate_texts(dataset["train"]), vocab_size=self.recipe["vocab_size"])
        lengths = EncodedRows(encode_dataset(dataset, tokenizer, MAX_LENGTH)["train"]).lengths
        batches = LengthGroupedBatchSampler(lengths, self.recipe["per_device_train_batch_size"])
        self.shapes = [(len(batch), max(1, int(lengths[batch].max()))) for batch in islice(batches, args.num_steps)]

    def run(self) -> Report:
        """Measure both in turns."""
        names = {"rnn-hf train": self.training, "the recurrent layers alone": self.layers}
        rates = take_turns({name: partial(measure) for name, measure in names.items()}, self.args.rounds, "Measuring")
        training, layers = rates.values()
        return Report(
            header=f"Training on {self.device.type}: {self.args.num_steps} steps of `{self.args.recipe}`"
            f"{' in bfloat16' if self.args.bf16 else ''}, {self.args.rounds} {IN_TURNS}",
            columns={"name": "what", "texts_per_second": "texts/s"},
            rows=[{"name": name, "texts_per_second": rate} for name, rate in rates.items()],
            promises=[
                Promise(
                    "on a GPU, at least 70 % of the rate of the layers alone, in percent",
                    100 * training.over(layers).median if self.device.type == "cuda" else None,
                    at_least=70,
                )
            ],
            facts={"device": self.device.type, "percent_of_the_layers": 100 * training.over(layers).median},
        )

    def training(self) -> float:
        """Return the texts per second of training."""
        with tempfile.TemporaryDirectory() as folder:
            use_cpu = self.device.type == "cpu"
            argv = few_steps(self.args.recipe, self.args.num_steps, folder, self.args.dataset_name, use_cpu=use_cpu)
            results: dict[str, Any] = train_quietly([*argv, "--bf16"] if self.args.bf16 else argv)
        return float(results["train_samples_per_second"])

    def layers(self) -> float:
        """Return the texts per second of the layers alone, on batches of the same shapes without padding."""
        settings = {name: value for name, value in self.recipe.items() if name in RNNConfig.__annotations__}
        layers = RNNModel(RNNConfig(**settings | {"vocab_size": 2})).layers.to(self.device).train()
        size = self.recipe["embedding_size"]
        inputs = [
            torch.randn(*shape, size, device=self.device, requires_grad=True) for shape in sorted(set(self.shapes))
        ]
        ready = {tuple(tensor.shape[:2]): tensor for tensor in inputs}

        def step(states: torch.Tensor) -> None:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
                for layer in layers:
                    states, _ = layer(states)
            states.float().sum().backward()

        for tensor in tqdm(inputs, desc="Choosing kernels", unit="shape"):
            step(tensor)
        self.wait()
        started = time.perf_counter()
        for shape in self.shapes:
            step(ready[shape])
        self.wait()
        return sum(batch_size for batch_size, _ in self.shapes) / (time.perf_counter() - started)

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
