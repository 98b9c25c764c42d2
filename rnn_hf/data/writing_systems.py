"""Whether texts separate their words by spaces, which decides the type of their tokenizer."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from .tokenizer_training import TokenizerType

# Number of texts, and of characters in each, on which the choice is based
SAMPLE_TEXTS = 2_000
SAMPLE_CHARACTERS = 2_000

# Type for texts without spaces between words: its subwords are whole words more often than those of "bpe"
UNSEGMENTED_TYPE: TokenizerType = "unigram"

# Blocks of scripts without spaces between words (Unicode Standard, chapters 13, 16 and 18)
UNSEGMENTED_SCRIPTS = {
    "Chinese": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af",
    "Japanese": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Thai": "\u0e01-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Tibetan": "\u0f00-\u0fff",
    "Burmese": "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
    "Khmer": "\u1780-\u17ff\u19e0-\u19ff",
}

# Share of texts in such a script above which subwords are used: subwords cost the other texts little, but each of
# these texts would be an unknown word
SCRIPT_SHARE = 0.2

# The same share for texts without spaces in another script: more than half, because the evidence is weaker
LONG_WORDS_SHARE = 0.5

# Compounds of Finnish and German are shorter; sentences are longer
LONGEST_PLAIN_WORD = 30

# Words separated by spaces have about two characters in Chinese, and four or five in Thai
LONGEST_SEGMENTED_MEAN = 5

_CHARACTERS = {name: re.compile(f"[{blocks}]") for name, blocks in UNSEGMENTED_SCRIPTS.items()}
_ANY = re.compile(f"[{''.join(UNSEGMENTED_SCRIPTS.values())}]")
# A web address may directly follow a sentence
_WEB_ADDRESS = re.compile(r"(?:https?://|www\.)[!-~]+")
_PATH = re.compile(r"[/\\@]")


def choose_tokenizer_type(texts: Iterable[str]) -> tuple[TokenizerType, str]:
    """Return the type of tokenizer for some texts, and the reason.

    Whole words are the best choice if spaces separate them. Without spaces, each sentence would be one unknown word.
    Such texts are recognized by the characters of their scripts, or by words far longer than those of any language.

    Args:
        texts: Texts, of which the first 2,000 are read.

    Returns:
        `"word"`, or a type of subwords; and the evidence as a phrase that can end a sentence.

    Example:
        >>> choose_tokenizer_type(["Das Wetter wird morgen besser.", "Es regnet."])
        ('word', 'spaces separate the words')
        >>> choose_tokenizer_type(["我们明天去北京看朋友。", "今天下雨了。"])
        ('unigram', '100 % of the texts are Chinese, without spaces between words')
    """
    num_texts, num_long = 0, 0
    scripts: Counter[str] = Counter()
    for text in islice(texts, SAMPLE_TEXTS):
        words = _words(text[:SAMPLE_CHARACTERS])
        if not words:
            continue
        num_texts += 1
        script = _script_without_blanks(words)
        if script is not None:
            scripts[script] += 1
        else:
            num_long += _are_mostly_long(words)
    if scripts and scripts.total() >= SCRIPT_SHARE * num_texts:
        share, names = 100 * scripts.total() / num_texts, " or ".join(name for name, _ in scripts.most_common(2))
        return UNSEGMENTED_TYPE, f"{share:.0f} % of the texts are {names}, without spaces between words"
    if num_long > LONG_WORDS_SHARE * num_texts:
        share = 100 * num_long / num_texts
        return UNSEGMENTED_TYPE, f"{share:.0f} % of the texts have words of more than {LONGEST_PLAIN_WORD} characters"
    return "word", "spaces separate the words"


def _words(text: str) -> list[str]:
    """Return the parts between spaces that have a letter, without addresses and paths, which have no language."""
    words = _WEB_ADDRESS.sub(" ", text).split()
    return [word for word in words if any(map(str.isalpha, word)) and not (word.isascii() and _PATH.search(word))]


def _script_without_blanks(words: list[str]) -> str | None:
    """Return the script of most characters of a text if spaces do not separate its words."""
    counts = [count for count in (len(_ANY.findall(word)) for word in words) if count]
    if 2 * sum(counts) <= sum(map(len, words)):
        return None
    if len(counts) > 2 and sum(counts) <= LONGEST_SEGMENTED_MEAN * len(counts):
        return None
    text = "".join(words)
    # kana are a part of nearly every Japanese sentence, and of no Chinese one
    if _CHARACTERS["Japanese"].search(text):
        return "Japanese"
    return max(_CHARACTERS, key=lambda script: len(_CHARACTERS[script].findall(text)))


def _are_mostly_long(words: list[str]) -> bool:
    lengths = [len(word) for word in words]
    return 2 * sum(length for length in lengths if length > LONGEST_PLAIN_WORD) > sum(lengths)
