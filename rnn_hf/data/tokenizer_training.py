"""Training of word and subword tokenizers, which transformers loads without this package."""

import heapq
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.normalizers import Lowercase, Replace, Sequence
from tokenizers.pre_tokenizers import Metaspace, Split
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordLevelTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rnn_hf.onnx_classifier import check_strings, encodable

from .tokenizing import set_training_length

TokenizerType = Literal["word", "bpe", "wordpiece", "unigram"]

PAD_TOKEN = "[PAD]"
UNK_TOKEN = "[UNK]"
EOS_TOKEN = "[EOS]"

# The prefix of a word in SentencePiece (Kudo and Richardson, 2018), and of a subword inside a word in BERT
WORD_START = "\u2581"
CONTINUATION = "##"

# Decimals of a score that are the same in every process; the sums behind it have no fixed order
SCORE_DECIMALS = 3

# `Lowercase` maps each character by itself, but a Greek capital sigma has a different lower case at the end of a word
# than inside it (Unicode Standard 3.13, `Final_Sigma`). With an unbounded look-behind, a text of lone sigmas would
# take time quadratic in its length.
_CASED = r"[\p{Cased}&&\P{Case_Ignorable}]"
_FINAL_SIGMA = rf"(?<={_CASED}\p{{Case_Ignorable}}{{0,30}})Σ(?!\p{{Case_Ignorable}}*{_CASED})"

# Longer words are split before they are split into subwords: the library takes time quadratic in their length
LONGEST_WORD = 256

# If words between spaces are longer than this on average, they are sentences without spaces, most of which occur once.
# Subwords are learned from a sample of this many characters, about ten seconds of work for one core
LONGEST_MEAN_WORD = 12
CHARACTERS_WITHOUT_BLANKS = {"bpe": 4_000_000, "wordpiece": 4_000_000, "unigram": 500_000}

_MARKS = "'.,()!?"
# Python counts the separators U+001C to U+001F as white space; Oniguruma's `\s` does not.
_BLANKS = r"\s\x1C-\x1F;:"


def train_tokenizer(
    texts: Iterable[str],
    *,
    tokenizer_type: TokenizerType = "word",
    vocab_size: int | None = None,
    min_frequency: int = 1,
    max_length: int | None = None,
    has_end_of_text: bool = False,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    r"""Return a tokenizer whose vocabulary is the most frequent words or subwords of `texts`.

    Words are those of torchtext's `basic_english`, which many tutorials and papers use, so that vocabulary sizes and
    accuracies can be compared. A text is lower-cased; each of ``' . , ( ) ! ?`` is a word of its own; ``"`` is
    deleted; ``;``, ``:`` and the tag ``<br />`` separate words as white space does; everything else, hyphens included,
    stays inside its word. Lower case and white space are Python's `str.lower` and `\s`, except for characters that
    only one of the two Unicode tables contains, and for a capital sigma more than 30 marks after the preceding letter.

    `[PAD]` has id 0 and `[UNK]` id 1. The words follow from most to least frequent, words of equal frequency in the
    order of their code points: the same texts give the same ids in any order. The same holds for
    subwords, except for ties with `"unigram"`, whose library sums probabilities in no fixed order.

    Subwords are parts of these words, so that a rare word is read as frequent parts. A character that is not in the
    vocabulary is `[UNK]`; with `"wordpiece"`, its whole word is. A word of more than 256 characters is read as several
    words. If spaces do not separate words, as in Chinese or Thai, subwords are learned from a random sample of the
    texts, the same in any order: 4 million characters, or 500,000 for `"unigram"`.

    A text cannot inject a special token: the characters ``[PAD]`` and ``[UNK]`` are read as the words ``[pad]`` and
    ``[unk]``. This setting (`split_special_tokens=True`) is saved in `tokenizer_config.json`, which
    `tokenizers.Tokenizer.from_file` does not read: a tokenizer loaded that way does turn them into special tokens.

    Args:
        texts: Texts to count words in. They are read once and not kept.
        tokenizer_type: `"word"`: whole words. `"bpe"`: subwords from repeatedly merging the most frequent pair of
            neighbours (Sennrich et al., 2016). `"wordpiece"`: the same subwords, but a word is split into the longest
            ones from left to right (Schuster and Nakajima, 2012; Devlin et al., 2019). `"unigram"`: the subwords that
            make the texts most probable, and the most probable split of each word (Kudo, 2018).
        vocab_size: Maximum number of tokens, including special tokens. `None` keeps every word; subwords need a
            number.
        min_frequency: Minimum number of occurrences, over all texts, of a word that is kept or a pair of subwords that
            is merged. Not used by `"unigram"`.
        max_length: Number of tokens after which this package truncates a text, in training and in `TextClassifier`;
            saved in `tokenizer_config.json`. `None` for no limit. `model_max_length` is unlimited, as the models are:
            calling the tokenizer truncates nothing unless you pass `truncation=True, max_length=...`.
        has_end_of_text: Whether to add a token `[EOS]`, with id 2, which separates the texts of a language model. The
            tokenizer has it as `eos_token` and never adds it to a text.
        show_progress: Whether to show the progress bar of `tokenizers` on standard error.

    Returns:
        A tokenizer that pads on the right and returns `input_ids` and `attention_mask`; an empty text has no tokens.
        Its `save_pretrained` writes files that `AutoTokenizer.from_pretrained` loads.

    Raises:
        TypeError: If `texts` is one string or yields something that is not a string.
        ValueError: If a number is out of range, or no word is frequent enough.

    Example:
        >>> tokenizer = train_tokenizer(["It's a start-up.", "A start."])
        >>> tokenizer.tokenize('IT\'S "a" start-up!')
        ['it', "'", 's', 'a', 'start-up', '[UNK]']
        >>> tokenizer("a start").input_ids
        [3, 7]
        >>> train_tokenizer(["low lower lowest"], tokenizer_type="wordpiece", vocab_size=21).tokenize("lows lowest")
        ['low', '##s', 'lowe', '##st']
    """
    if isinstance(texts, str):
        raise TypeError("`texts` must be an iterable of strings, got one string. Pass `[text]`.")
    special_tokens = [PAD_TOKEN, UNK_TOKEN, *([EOS_TOKEN] if has_end_of_text else [])]
    if vocab_size is not None and vocab_size < len(special_tokens):
        raise ValueError(
            f"`vocab_size` must be at least {len(special_tokens)}, got {vocab_size}. "
            f"Include {' and '.join(special_tokens)} in the count, or pass `None` to keep every word."
        )
    if min_frequency < 1:
        raise ValueError(f"`min_frequency` must be at least 1, got {min_frequency}. Pass 1 to keep every word.")
    if max_length is not None and max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, got {max_length}. Pass `None` for no limit.")

    if tokenizer_type not in get_args(TokenizerType):
        expected = ", ".join(get_args(TokenizerType))
        raise ValueError(f"`tokenizer_type` must be one of {expected}, got {tokenizer_type!r}. Choose one.")
    if tokenizer_type == "word":
        backend = _train_words(_only_strings(texts), special_tokens, vocab_size, min_frequency, show_progress)
    elif vocab_size is None or vocab_size < len(special_tokens) + 2:
        raise ValueError(
            f"`vocab_size` must be at least {len(special_tokens) + 2} for a tokenizer of the type "
            f"{tokenizer_type!r}, got {vocab_size}."
        )
    elif tokenizer_type == "unigram":
        if min_frequency > 1:
            raise ValueError(f"`min_frequency` must be 1 for a tokenizer of the type 'unigram', got {min_frequency}.")
        backend = _train_unigram(_sampled(texts, tokenizer_type), special_tokens, vocab_size, show_progress)
    else:
        train = {"bpe": _train_bpe, "wordpiece": _train_wordpiece}[tokenizer_type]
        backend = train(_sampled(texts, tokenizer_type), special_tokens, vocab_size, min_frequency, show_progress)
    if backend.get_vocab_size() == len(special_tokens) != vocab_size:
        raise ValueError(
            f"`texts` must contain a word that occurs at least {min_frequency} times, got none. Pass more texts or "
            "lower `min_frequency`."
        )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        unk_token=UNK_TOKEN,
        eos_token=EOS_TOKEN if has_end_of_text else None,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        split_special_tokens=True,
    )
    set_training_length(tokenizer, max_length)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Save a tokenizer in a form that transformers 4 can load as well.

    transformers 5 writes a class name that version 4 does not know; the older name works in both.

    Args:
        tokenizer: The tokenizer.
        folder: Folder for its files.
    """
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _train_words(
    texts: Iterator[str], special_tokens: list[str], vocab_size: int | None, min_frequency: int, show_progress: bool
) -> Tokenizer:
    tokenizer = _untrained_tokenizer(WordLevel(unk_token=UNK_TOKEN))
    tokenizer.train_from_iterator(
        texts,
        trainer=WordLevelTrainer(
            vocab_size=sys.maxsize if vocab_size is None else vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            show_progress=show_progress,
        ),
    )
    return tokenizer


def _train_bpe(
    texts: Iterator[str], special_tokens: list[str], vocab_size: int, min_frequency: int, show_progress: bool
) -> Tokenizer:
    tokenizer = _untrained_tokenizer(BPE(unk_token=UNK_TOKEN, fuse_unk=True))
    _mark_words(tokenizer)
    tokenizer.train_from_iterator(
        texts,
        # without a prefix or suffix for subwords, whose ids would differ from process to process
        trainer=BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            limit_alphabet=vocab_size - len(special_tokens),
            show_progress=show_progress,
        ),
    )
    return tokenizer


def _train_wordpiece(
    texts: Iterator[str], special_tokens: list[str], vocab_size: int, min_frequency: int, show_progress: bool
) -> Tokenizer:
    """Use the subwords of `"bpe"`: first each character, starting a word and inside it, then the merged subwords."""
    pieces = sorted(
        _train_bpe(texts, special_tokens, vocab_size, min_frequency, show_progress).get_vocab().items(),
        key=lambda it: it[1],
    )
    words = [piece for piece, _ in pieces if piece not in special_tokens]
    characters = [piece for piece in words if len(piece) == 1 and piece != WORD_START]
    characters = characters[: (vocab_size - len(special_tokens)) // 2]
    merged = [piece[1:] if piece.startswith(WORD_START) else CONTINUATION + piece for piece in words if len(piece) > 1]
    alphabet = [prefix + character for prefix in ("", CONTINUATION) for character in characters]
    vocabulary = list(dict.fromkeys([*special_tokens, *alphabet, *merged]))[:vocab_size]
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = _untrained_tokenizer(WordPiece(ids, unk_token=UNK_TOKEN, continuing_subword_prefix=CONTINUATION))
    tokenizer.decoder = decoders.WordPiece(CONTINUATION)
    tokenizer.add_special_tokens(special_tokens)
    return tokenizer


def _train_unigram(texts: Iterator[str], special_tokens: list[str], vocab_size: int, show_progress: bool) -> Tokenizer:
    tokenizer = _untrained_tokenizer(Unigram())
    _mark_words(tokenizer)
    trainer = UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special_tokens, unk_token=UNK_TOKEN, show_progress=show_progress
    )
    try:
        tokenizer.train_from_iterator(texts, trainer=trainer)
    except Exception as error:
        # the library has no error class for it
        if "not large enough" not in str(error):
            raise
        raise ValueError(
            f"`vocab_size` must be larger for a tokenizer of the type 'unigram', which keeps every character, got "
            f"{vocab_size}. Raise it."
        ) from error
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    special = [pieces[index] for index in range(len(special_tokens))]
    scored = sorted((piece, round(score, SCORE_DECIMALS)) for piece, score in pieces[len(special_tokens) :])
    tokenizer.model = Unigram([*map(tuple, special), *scored], unk_id=special_tokens.index(UNK_TOKEN))
    return tokenizer


def _mark_words(tokenizer: Tokenizer) -> None:
    mark = Metaspace(WORD_START, prepend_scheme="always", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, mark])
    tokenizer.decoder = decoders.Metaspace(WORD_START, prepend_scheme="always", split=False)


def _untrained_tokenizer(model: BPE | Unigram | WordLevel | WordPiece) -> Tokenizer:
    length = "++" if isinstance(model, WordLevel) else f"{{1,{LONGEST_WORD}}}"
    tokenizer = Tokenizer(model)
    # Quotes are deleted before tags are replaced: `<br "/>` is a tag too.
    tokenizer.normalizer = Sequence(
        [Replace(Regex(_FINAL_SIGMA), "ς"), Lowercase(), Replace('"', ""), Replace("<br />", " ")]
    )
    # One expression that matches the words is the fastest exact form: each further normalizer copies the text, and
    # each further pre-tokenizer iterates over all words again.
    words = Regex(rf"[^{_BLANKS}{_MARKS}]{length}|[{_MARKS}]")
    tokenizer.pre_tokenizer = Split(words, behavior="removed", invert=True)
    return tokenizer


def _only_strings(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        check_strings([text], start=index)
        yield encodable(text)


def _sampled(texts: Iterable[str], tokenizer_type: TokenizerType) -> Iterator[str]:
    """Yield the texts, but only a sample of those without spaces.

    They are those with the smallest checksums, which depend neither on the order of the texts nor on the process.
    """
    sample: list[tuple[int, str]] = []
    num_characters = 0
    for text in _only_strings(texts):
        if len(text) <= LONGEST_MEAN_WORD * (1 + text.count(" ")):
            yield text
            continue
        heapq.heappush(sample, (-zlib.crc32(text.encode()), text))
        num_characters += len(text)
        while num_characters > CHARACTERS_WITHOUT_BLANKS[tokenizer_type] and len(sample) > 1:
            num_characters -= len(heapq.heappop(sample)[1])
    for _, text in sample:
        yield text
