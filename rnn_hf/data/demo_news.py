"""A generated dataset of short news in four classes, for use without a network.

The texts come from a small grammar. The topic of a text is that of its main clause; a subordinate clause, a quote or a
comparison mentions another topic. In a quarter of the texts both clauses are equally rich, and each such text has a
twin with the same words in another order and the other label: on these, a model that counts words can only guess.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import DatasetDict

# The `dataset_name` of this dataset
DEMO_DATASET = "demo"

LABEL_NAMES = ["World", "Sports", "Business", "Sci/Tech"]
# Share of the texts that have a twin
_TWIN_SHARE = 0.24


def _phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


@dataclass(frozen=True)
class _Topic:
    """Subjects, verbs and objects of one class. Subjects are plural, so that every verb fits every subject."""

    subjects: list[str]
    verbs: list[str]
    objects: list[str]


# In the order of `LABEL_NAMES`. Words such as "deal", "record" or "strike" occur in several topics.
_TOPICS = [
    _Topic(
        _phrases("""rebels, diplomats, peacekeepers, ministers, refugees, voters, protesters, border guards, lawmakers,
            militants, opposition leaders, envoys, prosecutors, aid workers, hostages, generals, monks, settlers"""),
        _phrases("""sign, reject, condemn, denounce, ratify, defy, demand, end, negotiate, besiege, back, block,
            debate, call for, violate, strike"""),
        _phrases("""a ceasefire, the peace talks, new sanctions, the election result, an arms embargo, the treaty,
            a border deal, the curfew, an amnesty, the constitution, a hunger strike, the siege, a coup, martial law,
            the referendum, a prisoner swap, the truce, an uprising"""),
    ),
    _Topic(
        _phrases("""strikers, goalkeepers, sprinters, the champions, coaches, rookies, batsmen, swimmers, cyclists,
            referees, defenders, golfers, the underdogs, quarterbacks, rowers, boxers, pitchers, wrestlers"""),
        _phrases("""win, lose, dominate, celebrate, miss, clinch, draw, chase, forfeit, rally in, strike in, score in,
            train for, enter, call for, defend"""),
        _phrases("""the cup final, a playoff match, the relay, an overtime thriller, the league title, the marathon,
            a penalty shootout, the derby, a gold medal, the season opener, a rematch, the semifinal, a world record,
            the tournament, the home game, the transfer deal, the qualifying round, the net"""),
    ),
    _Topic(
        _phrases("""shareholders, bankers, retailers, airlines, oil producers, investors, insurers, carmakers, brokers,
            lenders, regulators, exporters, accountants, hedge funds, creditors, grocers, tycoons, auditors"""),
        _phrases("""approve, cut, raise, report, forecast, finance, post, slash, sell, buy, hedge, miss, back, settle,
            block, negotiate"""),
        _phrases("""a merger, quarterly profits, the dividend, interest rates, a takeover bid, record earnings,
            fuel prices, the bankruptcy plan, a bond sale, annual sales, the stock offering, a billion dollar deal,
            job cuts, the pension debt, import tariffs, net losses, the market rally, an antitrust claim"""),
    ),
    _Topic(
        _phrases("""astronomers, engineers, hackers, biologists, programmers, software makers, physicists, geneticists,
            browser developers, chip designers, geologists, robots, satellites, web portals, chemists, phone makers,
            space probes, virologists"""),
        _phrases("""launch, discover, decode, test, patch, map, unveil, encrypt, simulate, download, observe, clone,
            upgrade, track, release, score in"""),
        _phrases("""a comet, the genome, a search engine, new software, an operating system, the fossil, a fuel cell,
            a computer virus, the spacecraft, a wireless network, the telescope, an encryption flaw, a vaccine,
            the open source code, the moon lander, a net browser, the laser, a stem cell record"""),
    ),
]

_LINKS = _phrases("after, as, while, before, because, although, since, when")
# Actions for people of every topic, so that a subject can be mentioned without the verbs of its topic
_COMMON_ACTS = _phrases("""look on, wait, return to {place}, arrive in {place}, leave {place}, stay silent,
    lose patience, ask for {number} more days, gather in {place}, talk of {object}, make fun of {object}""")
_OPENINGS = ["", "", "{place} - ", "{day}: ", "Report: ", "Update {number}: "]
_NEUTRAL_ENDINGS = [
    '{name} of {place} called it "a surprise" on {day}.',
    "It took {number} days; {name} was in {place} at the time.",
    "More than {number} people, {name} among them, had expected it!",
    'Who is next? "It is only the beginning," said {name} ({place}).',
    "{name}'s group of {number} will meet in {place} on {day}.",
]
_TOPICAL_ENDINGS = [
    "On {day}, {name} spoke of {own_object}.",
    '"It is the second time in {number} weeks," said {name}, who works with {own_subject}.',
    "In {place}, {number} {other_subject} had hoped for something else; {name} had not.",
    '"Good news for {place}," said {name}, who once worked with {other_subject}.',
    "Some compared it with {other_object}; {name} of {place} did not.",
]
_NAMES = _phrases("""Adeyemi, Brandt, Castillo, Dvorak, Eriksen, Fontaine, Grigoryan, Haddad, Ivanova, Jansen, Kimura,
    Lindqvist, Mbeki, Novak, Okafor, Pereira, Quispe, Rossi, Sato, Tanaka, Usman, Varga, Weber, Yilmaz, Zhou""")
_PLACES = _phrases("""Lagos, Oslo, Lima, Cairo, Osaka, Vienna, Nairobi, Boston, Jakarta, Prague, Quito, Dublin, Mumbai,
    Seoul, Athens, Denver, Accra, Lisbon, Hanoi, Montreal, Tunis, Perth, Riga, Bogota""")
_DAYS = _phrases("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")


def load_demo_news(seed: int = 0, num_train: int = 4000, num_test: int = 1000) -> "DatasetDict":
    """Return generated news with the label names of AG News, classes balanced and no text twice.

    Args:
        seed: Seed of the texts; the same seed gives the same texts in every process.
        num_train: Number of training texts.
        num_test: Number of test texts.

    Returns:
        Splits `train` and `test` with the columns `text` (10 to 40 words) and `label` (index into `LABEL_NAMES`).

    Raises:
        ValueError: If a split would be empty.

    Example:
        >>> news = load_demo_news(num_train=8, num_test=4)
        >>> news["test"].features["label"].names
        ['World', 'Sports', 'Business', 'Sci/Tech']
        >>> sorted(news["test"]["label"])
        [0, 1, 2, 3]
    """
    # `DEMO_DATASET` is also read where `datasets` is not installed
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    rng = random.Random(seed)
    seen: set[str] = set()
    features = Features({"text": Value("string"), "label": ClassLabel(names=LABEL_NAMES)})
    splits = {}
    for split, size in (("train", num_train), ("test", num_test)):
        if size < 1:
            raise ValueError(f"`num_{split}` must be at least 1, got {size}. Raise it.")
        rows = _make_rows(rng, size, seen)
        splits[split] = Dataset.from_list([{"text": text, "label": label} for text, label in rows], features=features)
    return DatasetDict(splits)


def _make_rows(rng: random.Random, size: int, seen: set[str]) -> list[tuple[str, int]]:
    """Return `size` new texts with their labels, shuffled; none is in `seen`, to which they are added."""
    missing = [size // 4 + (label < size % 4) for label in range(4)]
    # two consecutive pairs contain every class once
    twin_labels = [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)]
    rows: list[tuple[str, int]] = []
    for index in range(round(size * _TWIN_SHARE / 2)):
        labels = twin_labels[index % len(twin_labels)]
        rows += zip(_make_new(_make_twins, rng, labels, seen), labels, strict=True)
        for label in labels:
            missing[label] -= 1
    for label, count in enumerate(missing):
        for _ in range(count):
            other = rng.choice([topic for topic in range(4) if topic != label])
            rows += [(text, label) for text in _make_new(_make_single, rng, (label, other), seen)]
    rng.shuffle(rows)
    return rows


def _make_new(
    make: Callable[..., list[str]], rng: random.Random, labels: tuple[int, int], seen: set[str]
) -> list[str]:
    """Return texts from `make`, drawn again until none is in `seen`, and add them to `seen`."""
    while not seen.isdisjoint(texts := make(rng, labels)):
        pass
    seen.update(texts)
    return texts


def _make_twins(rng: random.Random, labels: tuple[int, int]) -> list[str]:
    """Return two texts with the same words, one of each label: their clauses are swapped."""
    first, second = (_make_clause(rng, _TOPICS[label]) for label in labels)
    link, side_first = rng.choice(_LINKS), rng.random() < 0.5
    opening, ending = _fill(rng, rng.choice(_OPENINGS)), _fill(rng, rng.choice(_NEUTRAL_ENDINGS))
    return [
        f"{opening}{_join(main, link, side, side_first)}. {ending}"
        for main, side in ((first, second), (second, first))
    ]


def _make_single(rng: random.Random, labels: tuple[int, int]) -> list[str]:
    """Return one text of the first label that also mentions the second."""
    own, other = (_TOPICS[label] for label in labels)
    act = _fill(rng, rng.choice(_COMMON_ACTS), object=rng.choice(other.objects))
    side = f"{rng.choice(other.subjects)} {act}"
    sentence = _join(_make_clause(rng, own), rng.choice(_LINKS), side, rng.random() < 0.5)
    ending = _fill(
        rng,
        rng.choice(_NEUTRAL_ENDINGS + _TOPICAL_ENDINGS),
        own_subject=rng.choice(own.subjects),
        own_object=rng.choice(own.objects),
        other_subject=rng.choice(other.subjects),
        other_object=rng.choice(other.objects),
    )
    return [f"{_fill(rng, rng.choice(_OPENINGS))}{sentence}. {ending}"]


def _make_clause(rng: random.Random, topic: _Topic) -> str:
    return f"{rng.choice(topic.subjects)} {rng.choice(topic.verbs)} {rng.choice(topic.objects)}"


def _join(main: str, link: str, side: str, side_first: bool) -> str:
    sentence = f"{link} {side}, {main}" if side_first else f"{main} {link} {side}"
    return sentence[0].upper() + sentence[1:]


def _fill(rng: random.Random, template: str, **phrases: str) -> str:
    """Return `template` with its fields filled in: a name, a place, a day, a number, and `phrases`."""
    name, place, day = rng.choice(_NAMES), rng.choice(_PLACES), rng.choice(_DAYS)
    return template.format(name=name, place=place, day=day, number=rng.randrange(2, 100), **phrases)
