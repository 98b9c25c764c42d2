"""A generated dataset of short news in four classes, so that everything runs without a network.

The texts come from a small grammar. Their topic is that of the main clause; a subordinate clause, a quote or a name's
past job mentions another topic. In a fifth of the texts both clauses are equally rich, and only the order of the words
says which of the two is the main one: a model that counts words has to guess there, a recurrent one has not.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

LABEL_NAMES = ["World", "Sports", "Business", "Sci/Tech"]
# Share of the texts that come in pairs with the same words in another order and another label.
_PAIRED_SHARE = 0.22


def _phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


@dataclass(frozen=True)
class Topic:
    """The phrases of one class: who, does, what. Words such as `title`, `deal` or `strike` belong to several."""

    subjects: list[str]
    verbs: list[str]
    objects: list[str]


# In the order of `LABEL_NAMES`. Subjects are plural, so that every verb fits every subject.
TOPICS = [
    Topic(
        _phrases("""rebels, diplomats, peacekeepers, ministers, refugees, voters, protesters, border guards, lawmakers,
            militants, opposition leaders, envoys, prosecutors, aid workers, hostages, generals, monks, settlers"""),
        _phrases("""sign, reject, condemn, denounce, ratify, defy, demand, end, negotiate, besiege, back, block,
            debate, call for, violate, strike"""),
        _phrases("""a ceasefire, the peace talks, new sanctions, the election result, an arms embargo, a border deal, the
            curfew, an amnesty, the constitution, a hunger strike, the treaty, a coup, the siege, martial law, the
            referendum, a prisoner swap, the truce, an uprising"""),
    ),
    Topic(
        _phrases("""strikers, goalkeepers, sprinters, the champions, coaches, rookies, batsmen, swimmers, cyclists,
            referees, defenders, golfers, the underdogs, quarterbacks, rowers, boxers, pitchers, wrestlers"""),
        _phrases("""win, lose, dominate, celebrate, miss, clinch, draw, chase, forfeit, rally in, strike in, score in,
            train for, enter, call for, defend"""),
        _phrases("""the cup final, a playoff match, the relay, an overtime thriller, the league title, a penalty
            shootout, the marathon, the derby, a gold medal, the season opener, a rematch, the semifinal, the tournament,
            the home game, a world record, the transfer deal, the qualifying round, the net"""),
    ),
    Topic(
        _phrases("""shareholders, bankers, retailers, airlines, oil producers, investors, insurers, carmakers, brokers,
            lenders, regulators, exporters, accountants, hedge funds, creditors, grocers, tycoons, auditors"""),
        _phrases("""approve, cut, raise, report, forecast, finance, post, slash, sell, buy, hedge, miss, back, settle,
            block, negotiate"""),
        _phrases("""a merger, quarterly profits, the dividend, interest rates, a takeover bid, record earnings, fuel
            prices, the bankruptcy plan, a bond sale, annual sales, the stock offering, a billion dollar deal, job cuts,
            the pension debt, import tariffs, net losses, the market rally, an antitrust claim"""),
    ),
    Topic(
        _phrases("""astronomers, engineers, hackers, biologists, programmers, software makers, physicists, geneticists,
            browser developers, chip designers, geologists, robots, satellites, web portals, chemists, phone makers,
            space probes, virologists"""),
        _phrases("""launch, discover, decode, test, patch, map, unveil, encrypt, simulate, download, observe, clone,
            upgrade, track, release, score in"""),
        _phrases("""a comet, the genome, a search engine, new software, an operating system, the fossil, a computer virus,
            the spacecraft, a wireless network, the telescope, an encryption flaw, a fuel cell, the open source
            code, a vaccine, the moon lander, a net browser, the laser, a stem cell record"""),
    ),
]

_NAMES = _phrases("""Adeyemi, Brandt, Castillo, Dvorak, Eriksen, Fontaine, Grigoryan, Haddad, Ivanova, Jansen, Kimura,
    Lindqvist, Mbeki, Novak, Okafor, Pereira, Quispe, Rossi, Sato, Tanaka, Usman, Varga, Weber, Yilmaz, Zhou""")
_PLACES = _phrases("""Lagos, Oslo, Lima, Cairo, Osaka, Vienna, Nairobi, Boston, Jakarta, Prague, Quito, Dublin, Mumbai,
    Seoul, Athens, Denver, Accra, Lisbon, Hanoi, Montreal, Tunis, Perth, Riga, Bogota""")
_DAYS = _phrases("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
_LINKS = _phrases("after, as, while, before, because, although, since, when")
# What people of every topic do, so that a subject can be mentioned without its own verb and object.
_COMMON_ACTS = _phrases("""look on, wait, return to {place}, arrive in {place}, leave {place}, ask for {number} days more,
    stay silent, disagree, gather in {place}, lose patience, watch""")
_OPENINGS = ["", "", "{place} - ", "{day}: ", "Report: ", "Update {number}: "]
_REMARKS = _phrases("""no surprise, a long week, the right decision, too little; too late, only the beginning,
    a matter of time, hard to believe, good news for {place}""")
_NEUTRAL_ENDINGS = [
    '{name} of {place} called it "{remark}" on {day}.',
    "It took {number} days, {name} said in {place}.",
    "More than {number} people, {name} among them, had expected it!",
    'Who is next? "{remark}," said {name} ({place}).',
    "{name}'s group of {number} will meet in {place} on {day}.",
]
_TOPICAL_ENDINGS = [
    "{name} spoke of {own_object} on {day}.",
    "For {name} and other {own_subject} it was the second time in {number} weeks.",
    "In {place}, {number} {own_subject} had hoped for {own_object}; {name} had not.",
    '"{remark}," said {name}, who once worked with {other_subject}.',
    "{name}, a friend of {other_subject}, heard of it in {place}.",
    "Some compared it with {other_object}; {name} of {place} did not.",
]


def load_demo_news(seed: int = 0, num_train: int = 4000, num_test: int = 1000) -> DatasetDict:
    """Return generated news with the label names of AG News, classes balanced and no text twice.

    Args:
        seed: Chooses the texts; one seed gives the same texts in every process.
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
    for name, value in (("num_train", num_train), ("num_test", num_test)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}. Ask for one text or more.")
    rng = random.Random(seed)
    seen: set[str] = set()
    features = Features({"text": Value("string"), "label": ClassLabel(names=LABEL_NAMES)})
    splits = {}
    for split, size in (("train", num_train), ("test", num_test)):
        rows = _make_rows(rng, size, seen)
        splits[split] = Dataset.from_dict(
            {"text": [text for text, _ in rows], "label": [label for _, label in rows]}, features=features
        )
    return DatasetDict(splits)


def _make_rows(rng: random.Random, size: int, seen: set[str]) -> list[tuple[str, int]]:
    """Return `size` shuffled texts with their labels, none of which is in `seen`, and add them to it."""
    missing = [size // 4 + (label < size % 4) for label in range(4)]
    # two neighbours of this list hold every class once
    pairs = [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)]
    rows: list[tuple[str, int]] = []
    for index in range(round(size * _PAIRED_SHARE / 2)):
        labels = pairs[index % len(pairs)]
        for label, text in zip(labels, _new(_make_pair, rng, labels, seen), strict=True):
            rows.append((text, label))
            missing[label] -= 1
    for label, count in enumerate(missing):
        for _ in range(count):
            other = rng.choice([topic for topic in range(4) if topic != label])
            rows += [(text, label) for text in _new(_make_single, rng, (label, other), seen)]
    rng.shuffle(rows)
    return rows


def _new(
    make: Callable[[random.Random, tuple[int, int]], list[str]],
    rng: random.Random,
    labels: tuple[int, int],
    seen: set[str],
) -> list[str]:
    """Return what `make` makes, made again until none of it is in `seen`, and add it to `seen`."""
    while True:
        texts = make(rng, labels)
        if seen.isdisjoint(texts):
            seen.update(texts)
            return texts


def _make_pair(rng: random.Random, labels: tuple[int, int]) -> list[str]:
    """Return two texts with the same words, one of each label: their clauses change places."""
    first, second = (_make_clause(rng, label) for label in labels)
    opening, ending = _fill(rng, rng.choice(_OPENINGS)), _fill(rng, rng.choice(_NEUTRAL_ENDINGS))
    link, side_first = rng.choice(_LINKS), rng.random() < 0.5
    return [
        f"{opening}{_join(main, link, side, side_first)}. {ending}"
        for main, side in ((first, second), (second, first))
    ]


def _make_single(rng: random.Random, labels: tuple[int, int]) -> list[str]:
    """Return one text of the first label that also mentions the second."""
    own, other = (TOPICS[label] for label in labels)
    side = f"{rng.choice(other.subjects)} {_fill(rng, rng.choice(_COMMON_ACTS))}"
    sentence = _join(_make_clause(rng, labels[0]), rng.choice(_LINKS), side, rng.random() < 0.5)
    ending = _fill(
        rng,
        rng.choice(_NEUTRAL_ENDINGS + _TOPICAL_ENDINGS),
        own_subject=rng.choice(own.subjects),
        own_object=rng.choice(own.objects),
        other_subject=rng.choice(other.subjects),
        other_object=rng.choice(other.objects),
    )
    return [f"{_fill(rng, rng.choice(_OPENINGS))}{sentence}. {ending}"]


def _make_clause(rng: random.Random, label: int) -> str:
    topic = TOPICS[label]
    return f"{rng.choice(topic.subjects)} {rng.choice(topic.verbs)} {rng.choice(topic.objects)}"


def _join(main: str, link: str, side: str, side_first: bool) -> str:
    sentence = f"{link} {side}, {main}" if side_first else f"{main} {link} {side}"
    return sentence[0].upper() + sentence[1:]


def _fill(rng: random.Random, template: str, **phrases: str) -> str:
    """Return `template` with its fields filled: a name, a place, a day, a number, a remark, and `phrases`."""
    place = rng.choice(_PLACES)
    text = template.format(
        name=rng.choice(_NAMES),
        place=place,
        day=rng.choice(_DAYS),
        number=rng.randrange(2, 100),
        remark=rng.choice(_REMARKS).format(place=place),
        **phrases,
    )
    return text[:1].upper() + text[1:]
