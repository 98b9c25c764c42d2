"""Compare speed, loading time and memory with other classifiers, and check the promised values.

python -m scripts.benchmark train --dataset_name fancyzhx/ag_news [--output_file train.json]
python -m scripts.benchmark predict --model_name_or_path runs/ag-news --dataset_name fancyzhx/ag_news
python -m scripts.benchmark load --model_name_or_path runs/ag-news
python -m scripts.benchmark memory --dataset_name fancyzhx/ag_news
python -m scripts.benchmark device [--bf16] --dataset_name fancyzhx/ag_news

The other classifiers are in the extra `benchmark`; those that are not installed are shown as such. All sub-commands
run on the CPU, except `device`, which measures how well training uses a GPU.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import tqdm
from sklearn.metrics import accuracy_score
from torch import profiler
from torch.nn.utils.rnn import pad_sequence
from transformers.utils.hub import cached_file

from rnn_hf.argument_fields import flag, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, check_folder_of
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.files import write_json
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.threads import one_thread_each
from scripts.benchmark import peers
from scripts.benchmark.device import DeviceBenchmark, DeviceBenchmarkArguments
from scripts.benchmark.processes import (
    LoadBenchmark,
    LoadBenchmarkArguments,
    MemoryBenchmark,
    MemoryBenchmarkArguments,
)
from scripts.benchmark.report import (
    IN_TURNS,
    NOT_INSTALLED,
    Benchmark,
    DatasetBenchmarkArguments,
    Promise,
    Report,
    Spread,
    check_profile,
    machine,
    num_cpus,
    profile_table,
    sample_of,
    seconds_of,
    take_turns,
    versions,
)
from scripts.benchmark.training import TrainBenchmark, TrainBenchmarkArguments
from scripts.research.baselines import TITLES, FastText, labelled, tfidf_classifiers
from scripts.research.panel import MODEL_FILES

OURS = "rnn_hf, TextClassifier"
ONNX, PIPELINE = "rnn_hf, onnxruntime", "rnn_hf, transformers pipeline"
TOKENIZER_ALONE, RECURRENT_ALONE = "rnn_hf, tokenizer alone", "rnn_hf, recurrent layers alone"
FASTTEXT, TFIDF = TITLES["fasttext"], TITLES["tfidf"]
# only their speed is measured, because their weights are random
MODEL2VEC, MINILM_SHAPE = "model2vec (vectors only)", "MiniLM-L6 shape"
FINE_TUNED = "MiniLM-L6, fine-tuned"

NUM_TEXTS_OF_TRANSFORMERS = 64
NUM_SINGLE_TEXTS = 200
TEXTS_IN_A_ROW = 20  # by one classifier
CHUNK_SIZE = 8192  # texts per call of the tokenizer
BATCH_SIZE = 256  # texts per call of the recurrent layers


@dataclass(kw_only=True)
class PredictBenchmarkArguments(DatasetBenchmarkArguments):
    """Prediction from strings to labels: texts per second, milliseconds for one text, and accuracy."""

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub.", "is_path": True})
    encoder_name_or_path: str | None = path_flag(
        None, "MiniLM-L6, fine-tuned on the dataset; by default, one with random weights, without an accuracy."
    )
    split: str = flag("test", "Split whose texts are classified: train, validation or test.")
    max_samples: int = flag(7600, "Maximum number of texts that are timed; accuracy is on all texts.", at_least=1)
    rounds: int = flag(5, "Number of rounds; each measures everything once, in turn.", at_least=1)
    profile: bool = flag(False, "Whether to profile our prediction instead of comparing.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_profile(self.profile, self.output_file)


@dataclass
class Contestant:
    """A classifier in the table.

    Args:
        classify: Function from texts to labels or vectors.
        megabytes: Size of the model on disk, in megabytes.
        takes_a_string: Whether it also takes a single string.
        num_texts: Number of texts it is timed on; `None` for all.
        has_accuracy: Whether it is trained, so that its accuracy is measured.
    """

    classify: Callable[[Any], Any]
    megabytes: float | None = None
    takes_a_string: bool = False
    num_texts: int | None = None
    has_accuracy: bool = False


def size_of(model_name_or_path: str, files: Sequence[str]) -> int:
    """Return the size of some files of a model, in bytes."""
    return sum(Path(str(cached_file(model_name_or_path, name))).stat().st_size for name in files)


def encode_all(classifier: TextClassifier, texts: list[str]) -> None:
    """Tokenize texts as fast as the classifier's tokenizer can: in chunks, on all threads, into ids only."""
    backend = classifier.tokenizer.backend_tokenizer
    for start in range(0, len(texts), CHUNK_SIZE):
        backend.encode_batch_fast(texts[start : start + CHUNK_SIZE])


def recurrent_layers_rate(classifier: TextClassifier, texts: list[str]) -> float:
    """Return the texts per second of the recurrent layers alone, on batches in parallel with one thread each.

    Batches of similar length are embedded beforehand; pooling is left out.

    Args:
        classifier: The classifier.
        texts: The texts.
    """
    rows = classifier.tokenizer(texts, truncation=True, max_length=classifier.max_length)["input_ids"]
    tokens = [torch.tensor(row or [0]) for row in sorted(rows, key=len)]
    encoder = classifier.model.model
    with torch.inference_mode():
        batches = [
            encoder.embed_tokens(pad_sequence(tokens[start : start + BATCH_SIZE], batch_first=True))
            for start in range(0, len(tokens), BATCH_SIZE)
        ]

    @torch.inference_mode()
    def read(states: torch.Tensor) -> None:
        for layer in encoder.layers:
            states, _ = layer(states)

    with one_thread_each(torch.get_num_threads()) as pool:
        started = time.perf_counter()
        list(pool.map(read, batches))
        return len(texts) / (time.perf_counter() - started)


class PredictBenchmark(Benchmark):
    """Compares prediction with other classifiers on the same texts.

    Args:
        args: The flags.
    """

    def __init__(self, args: PredictBenchmarkArguments) -> None:
        # otherwise a pipeline would disable threads in all tokenizers of the process
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        self.args = args
        self.classifier = TextClassifier.from_pretrained(args.model_name_or_path)
        splits = [args.split] if args.profile else ["train", args.split]
        self.dataset = load_text_dataset(
            args.dataset_name, label_names=self.classifier.labels, splits=splits, validation_size=0
        )
        self.texts = sample_of(self.dataset[args.split]["text"], args.max_samples)

    def run(self) -> Report:
        """Measure all classifiers in turns."""
        contestants = self.contestants()
        running = {name: contestant for name, contestant in contestants.items() if contestant is not None}
        measures = {name: self.rate(contestant) for name, contestant in running.items()} | self.parts()
        rates = take_turns(measures, self.args.rounds, "Predicting")
        milliseconds = self.single_texts(running)
        accuracies = self.accuracies(running)
        rows: list[dict[str, Any]] = []
        for name in [*contestants, *self.parts()]:
            if name not in rates:
                rows.append({"name": name, "texts_per_second": NOT_INSTALLED})
                continue
            contestant = running.get(name)
            num_texts = contestant.num_texts if contestant else None
            rows.append(
                {
                    "name": name,
                    "num_texts": min(num_texts or len(self.texts), len(self.texts)),
                    "texts_per_second": rates[name],
                    "ours_is_times_as_fast": rates[OURS].over(rates[name]),
                    "milliseconds_for_one_text": milliseconds.get(name),
                    "accuracy": accuracies.get(name),
                    "megabytes": contestant.megabytes if contestant else None,
                }
            )
        num_singles = min(NUM_SINGLE_TEXTS, len(self.texts))
        return Report(
            header=f"Prediction: {len(self.texts):,} texts, {self.args.rounds} {IN_TURNS}; one text: {num_singles} "
            "different ones; accuracy: all texts of the split",
            columns={
                "name": "classifier",
                "num_texts": "texts",
                "texts_per_second": "texts/s",
                "ours_is_times_as_fast": "ours is x times as fast",
                "milliseconds_for_one_text": "ms for one text",
                "accuracy": f"{self.args.split} accuracy",
                "megabytes": "MB",
            },
            rows=rows,
            promises=self.promises(rates, milliseconds),
            facts={"ngram_buckets": self.classifier.model.config.ngram_buckets},
        )

    def contestants(self) -> dict[str, Contestant | None]:
        """Return all classifiers, trained if necessary; `None` for one whose package is not installed."""
        texts, labels = labelled(self.dataset["train"])
        megabytes = size_of(self.args.model_name_or_path, MODEL_FILES) / 1e6
        made: dict[str, Contestant | None] = {
            OURS: Contestant(self.classifier.predict, megabytes, takes_a_string=True, has_accuracy=True),
            PIPELINE: Contestant(peers.pipeline_peer(self.args.model_name_or_path), takes_a_string=True),
        }
        pieces = peers.train_wordpiece(texts)

        def fasttext() -> Contestant:
            model = FastText(texts, labels, num_threads=num_cpus())
            return Contestant(model, model.num_bytes / 1e6, has_accuracy=True)

        def tfidf() -> Contestant:
            classify = next(tfidf_classifiers(texts, labels, [1.0]))
            return Contestant(classify, len(pickle.dumps(classify)) / 1e6, has_accuracy=True)

        encoder = self.args.encoder_name_or_path

        def minilm() -> Contestant:
            if encoder is None:
                model, tokenizer = peers.minilm_shape(pieces, len(self.classifier.labels))
                classify, num_bytes = peers.pipeline_peer(model, tokenizer), model.get_memory_footprint()
            else:
                classify, num_bytes = peers.pipeline_peer(encoder), size_of(encoder, ["model.safetensors"])
            return Contestant(
                classify, num_bytes / 1e6, num_texts=NUM_TEXTS_OF_TRANSFORMERS, has_accuracy=encoder is not None
            )

        def onnx() -> Contestant:
            classify, num_bytes = peers.onnx_peer(self.classifier)
            return Contestant(classify, num_bytes / 1e6, takes_a_string=True, has_accuracy=True)

        makers: dict[str, tuple[str, Callable[[], Contestant]]] = {
            ONNX: ("onnxruntime", onnx),
            FASTTEXT: ("fasttext", fasttext),
            MODEL2VEC: ("model2vec", lambda: Contestant(peers.model2vec_peer(pieces))),
            TFIDF: ("sklearn", tfidf),
            FINE_TUNED if encoder else MINILM_SHAPE: ("transformers", minilm),
        }
        for name, (package, make) in tqdm(makers.items(), desc="Training the peers", unit="peer"):
            made[name] = make() if peers.is_installed(package) else None
        return made

    def rate(self, contestant: Contestant) -> Callable[[], float]:
        """Return a function that measures the texts per second of a classifier, which is warmed up first."""
        texts = self.texts[: contestant.num_texts]
        contestant.classify(texts[:NUM_TEXTS_OF_TRANSFORMERS])
        return lambda: len(texts) / seconds_of(lambda: contestant.classify(texts))

    def parts(self) -> dict[str, Callable[[], float]]:
        """Return functions that measure the two necessary parts of a prediction."""
        return {
            TOKENIZER_ALONE: lambda: len(self.texts) / seconds_of(lambda: encode_all(self.classifier, self.texts)),
            RECURRENT_ALONE: lambda: recurrent_layers_rate(self.classifier, self.texts),
        }

    def single_texts(self, contestants: dict[str, Contestant]) -> dict[str, Spread]:
        """Return the milliseconds that each classifier takes for one text, several texts in each round.

        After every text, caches would hold the other classifiers, and threads of theirs would still wait in a loop.
        """
        milliseconds: dict[str, list[float]] = {name: [] for name in contestants}
        texts = sample_of(self.texts, NUM_SINGLE_TEXTS)
        for start in tqdm(range(0, len(texts), TEXTS_IN_A_ROW), desc="One text at a time", unit="round"):
            for name, contestant in contestants.items():
                for text in texts[start : start + TEXTS_IN_A_ROW]:
                    given = text if contestant.takes_a_string else [text]
                    milliseconds[name].append(1000 * seconds_of(partial(contestant.classify, given)))
        return {name: Spread(values) for name, values in milliseconds.items()}

    def accuracies(self, contestants: dict[str, Contestant]) -> dict[str, float]:
        """Return the accuracy on the whole split of each trained classifier."""
        texts, labels = labelled(self.dataset[self.args.split])
        accuracies = {}
        for name, contestant in contestants.items():
            if contestant.has_accuracy:
                accuracies[name] = float(accuracy_score(labels, list(contestant.classify(texts))))
        return accuracies

    def promises(self, rates: dict[str, Spread], milliseconds: dict[str, Spread]) -> list[Promise]:
        """Return the promises about prediction with the measured values."""
        ours, tokenizer, recurrent = rates[OURS], rates[TOKENIZER_ALONE], rates[RECURRENT_ALONE]
        bounds = [1 / (1 / one + 1 / two) for one, two in zip(tokenizer.rounds, recurrent.rounds, strict=True)]
        over_model2vec = ours.over(rates[MODEL2VEC]).median if MODEL2VEC in rates else None
        return [
            Promise(
                "at least 70 % of the rate of tokenizer and recurrent layers alone, one after the other, in percent",
                100 * ours.over(Spread(bounds)).median,
                at_least=70,
            ),
            Promise("at least as fast as model2vec, as a ratio", over_model2vec, at_least=1),
            Promise("at least 10,000 texts a second (aim: 20,000)", ours.median, at_least=10_000),
            Promise("at most 0.25 ms for one text", milliseconds[OURS].median, at_most=0.25),
            Promise(
                "at most 0.1 ms for one text with onnxruntime",
                milliseconds[ONNX].median if ONNX in milliseconds else None,
                at_most=0.1,
            ),
            Promise(
                "at least 0.75 of fastText's texts a second",
                ours.over(rates[FASTTEXT]).median if FASTTEXT in rates else None,
                at_least=0.75,
            ),
        ]

    def profile(self) -> str:
        """Return a profile of a prediction."""
        texts, classifier = self.texts, self.classifier
        classifier.predict(texts[:NUM_TEXTS_OF_TRANSFORMERS])
        turns = {"all": lambda: len(texts) / seconds_of(lambda: classifier.predict(texts)), **self.parts()}
        rates = take_turns(turns, self.args.rounds, "Predicting")
        sections = {name: len(texts) / rate.median for name, rate in rates.items()}
        total = sections.pop("all")
        sections["the rest"] = total - sum(sections.values())
        # the batches are computed in other threads
        every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        with profiler.profile(
            activities=[profiler.ProfilerActivity.CPU], experimental_config=every_thread
        ) as recorded:
            classifier.predict(texts)
        return profile_table(f"Prediction of {len(texts):,} texts", total, sections, recorded)


COMMANDS: dict[str, tuple[type, Callable[[Any], Benchmark]]] = {
    "train": (TrainBenchmarkArguments, TrainBenchmark),
    "predict": (PredictBenchmarkArguments, PredictBenchmark),
    "load": (LoadBenchmarkArguments, LoadBenchmark),
    "memory": (MemoryBenchmarkArguments, MemoryBenchmark),
    "device": (DeviceBenchmarkArguments, DeviceBenchmark),
}


@exit_statuses("benchmark", *(arguments for arguments, _ in COMMANDS.values()))
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a benchmark and print its table; return the content of its JSON file, which is empty after a profile."""
    started = time.perf_counter()
    with user_errors():
        words = list(sys.argv[1:] if argv is None else argv)
        if words in (["-h"], ["--help"]):
            print(__doc__)
            sys.exit()
        if not words or words[0] not in COMMANDS:
            got = repr(words[0]) if words else "nothing"
            raise ValueError(f"The first word must be one of {', '.join(COMMANDS)}, got {got}.")
        command, *words = words
        arguments_type, benchmark_type = COMMANDS[command]
        prog = f"python -m scripts.benchmark {command}"
        parser = CommandParser([arguments_type], prog=prog, description=arguments_type.__doc__)
        (args,), _ = parser.parse(words)
        check_folder_of("output_file", args.output_file)
        # before a progress bar creates a state that uses the accelerator
        PartialState(cpu=command != "device" or args.use_cpu)
        benchmark = benchmark_type(args)

    if getattr(args, "profile", False):
        print(f"{benchmark.profile()}\n\n{time.perf_counter() - started:.1f} s in total, nothing written")
        return {}
    report = benchmark.run()
    result = {
        "benchmark": command,
        "arguments": asdict(args),
        "machine": machine(),
        "versions": versions(),
        **report.as_dict(),
        "runtime": time.perf_counter() - started,
    }
    on = "{cpu}, {num_threads} of {num_cpus} processors".format(**result["machine"])
    print(f"{report}\n\n{on}; {result['runtime']:.1f} s in total")
    if args.output_file is not None:
        write_json(Path(args.output_file), result)
        print(f"Written: {args.output_file}")
    return result


if __name__ == "__main__":
    main()
