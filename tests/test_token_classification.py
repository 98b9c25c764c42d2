"""Tests of the tagger: what it computes, and that it learns tags which only the context of a word gives."""

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
    TokenClassificationPipeline,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)
from transformers.modeling_outputs import TokenClassifierOutput

from rnn_hf import RNNConfig, RNNForTokenClassification
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer
from tests.conftest import no_warnings
from tests.tiny_models import (
    LAYOUTS,
    NO_DROPOUT,
    TEXTS,
    both_depths,
    both_directions,
    every_cell,
    make_batch,
    make_model,
)

TAGS = ["O", "B-PERSON", "I-PERSON", "B-PLACE", "I-PLACE", "B-MONEY", "B-TIME"]
# each may be a person and a place, and some are several tokens: O'Hara is `o`, `'`, `hara`
NAMES = [["Jordan"], ["Lincoln"], ["Sydney"], ["O'Hara"], ["St.", "George"], ["Santa", "Clara"], ["Charlotte"]]
FILLERS = ["today", "again", "it", "seems", "as", "expected", "after", "all", "quietly"]


def make_sentences(number: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Words and tags. What a name or a number is, a word some fillers to its left or to its right tells."""
    generator = random.Random(seed)

    def fillers() -> list[str]:
        return generator.choices(FILLERS, k=generator.randint(0, 3))

    def clause() -> list[tuple[str, str]]:
        is_number, is_first, cue_stands_before = (generator.random() < 0.5 for _ in range(3))
        if is_number:
            words, kind = [str(generator.randint(10, 40))], "MONEY" if is_first else "TIME"
            cues = {"MONEY": ("pays", "euros"), "TIME": ("waits", "days")}
        else:
            words, kind = generator.choice(NAMES), "PERSON" if is_first else "PLACE"
            cues = {"PERSON": ("mister", "laughed"), "PLACE": ("near", "flooded")}
        entity = [(word, f"{'I' if index else 'B'}-{kind}") for index, word in enumerate(words)]
        between = [(word, "O") for word in fillers()]
        before, after = cues[kind]
        parts = [(before, "O"), *between, *entity] if cue_stands_before else [*entity, *between, (after, "O")]
        return [*parts, (".", "O")]

    sentences = []
    for _ in range(number):
        pairs = [pair for _ in range(generator.randint(1, 3)) for pair in clause()]
        sentences.append(([word for word, _ in pairs], [tag for _, tag in pairs]))
    return sentences


def encode(sentences: list[tuple[list[str], list[str]]], tokenizer: PreTrainedTokenizerFast) -> Dataset:
    """Tokens with labels: the first token of a word has its tag, the others have none."""
    rows = []
    for words, tags in sentences:
        row = tokenizer(words, is_split_into_words=True)
        word_ids = row.word_ids()
        starts = [index == 0 or word_ids[index - 1] != word for index, word in enumerate(word_ids)]
        labels = [
            TAGS.index(tags[word]) if is_start else -100 for word, is_start in zip(word_ids, starts, strict=True)
        ]
        rows.append({**row, "labels": labels})
    return Dataset.from_list(rows)


@pytest.mark.parametrize("layout", LAYOUTS)
@both_depths
@both_directions
@every_cell
@torch.no_grad()
def test_logits_of_tokens_do_not_depend_on_padding(
    cell_type: str, bidirectional: bool, num_hidden_layers: int, layout: str
) -> None:
    model = make_model(
        RNNForTokenClassification,
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=num_hidden_layers,
    )
    alone = torch.cat([model(torch.tensor([text])).logits[0] for text in TEXTS])
    input_ids, attention_mask = make_batch(layout)
    logits = model(input_ids, attention_mask=attention_mask).logits
    assert logits.shape == (3, 14, 3)
    torch.testing.assert_close(logits[attention_mask.bool()], alone)
    inputs_embeds = model.get_input_embeddings()(input_ids)
    logits = model(inputs_embeds=inputs_embeds, attention_mask=attention_mask).logits
    torch.testing.assert_close(logits[attention_mask.bool()], alone)


@both_directions
@every_cell
@torch.no_grad()
def test_logits_are_the_states_through_the_linear_layer(cell_type: str, bidirectional: bool) -> None:
    """Without packing, on the padding as well, and whatever the pooling of a classifier is."""
    for pack_padded_sequences in (True, False):
        model = make_model(
            RNNForTokenClassification,
            cell_type=cell_type,
            bidirectional=bidirectional,
            pack_padded_sequences=pack_padded_sequences,
            classifier_pooling="mean_max_last",
            concat_embedding_mean=True,
        )
        input_ids, attention_mask = make_batch("padded on the right")
        states = model.model(input_ids, attention_mask=attention_mask).last_hidden_state
        expected = states @ model.classifier.weight.T + model.classifier.bias
        torch.testing.assert_close(model(input_ids, attention_mask=attention_mask).logits, expected)
        without_mask = model(input_ids).logits
        assert torch.allclose(without_mask, expected) != pack_padded_sequences


def test_loss_is_the_mean_cross_entropy_of_the_labels_that_are_not_ignored() -> None:
    model = make_model(RNNForTokenClassification, bidirectional=True)
    input_ids, attention_mask = make_batch("padded on the right")
    labels = torch.randint(3, (3, 14)).masked_fill(attention_mask == 0, -100)
    labels[2, 3] = -100  # the second token of a word, say
    outputs = model(input_ids, attention_mask=attention_mask, labels=labels)
    kept = labels != -100
    assert kept.sum() == attention_mask.sum() - 1
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits[kept], labels[kept]))


def test_states_come_on_request_only() -> None:
    model = make_model(RNNForTokenClassification, num_hidden_layers=2, bidirectional=True)
    input_ids, attention_mask = make_batch("padded on the right")
    assert set(model(input_ids, attention_mask=attention_mask).keys()) == {"logits"}
    outputs = model(input_ids, attention_mask=attention_mask, output_hidden_states=True)
    assert set(outputs.keys()) == {"logits", "hidden_states"}
    assert [states.shape[-1] for states in outputs.hidden_states] == [5, 8, 8]


def test_classifier_dropout_acts_on_states_in_training_only() -> None:
    model = make_model(RNNForTokenClassification, classifier_dropout=0.5, hidden_size=50)
    read: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model(torch.tensor([TEXTS[2]]))
    model.train()(torch.tensor([TEXTS[2]]))
    states, dropped = read
    assert states.all()
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * states[dropped != 0])


@pytest.mark.parametrize("texts", [[[]], [[], [7, 8]]], ids=["alone", "beside_another"])
@both_directions
def test_text_without_tokens_has_finite_logits(texts: list[list[int]], bidirectional: bool) -> None:
    model = make_model(RNNForTokenClassification, bidirectional=bidirectional)
    width = max(map(len, texts))
    input_ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], dtype=torch.long)
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    logits = model(input_ids.view(len(texts), width), attention_mask=mask.view(len(texts), width)).logits
    assert logits.shape == (len(texts), width, 3)
    assert logits.isfinite().all()


def test_accumulated_batches_weigh_every_label_alike(tmp_path: Path) -> None:
    """Trainer's step over two batches with different numbers of labels is the step over all rows at once."""
    rows = [{"input_ids": [5, 6, 7, 8, 9, 3], "labels": [0, 1, 2, 1, 0, 2]}, {"input_ids": [4], "labels": [1]}]
    weights = []
    for num_steps in (1, 2):
        model = make_model(RNNForTokenClassification, bidirectional=True)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
            per_device_train_batch_size=2 // num_steps,
            gradient_accumulation_steps=num_steps,
            max_steps=1,
            save_strategy="no",
            disable_tqdm=True,
        )
        collate = DataCollatorForTokenClassification(train_tokenizer(["a"]))
        Trainer(model=model, args=arguments, train_dataset=cast(Any, rows), data_collator=collate).train()
        weights.append(dict(model.state_dict()))
    torch.testing.assert_close(weights[1], weights[0])
    assert not torch.equal(
        weights[0]["classifier.bias"], make_model(RNNForTokenClassification, bidirectional=True).classifier.bias
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A saved tagger that transformers' own Trainer trained, and how it does on other sentences."""
    folder = tmp_path_factory.mktemp("tagger")
    set_seed(0)
    train, test = make_sentences(1500, seed=0), make_sentences(200, seed=1)
    tokenizer = train_tokenizer([" ".join(words) for words, _ in train])
    config = RNNConfig(
        vocab_size=len(tokenizer),
        bidirectional=True,
        embedding_size=32,
        hidden_size=32,
        embedding_initializer_range=1,
        **NO_DROPOUT,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: index for index, tag in enumerate(TAGS)},
    )

    def accuracies(prediction: Any) -> dict[str, float]:
        is_label = prediction.label_ids != -100
        is_right = prediction.predictions.argmax(-1) == prediction.label_ids
        is_entity = is_label & (prediction.label_ids != 0)
        return {"token_accuracy": is_right[is_label].mean(), "entity_accuracy": is_right[is_entity].mean()}

    trainer = Trainer(
        model=RNNForTokenClassification(config),
        args=TrainingArguments(
            output_dir=str(folder / "run"),
            use_cpu=True,
            learning_rate=1e-2,
            per_device_train_batch_size=32,
            num_train_epochs=6,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=encode(train, tokenizer),
        eval_dataset=encode(test, tokenizer),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracies,
    )
    trainer.train()
    trainer.save_model(str(folder))
    return folder, trainer.evaluate()


def test_tagger_learns_tags_that_the_word_alone_does_not_give(trained: tuple[Path, dict[str, float]]) -> None:
    """The most frequent tag of each word gets about half of the entities right, the model almost all."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in make_sentences(1500, seed=0):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    is_right = [
        counts[word].most_common(1)[0][0] == tag
        for words, tags in make_sentences(200, seed=1)
        for word, tag in zip(words, tags, strict=True)
        if tag != "O"
    ]
    assert np.mean(is_right) < 0.65
    _, metrics = trained
    assert metrics["eval_entity_accuracy"] > 0.97
    assert metrics["eval_token_accuracy"] > 0.98


def test_labels_stand_at_the_first_token_of_each_word() -> None:
    tokenizer = train_tokenizer(["o ' hara"])
    row = encode([(["mister", "O'Hara", "."], ["O", "B-PERSON", "O"])], tokenizer)[0]
    assert len(row["input_ids"]) == 5
    assert row["labels"] == [0, 1, -100, -100, 0]


SENTENCE = 'Near "Santa Clara", again. Lincoln today laughed.'


def test_pipeline_gives_entities_with_their_place_in_the_text(
    trained: tuple[Path, dict[str, float]],
) -> None:
    """Also behind a mark that the tokenizer deletes, and without a warning."""
    folder, _ = trained
    with no_warnings():
        tag = pipeline("token-classification", model=str(folder))
        tokens = tag(SENTENCE)
        assert tag("") == []
    assert [(token["entity"], SENTENCE[token["start"] : token["end"]]) for token in tokens] == [
        ("B-PLACE", "Santa"),
        ("I-PLACE", "Clara"),
        ("B-PERSON", "Lincoln"),
    ]


def test_pipeline_joins_the_tokens_of_an_entity(trained: tuple[Path, dict[str, float]]) -> None:
    folder, _ = trained
    tag = pipeline("ner", model=str(folder), aggregation_strategy="simple")
    entities = tag([SENTENCE, "Waits quietly 20."])
    assert [
        [(entity["entity_group"], entity["word"], entity["start"], entity["end"]) for entity in of_text]
        for of_text in entities
    ] == [[("PLACE", "santa clara", 6, 17), ("PERSON", "lincoln", 27, 34)], [("TIME", "20", 14, 16)]]
    for of_text in entities:
        assert all(entity["score"] > 0.8 for entity in of_text)


def test_pipeline_tags_words_that_are_split_already(trained: tuple[Path, dict[str, float]]) -> None:
    folder, _ = trained
    tag = pipeline("ner", model=str(folder), aggregation_strategy="simple")
    (entities,) = tag(["Mister", "Jordan", "."], is_split_into_words=True)
    assert [(entity["entity_group"], entity["start"], entity["end"]) for entity in entities] == [("PERSON", 7, 13)]


PEOPLE, PLACES = ["Mary Jones", "Anna-Lena"], ["New York", "Ohio", "Zürich"]
PROSE = 'Mary Jones met "Jon" in New York, (Ohio). Anna-Lena left Zürich!'
ENTITIES = sorted(
    [("PERSON", name) for name in PEOPLE] + [("PLACE", name) for name in PLACES], key=lambda pair: PROSE.index(pair[1])
)


def tagged(tokenizer: PreTrainedTokenizerFast, others: str) -> RNNForTokenClassification:
    """A tagger that finds `ENTITIES` by the tags of all tokens, or by that of the first token of each word alone."""
    encoding = tokenizer(PROSE, return_offsets_mapping=True)
    places = [(kind, PROSE.index(name), PROSE.index(name) + len(name)) for kind, name in ENTITIES]
    tags, word_ids = [], encoding.word_ids()
    for index, ((start, _), word) in enumerate(zip(encoding["offset_mapping"], word_ids, strict=True)):
        kind, first = next(((kind, low) for kind, low, high in places if low <= start < high), ("O", 0))
        is_first_of_word = index == 0 or word_ids[index - 1] != word
        tag = "O" if kind == "O" else f"{'B' if start == first and is_first_of_word else 'I'}-{kind}"
        tags.append(TAGS.index(tag if is_first_of_word or others == "agree" else "O"))
    ids = {tag: index for index, tag in enumerate(TAGS)}
    config = RNNConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(TAGS)), label2id=ids)
    model = RNNForTokenClassification(config).eval()
    logits = F.one_hot(torch.tensor(tags), len(TAGS)).float()[None] * 9
    model.forward = lambda **inputs: TokenClassifierOutput(logits=logits)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("tokenizer_type", get_args(TokenizerType))
def test_pipeline_gives_whole_entities_for_every_tokenizer_and_strategy(tokenizer_type: str, strategy: str) -> None:
    """Without the punctuation beside them, without overlaps, and with their words apart."""
    texts = ["mary jones met jon in new york , ohio . anna-lena left ( ) ! z u r i c h"] * 3
    size = {} if tokenizer_type == "word" else {"vocab_size": 60}
    tokenizer = train_tokenizer(texts, tokenizer_type=cast(Any, tokenizer_type), **size)
    # where the first token speaks for its word, the others may say anything
    for others in ("agree", "differ") if strategy == "first" else ("agree",):
        with no_warnings():
            tag = pipeline(
                "ner", model=tagged(tokenizer, others), tokenizer=tokenizer, aggregation_strategy=cast(Any, strategy)
            )
            entities = tag(PROSE)
        found = [(entity["entity_group"], PROSE[entity["start"] : entity["end"]]) for entity in entities]
        assert found == ENTITIES
        assert [entity["word"].casefold() for entity in entities] == [name.casefold() for _, name in ENTITIES]


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("texts", [["", SENTENCE], [SENTENCE, "", " "], ["", ""]], ids=["first", "last", "alone"])
def test_pipeline_takes_a_text_without_tokens_in_a_batch(
    trained: tuple[Path, dict[str, float]], texts: list[str], strategy: str
) -> None:
    tag = pipeline("ner", model=str(trained[0]), aggregation_strategy=cast(Any, strategy))
    expected = [[(entity["start"], entity["end"]) for entity in tag(text)] for text in texts]
    actual = [[(entity["start"], entity["end"]) for entity in found] for found in tag(texts, batch_size=len(texts))]
    assert actual == expected


def test_pipelines_of_other_models_are_those_of_transformers() -> None:
    tokenizer = train_tokenizer(["mary met jon , again"])
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForTokenClassification(BertConfig(vocab_size=len(tokenizer), **sizes)).eval()
    settings: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "aggregation_strategy": "first"}
    assert pipeline("ner", **settings)("mary, jon") == TokenClassificationPipeline(**settings)("mary, jon")
