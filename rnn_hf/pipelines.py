"""transformers' pipelines, corrected where they treat every tokenizer as one of BERT or GPT-2.

Models of other families get the behaviour of transformers' own pipelines.
"""

from collections.abc import Iterator
from typing import Any

from transformers import TextGenerationPipeline, TokenClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.text_generation import ReturnType
from transformers.pipelines.token_classification import AggregationStrategy

from .configuration_rnn import RNNConfig
from .data.tokenizer_training import WORD_START

Entity = dict[str, Any]


class RNNTokenClassificationPipeline(TokenClassificationPipeline):
    """Tags words as the tokenizer splits them: punctuation is not part of a word, and a text may be empty."""

    def preprocess(self, sentence: Any, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # transformers types none of its own
        """Yield the tensors of a text; those of an empty text have the usual types and dimensions."""
        for inputs in super().preprocess(sentence, *args, **kwargs):  # type: ignore[no-untyped-call]  # as above
            if self._is_of_the_family and inputs["input_ids"].numel() == 0:
                empty = inputs["input_ids"].long()
                inputs |= dict.fromkeys(("input_ids", "attention_mask", "special_tokens_mask"), empty)
                inputs["offset_mapping"] = empty.new_zeros(1, 0, 2)
            yield inputs

    def gather_pre_entities(  # type: ignore[override]  # as above
        self,
        sentence: str,
        input_ids: Any,
        scores: Any,
        offset_mapping: Any,
        special_tokens_mask: Any,
        aggregation_strategy: AggregationStrategy,
        word_ids: list[int | None] | None = None,
        **kwargs: Any,
    ) -> list[Entity]:
        """Return the tokens, each with its scores, its position, and whether it continues the word before."""
        arguments = (sentence, input_ids, scores, offset_mapping, special_tokens_mask)
        if not self._is_of_the_family or offset_mapping is None:
            found: list[Entity] = super().gather_pre_entities(
                *arguments, aggregation_strategy, word_ids=word_ids, **kwargs
            )
            return found
        # the strategy controls transformers' warnings about its guess, which is replaced here
        entities: list[Entity] = super().gather_pre_entities(
            *arguments, AggregationStrategy.SIMPLE, word_ids=word_ids, **kwargs
        )
        tokenizer: Any = self.tokenizer
        encoding = None if word_ids is not None else tokenizer(sentence)
        joined: list[Entity] = []
        word_before = None
        for entity in entities:
            word = encoding.char_to_word(entity["start"]) if encoding else word_ids[entity["index"]]  # type: ignore[index]
            entity["is_subword"] = word is not None and word == word_before
            word_before = word
            is_of_one_token = aggregation_strategy in (AggregationStrategy.NONE, AggregationStrategy.SIMPLE)
            if entity["is_subword"] and joined and joined[-1]["word"] == WORD_START and is_of_one_token:
                # a mark alone has no characters: it starts the token that follows, with the label of the word
                mark = joined.pop()
                entity |= {"word": WORD_START + entity["word"], "scores": mark["scores"], "is_subword": False}
            joined.append(entity)
        return joined

    def aggregate_word(self, entities: list[Entity], aggregation_strategy: AggregationStrategy) -> Entity:
        """Return one entity for the tokens of a word."""
        word: Entity = super().aggregate_word(entities, aggregation_strategy)
        pieces = "".join(entity["word"] for entity in entities)
        if self._is_of_the_family and pieces.startswith(WORD_START):
            word["word"] = pieces  # decoded with its neighbours, from which the mark separates it
        return word

    @property
    def _is_of_the_family(self) -> bool:
        return bool(self.model.config.model_type == RNNConfig.model_type)


class RNNTextGenerationPipeline(TextGenerationPipeline):
    """Continues a prompt; the new tokens are decoded together with the prompt, to keep the spaces between words."""

    def postprocess(  # type: ignore[override]  # as above
        self, model_outputs: dict[str, Any], return_type: ReturnType = ReturnType.FULL_TEXT, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return the texts, with the prompt in front unless only the new part was requested."""
        records: list[dict[str, Any]] = super().postprocess(  # type: ignore[no-untyped-call]  # as above
            model_outputs, return_type, **kwargs
        )
        prompt, input_ids = model_outputs["prompt_text"], model_outputs["input_ids"]
        is_text = return_type in (ReturnType.FULL_TEXT, ReturnType.NEW_TEXT) and isinstance(prompt, str)
        if self.model.config.model_type != RNNConfig.model_type or not is_text or input_ids is None:
            return records
        names = ("skip_special_tokens", "clean_up_tokenization_spaces")
        settings = {"skip_special_tokens": True} | {name: kwargs[name] for name in names if name in kwargs}
        tokenizer: Any = self.tokenizer
        for record, sequence in zip(records, model_outputs["generated_sequence"][0].tolist(), strict=True):
            before = tokenizer.decode(sequence[: input_ids.shape[-1]], **settings)
            new = tokenizer.decode(sequence, **settings).removeprefix(before)
            if prompt[-1:].isspace():
                new = new.lstrip(" ")
            record["generated_text"] = prompt + new if return_type == ReturnType.FULL_TEXT else new
        return records


def register_pipelines() -> None:
    """Make `transformers.pipeline` use these classes, unless the caller has replaced its own."""
    for task, own, ours in (
        ("token-classification", TokenClassificationPipeline, RNNTokenClassificationPipeline),
        ("text-generation", TextGenerationPipeline, RNNTextGenerationPipeline),
    ):
        entry = PIPELINE_REGISTRY.supported_tasks[task]
        # some versions of transformers name the class, others hold it
        if entry["impl"] in (own, f"{own.__module__}.{own.__name__}"):
            entry["impl"] = ours
