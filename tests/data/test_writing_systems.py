"""The choice between words and subwords, and subwords of texts without spaces."""

import random
import time

import pytest

from rnn_hf.data import tokenizer_training, writing_systems
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer
from rnn_hf.data.writing_systems import UNSEGMENTED_TYPE, choose_tokenizer_type

NEWS: list[str] = load_demo_news(num_train=500, num_test=8)["train"]["text"][:]
CHINESE = [
    "我们明天早上坐火车去北京看朋友。", "这家饭馆的面条很好吃、价格也不贵。", "昨天晚上下了很大的雨。", "路上都是水。",
    "妹妹喜欢在公园里画画。", "他把钥匙忘在办公室了。", "我只好回去拿。",
]  # fmt: skip
JAPANESE = [
    "明日の朝、友達と一緒に山へ行きます。", "この店のラーメンはとてもおいしいです。",
    "駅の前に新しい図書館ができました。", "妹は毎日ピアノを練習しています。",
    "電車が遅れたので、会議に間に合いませんでした。",
]  # fmt: skip
THAI = [
    "พรุ่งนี้เราจะไปตลาดด้วยกัน", "ร้านนี้ทำก๋วยเตี๋ยวอร่อยมาก", "เมื่อคืนฝนตกหนักถนนมีน้ำท่วม", "น้องสาวชอบวาดรูปที่สวน",
    "เขาลืมกุญแจไว้ที่ทำงาน",
]  # fmt: skip
WITH_BLANKS = {
    "English": ["We will take the train tomorrow morning.", "The noodles are good but expensive."],
    "German": [
        "Die Bundesverkehrswegeplanung ist abgeschlossen.",
        "Der Donaudampfschifffahrtskapitän trinkt Kaffee in der Straßenbahnhaltestelle.",
    ],
    "Finnish": [
        "Juna-asemalla odottelimme kolmivuotiaan lapsenlapsemme kanssa myöhästynyttä pikajunaa.",
        "Kerrostaloasuntojen vuokrasopimuksissa mainitaan lentokonesuihkuturbiinimoottoriapumekaanikko.",
    ],
    "Marathi": ["आम्ही उद्या सकाळी रेल्वेने पुण्याला जाणार आहोत.", "या दुकानातील जेवण खूप चविष्ट आहे."],
    "Korean": ["내일 아침에 친구와 함께 기차를 타고 부산에 갑니다.", "이 식당의 국수는 정말 맛있어요."],
    "Chinese between blanks": ["我们 明天 早上 坐 火车 去 北京 。", "妹妹 喜欢 在 公园 里 画画 。"],
    "names": ["Ana", "Wei", "Jürgen", "Maximiliana"],
    "an address": ["https://example.org/" + "a" * 300],
    "addresses without a scheme": ["example.org/" + "a" * 300, "someone.with.a.long.name@mail.example.org"],
    "nothing": ["", "  ", "\n"],
    "no letters": ["12 34 ... " + "=" * 100],
    "no texts": [],
}
WITHOUT_BLANKS = {"Chinese": CHINESE, "Japanese": JAPANESE, "Thai": THAI}


@pytest.mark.parametrize("language", WITH_BLANKS)
def test_texts_with_blanks_are_read_as_words(language: str) -> None:
    assert choose_tokenizer_type(WITH_BLANKS[language]) == ("word", "spaces separate the words")


@pytest.mark.parametrize("language", WITHOUT_BLANKS)
def test_texts_in_a_script_without_blanks_are_read_as_subwords(language: str) -> None:
    expected = f"100 % of the texts are {language}, without spaces between words"
    assert choose_tokenizer_type(WITHOUT_BLANKS[language]) == (UNSEGMENTED_TYPE, expected)
    mixed = choose_tokenizer_type([*WITHOUT_BLANKS[language], *NEWS[: 3 * len(WITHOUT_BLANKS[language])]])
    assert mixed == (UNSEGMENTED_TYPE, expected.replace("100", "25"))
    assert choose_tokenizer_type([*WITHOUT_BLANKS[language], *NEWS[: 9 * len(WITHOUT_BLANKS[language])]])[0] == "word"


@pytest.mark.parametrize("name", writing_systems.UNSEGMENTED_SCRIPTS)
def test_every_script_without_blanks_is_known(name: str) -> None:
    sentence = {
        "Lao": "ມື້ອື່ນພວກເຮົາຈະໄປຕະຫຼາດ", "Khmer": "ថ្ងៃស្អែកយើងទៅផ្សារ", "Burmese": "မနက်ဖြန်ဈေးသွားမယ်",
        "Tibetan": "སང་ཉིན་ང་ཚོ་ཁྲོམ་ལ་འགྲོ།", "Thai": THAI[0], "Chinese": CHINESE[0], "Japanese": JAPANESE[0],
    }[name]  # fmt: skip
    assert choose_tokenizer_type([sentence])[1].startswith(f"100 % of the texts are {name},")


def test_a_sentence_of_two_scripts_counts_by_its_characters() -> None:
    assert choose_tokenizer_type(["iPhone手机的电池不太好用"])[0] == UNSEGMENTED_TYPE
    assert choose_tokenizer_type(["The word 北京 means northern capital"])[0] == "word"
    assert choose_tokenizer_type(["看这里https://example.org/" + "a" * 300])[0] == UNSEGMENTED_TYPE


def test_english_without_blanks_is_noticed() -> None:
    assert choose_tokenizer_type("".join(text.split()) for text in NEWS) == (
        UNSEGMENTED_TYPE,
        "100 % of the texts have words of more than 30 characters",
    )


def test_a_few_strange_texts_do_not_change_the_choice() -> None:
    strange = ["x" * 5000, "", "https://example.org/" + "b" * 900, CHINESE[0]]
    assert choose_tokenizer_type([*strange, *NEWS[:20]])[0] == "word"


def test_only_the_first_texts_are_read() -> None:
    texts = iter([*["a plain text"] * 2_000, "the next"])
    choose_tokenizer_type(texts)
    assert next(texts) == "the next"


def test_long_texts_without_blanks_cost_linear_time() -> None:
    started = time.perf_counter()
    choose_tokenizer_type(["a" * 1_000_000, "w" * 1_000_000, "中" * 1_000_000])
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("tokenizer_type", ["bpe", "unigram"])
@pytest.mark.parametrize("language", WITHOUT_BLANKS)
def test_a_sentence_without_blanks_has_several_known_pieces(language: str, tokenizer_type: TokenizerType) -> None:
    sentences = WITHOUT_BLANKS[language]
    letters = sorted(set("".join(sentences)))
    # parts of the sentences in a random order, so that no sentence is common as a whole
    generator = random.Random(0)
    parts = [sentence[start : start + 3] for sentence in sentences for start in range(0, len(sentence), 3)]
    texts = ["".join(generator.sample(parts, len(parts))) for _ in range(50)]
    tokenizer = train_tokenizer(texts, tokenizer_type=tokenizer_type, vocab_size=len(letters) + 40)
    for sentence in sentences:
        ids = tokenizer(sentence).input_ids
        assert 2 < len(ids) < len(sentence)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == sentence
    # characters in an unseen order are known one by one
    generator.shuffle(letters)
    assert tokenizer.unk_token_id not in tokenizer("".join(letters)).input_ids


@pytest.mark.parametrize("tokenizer_type", ["bpe", "unigram"])
def test_a_new_character_alone_is_unknown(tokenizer_type: TokenizerType) -> None:
    tokenizer = train_tokenizer(CHINESE * 20, tokenizer_type=tokenizer_type, vocab_size=150)
    sentence = "我们明天去龘看朋友"
    encoding = tokenizer(sentence, return_offsets_mapping=True)
    unknown = [
        sentence[start:end]
        for index, (start, end) in zip(encoding.input_ids, encoding.offset_mapping, strict=True)
        if index == tokenizer.unk_token_id
    ]
    assert unknown == ["龘"]


@pytest.mark.parametrize("tokenizer_type", ["bpe", "wordpiece", "unigram"])
def test_subwords_of_texts_without_blanks_come_from_a_sample_in_any_order(
    tokenizer_type: TokenizerType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_training, "CHARACTERS_WITHOUT_BLANKS", {tokenizer_type: 1_000})
    texts = ["".join(text.split()) for text in NEWS]
    sample = list(tokenizer_training._sampled([*texts, "words between blanks"], tokenizer_type))
    assert "words between blanks" in sample and 800 < sum(map(len, sample)) <= 1_100
    assert sorted(sample) == sorted(
        tokenizer_training._sampled(["words between blanks", *texts[::-1]], tokenizer_type)
    )
    one, other = (
        train_tokenizer(each, tokenizer_type=tokenizer_type, vocab_size=120) for each in (texts, texts[::-1])
    )
    assert one.get_vocab() == other.get_vocab()


def test_texts_with_blanks_are_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_training, "CHARACTERS_WITHOUT_BLANKS", {"bpe": 10})
    assert list(tokenizer_training._sampled(NEWS, "bpe")) == NEWS


def test_one_text_longer_than_the_sample_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_training, "CHARACTERS_WITHOUT_BLANKS", {"bpe": 10})
    assert list(tokenizer_training._sampled(["a" * 100], "bpe")) == ["a" * 100]
