"""Words that the training texts lack, added to the vocabulary of a word tokenizer."""

import copy
import re
from collections.abc import Iterable

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from .tokenizer_training import UNK_TOKEN

# Special tokens of other tokenizers, and unused entries of BERT's vocabulary: [unused1], </s>, <|endoftext|>
_SPECIAL = re.compile(r"\[[^\[\]]+\]|<[^<>]+>")


def add_words(tokenizer: PreTrainedTokenizerFast, words: Iterable[str], max_words: int) -> PreTrainedTokenizerFast:
    """Return a copy of a word tokenizer with more words, whose ids follow the existing ones.

    Only words that the tokenizer itself would find in a text, exactly as they are written, are added: not `Paris`,
    which it reads as `paris`, nor `don't`, which it reads as three words. Words that look like special tokens of other
    tokenizers are left out.

    Args:
        tokenizer: A tokenizer from `train_tokenizer` of the type `"word"`.
        words: Words in the order in which they are added; reading stops once `max_words` are found.
        max_words: Maximum number of words to add.

    Returns:
        A tokenizer in which all existing words keep their ids. It is saved and loaded like the original.

    Raises:
        TypeError: If the tokenizer is not one of whole words.

    Example:
        >>> from rnn_hf.data import train_tokenizer
        >>> tokenizer = add_words(train_tokenizer(["a cat"]), ["cat", "Dog", "dog", "it's", "bird"], max_words=1)
        >>> tokenizer("a cat dog bird").input_ids, len(tokenizer)
        ([2, 3, 4, 1], 5)
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, WordLevel):
        raise TypeError(f"`tokenizer` must have whole words, got one with `{type(backend.model).__name__}`.")
    vocabulary = backend.get_vocab()
    largest = len(vocabulary) + max_words
    for word in words if max_words else ():
        if word in vocabulary or _SPECIAL.fullmatch(word):
            continue
        found = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word))
        if len(found) == 1 and found[0][0] == word:
            vocabulary[word] = len(vocabulary)
            if len(vocabulary) == largest:
                break
    extended = copy.deepcopy(tokenizer)
    extended.backend_tokenizer.model = WordLevel(vocabulary, unk_token=UNK_TOKEN)
    return extended
