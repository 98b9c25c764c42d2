"""The start of a run: a tokenizer, and a new model or the model of a checkpoint."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.configuration_rnn import RNNConfig
from rnn_hf.data.extra_words import add_words
from rnn_hf.data.pretrained_vectors import iterate_words, read_pretrained_vectors, reduce_width
from rnn_hf.data.streaming import StreamedRows
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.tokenizing import set_training_length
from rnn_hf.data.word_vectors import initialize_embeddings
from rnn_hf.modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel
from rnn_hf.ngrams_rnn import NGramBranch
from rnn_hf.progress import say
from rnn_hf.safe_loading import check_model, check_token_ids, read_tokenizer

from .arguments import (
    ClassifierRunArguments,
    DataArguments,
    LanguageModelRunArguments,
    RunArguments,
    adds_extra_words,
)
from .model_arguments import model_settings
from .ngram_fit import fit_ngrams
from .splits import TextSplits
from .targets import TargetScale

# Settings that a checkpoint does not fix; all other fields of its configuration are kept
CHANGEABLE = {"embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "word_dropout"}

# Further settings that can be chosen if the checkpoint has no classifier
OF_THE_CLASSIFIER = {"classifier_pooling", "concat_embedding_mean"}

# Maximum difference of equal word vectors; rounding to half precision causes a smaller one
LARGEST_ROUNDING_ERROR = 1e-3


def checkpoint_config(args: RunArguments) -> RNNConfig | None:
    """Check and return the configuration of the checkpoint that a run starts from; `None` for a new model.

    Without a checkpoint, the arguments of the model are checked before any data is read.

    Args:
        args: The arguments of the run.

    Raises:
        ValueError: If the checkpoint is damaged, or an argument is out of its domain.
    """
    if args.model_name_or_path is None:
        RNNConfig(**model_settings(args))
        return None
    return check_model(
        args.model_name_or_path, RNNForCausalLM if isinstance(args, LanguageModelRunArguments) else None
    )


def load_tokenizer(
    texts: Callable[[], Iterator[str]], args: RunArguments, config: RNNConfig | None = None
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that the arguments name, that of the checkpoint, or one trained on the training texts.

    A word tokenizer that is trained also gets words of `word_vectors` that do not occur in the training texts: with
    their vectors, the model can read them.

    Args:
        texts: Yields the training texts.
        args: The arguments of the run. A language model's tokenizer has an end-of-text token.
        config: Configuration of the checkpoint, if the run starts from one.

    Raises:
        FileNotFoundError: If the `word_vectors` do not exist.
        ValueError: If a saved tokenizer has no padding token, or does not match the checkpoint.
    """
    name = args.tokenizer_name_or_path or args.model_name_or_path
    is_for_language_model = isinstance(args, LanguageModelRunArguments)
    if name is None:
        trained = train_tokenizer(
            texts(),
            tokenizer_type=args.tokenizer_type,
            vocab_size=args.vocab_size,
            min_frequency=args.min_frequency,
            max_length=args.max_length,
            has_end_of_text=is_for_language_model,
        )
        return _with_extra_words(trained, args) if adds_extra_words(args) else trained
    tokenizer = read_tokenizer(name)
    check_token_ids(tokenizer, len(tokenizer) if config is None else max(config.vocab_size, len(tokenizer)))
    if tokenizer.pad_token_id is None:
        raise ValueError(f"The tokenizer {name!r} has no padding token. Add one and save it.")
    if is_for_language_model and tokenizer.eos_token_id is None:
        raise ValueError(
            f"The tokenizer {name!r} has no end-of-text token (`eos_token`), which separates the texts. Add one, or "
            "leave the tokenizer out."
        )
    set_training_length(tokenizer, args.max_length)
    return tokenizer


def create_classifier(
    splits: TextSplits,
    tokenizer: PreTrainedTokenizerBase,
    args: ClassifierRunArguments,
    config: RNNConfig | None,
    rows: Dataset | StreamedRows | None,
    scale: TargetScale | None = None,
    branch: NGramBranch | None = None,
) -> RNNForSequenceClassification:
    """Return a new classifier, or that of the checkpoint, for the labels of a dataset.

    Args:
        splits: The dataset.
        tokenizer: The tokenizer of the model.
        args: The arguments of the run.
        config: Configuration of the checkpoint, if the run starts from one.
        rows: The encoded training rows, to which the n-gram branch is fitted; `None` if it is fitted later.
        scale: Mean and standard deviation of the targets, if the model learns standardized ones.
        branch: The n-gram branch of these rows, if it was computed before.

    Raises:
        ValueError: If the checkpoint is not of this package, or of another head, or an argument contradicts it.
    """
    labels: dict[str, Any] = {
        "problem_type": splits.problem_type,
        "id2label": dict(enumerate(splits.label_names)),
        "label2id": {name: index for index, name in enumerate(splits.label_names)},
        "text_column_names": splits.text_column_names,
    }
    if config is None:
        settings = model_settings(args) | _token_settings(tokenizer)
        model = RNNForSequenceClassification(RNNConfig(**settings, **labels))
    else:
        model = _classifier_of_checkpoint(config, labels, len(tokenizer), args)
        if scale is not None and config.problem_type == "regression" and config.num_labels == model.num_labels:
            scale.unfold(model)
    place_word_vectors(model, tokenizer, args)
    if branch is not None:
        model.ngrams = copy.deepcopy(branch)
    elif rows is not None:
        fit_ngrams(model, rows, splits, args.class_weights, args.word_vectors is not None, scale)
    return model


def create_language_model(
    tokenizer: PreTrainedTokenizerBase, args: LanguageModelRunArguments, config: RNNConfig | None
) -> RNNForCausalLM:
    """Return a new language model, or that of the checkpoint, with pretrained word vectors if given.

    Args:
        tokenizer: The tokenizer of the model.
        args: The arguments of the run.
        config: Configuration of the checkpoint, if the run starts from one.

    Raises:
        ValueError: If the checkpoint is not of this package, or an argument contradicts it.
    """
    if config is None:
        # the token at the end of each text also precedes the first text
        ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
        model = RNNForCausalLM(RNNConfig(**model_settings(args) | _token_settings(tokenizer) | ends))
    else:
        changed = _changed_settings(config, args, CHANGEABLE, len(tokenizer))
        model = RNNForCausalLM.from_pretrained(args.model_name_or_path, use_safetensors=True, **changed)
    place_word_vectors(model, tokenizer, args)
    return model


def place_word_vectors(model: RNNPreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DataArguments) -> None:
    """Initialize the word vectors of a model with pretrained ones, `word_vectors`.

    Wider vectors are reduced to the model's size by principal component analysis.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        args: The arguments of the run.

    Raises:
        FileNotFoundError: If the word vectors do not exist.
        ValueError: If they are damaged, smaller than the model's, or have none of the words.
    """
    if args.word_vectors is None:
        return
    vectors = read_pretrained_vectors(args.word_vectors, tokenizer.get_vocab(), tokenizer.all_special_tokens)
    embeddings: Any = model.get_input_embeddings()
    reduction, width, wanted = "", vectors.embedding_size, embeddings.weight.shape[1]
    if width > wanted:
        vectors, share = reduce_width(vectors, wanted)
        reduction = f"; PCA reduced it from {width} to {wanted} numbers ({100 * share:.1f} % of the variance)"
    initialize_embeddings(embeddings.weight, vectors, padding_idx=embeddings.padding_idx)
    say(f"{args.word_vectors}: {vectors}{reduction}")


def _with_extra_words(tokenizer: PreTrainedTokenizerFast, args: RunArguments) -> PreTrainedTokenizerFast:
    """Return the tokenizer with words of `word_vectors` that do not occur in the training texts."""
    extended = add_words(tokenizer, iterate_words(str(args.word_vectors)), args.max_extra_words)
    say(
        f"{args.word_vectors}: {len(extended) - len(tokenizer):,} extra words follow the {len(tokenizer):,} of the "
        "training rows in the vocabulary"
    )
    return extended


def _token_settings(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "unk_token_id": tokenizer.unk_token_id,
    }


def _classifier_of_checkpoint(
    config: RNNConfig, labels: dict[str, Any], num_tokens: int, args: ClassifierRunArguments
) -> RNNForSequenceClassification:
    """Return the classifier of a checkpoint, or a new classifier on the encoder of a language model."""
    name, architecture = args.model_name_or_path, (config.architectures or ["?"])[0]
    if architecture == RNNForTokenClassification.__name__:
        raise ValueError(f"{name!r} is a `{architecture}`, which labels tokens, not texts.")
    is_language_model = architecture == RNNForCausalLM.__name__
    changeable = CHANGEABLE | OF_THE_CLASSIFIER if is_language_model else CHANGEABLE
    changed = _changed_settings(config, args, changeable, num_tokens)
    if config.reads_backward:
        raise ValueError(
            f"{name!r} reads texts backwards. Pass it as `backward_model_name_or_path`, with one that reads them "
            "forwards."
        )
    if args.backward_model_name_or_path is not None:
        if not is_language_model:
            raise ValueError(f"{name!r} must be a language model, got a `{architecture}`.")
        return _bidirectional_classifier(config, args, labels | changed)
    if is_language_model:
        say(f"{name} is a language model: its encoder gets a new classifier.")
    model: RNNForSequenceClassification = RNNForSequenceClassification.from_pretrained(
        name,
        use_safetensors=True,
        ignore_mismatched_sizes=config.num_labels != len(labels["id2label"]),
        # training changes the weights that the temperature was folded into
        calibration_temperature=1.0,
        label_thresholds=None,
        **labels,
        **changed,
    )
    return model


def _changed_settings(
    config: PreTrainedConfig, args: RunArguments, changeable: set[str], num_tokens: int
) -> dict[str, Any]:
    """Return the given settings that differ from a checkpoint's, after a check that they may."""
    if not isinstance(config, RNNConfig):
        raise ValueError(f"{args.model_name_or_path!r} is a {config.model_type!r} model, not one of this package.")
    settings = {name: value for name, value in model_settings(args).items() if name in args.given}
    for name, value in settings.items():
        if name not in changeable | {"vocab_size"} and getattr(config, name) != value:
            raise ValueError(
                f"`{name}={value}` contradicts the checkpoint's {getattr(config, name)}. Leave `{name}` out."
            )
    if num_tokens > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens but the checkpoint's `vocab_size` is {config.vocab_size}. "
            "Leave `tokenizer_name_or_path` out."
        )
    return {name: value for name, value in settings.items() if name in changeable}


def _bidirectional_classifier(
    config: RNNConfig, args: ClassifierRunArguments, settings: dict[str, Any]
) -> RNNForSequenceClassification:
    """Return a classifier whose two directions are two language models, one of which reads texts backwards.

    Args:
        config: Configuration of the forward language model.
        args: The names of both.
        settings: The labels, and the settings that differ from the language model's.

    Raises:
        ValueError: If the two do not match.
    """
    names = str(args.model_name_or_path), str(args.backward_model_name_or_path)
    backward_config = check_model(names[1], RNNForCausalLM)
    if not backward_config.reads_backward:
        raise ValueError(
            f"{names[1]!r} reads texts forwards. Train it with `rnn-hf train-language-model --reads_backward`."
        )
    if config.num_hidden_layers != 1:
        raise ValueError(
            "Two language models become a bidirectional encoder only if they have one layer, got "
            f"{config.num_hidden_layers}: a second layer would read both directions of the first. "
            "Leave `backward_model_name_or_path` out."
        )
    for name in ("cell_type", "num_hidden_layers", "hidden_size", "embedding_size", "vocab_size"):
        ours, theirs = getattr(config, name), getattr(backward_config, name)
        if ours != theirs:
            raise ValueError(f"Both language models must have the same `{name}`, got {ours} and {theirs}.")
    forward, backward = (RNNModel.from_pretrained(name, use_safetensors=True).state_dict() for name in names)
    vectors = [weights["embed_tokens.weight"].clone() for weights in (forward, backward)]
    if config.pad_token_id is not None:
        for weight in vectors:
            weight[config.pad_token_id] = 0.0
    if (vectors[0] - vectors[1]).abs().max() > LARGEST_ROUNDING_ERROR:
        raise ValueError(
            f"{names[1]!r} must have the word vectors of {names[0]!r}. Train it with `rnn-hf train-language-model "
            f"--reads_backward --word_vectors {names[0]} --freeze_embeddings_epochs -1`."
        )
    of_encoder = config.to_dict() | {"bidirectional": True, "architectures": None} | settings
    model = RNNForSequenceClassification(RNNConfig.from_dict(of_encoder))
    model.model.load_state_dict(forward | {f"{name}_reverse": backward[name] for name in backward if "_l0" in name})
    say(f"{names[0]} and {names[1]} become the two directions of an encoder with a new classifier.")
    return model
