"""Words that the training texts lack, added to the vocabulary of a word tokenizer."""

import copy
import re
from collections.abc import Iterable

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from .tokenizer_training import UNK_TOKEN

# Special tokens of other tokenizers, and the places that BERT's vocabulary keeps free: [unused1], </s>, <|endoftext|>
_SPECIAL = re.compile(r"\[[^\[\]]+\]|<[^<>]+>")


def add_words(tokenizer: PreTrainedTokenizerFast, words: Iterable[str], max_words: int) -> PreTrainedTokenizerFast:
    """Return a copy of a word tokenizer that knows more words, whose ids follow those of the words it has.

    Added are only words that the tokenizer itself would find in a text, exactly as they are written: not `Paris`,
    which it reads as `paris`, nor `don't`, which it reads as three words. What looks like the special token of another
    tokenizer is left out.

    Args:
        tokenizer: A tokenizer of `train_tokenizer` of the type `"word"`.
        words: Words in the order in which they are added. No more are read once `max_words` are found.
        max_words: Largest number of words that are added.

    Returns:
        A tokenizer in which every word of the first has the id that it had. It is saved and loaded as that is.

    Raises:
        TypeError: If the tokenizer has no whole words.

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
