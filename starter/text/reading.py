"""Reading: a short passage, then questions that its own words answer, or that it leaves open."""

from . import words as w
from .kit import Draw, Person, Sample, Skill, an, cap, chat, low, styled, words_of
from .scenes import EVENTS, NOTICES, REASONS, Event

NOT_SAID = "The passage does not say."

FORMS = (
    "Read the passage and answer the question.\n\n{passage}\n\nQuestion: {question}",
    "{passage}\n\n{question}",
    "Passage: {passage}\nQuestion: {question}",
    "{passage}\n\nQuestion: {question}\nAnswer with words from the text.",
    "Here is a text: {passage}\n\n{question}",
    "Question: {question}\n\nText: {passage}",
    "Answer from this text only. {passage} {question}",
)


def quantity(d: Draw) -> str:
    """A small number as a story writes it."""
    number = d.number(2, 12) if d.chance(0.7) else d.number(13, 60)
    return words_of(number) if number < 13 else str(number)


def slots(d: Draw, somebody: Person, other: Person) -> dict[str, str]:
    """Values for every slot that an event may name."""
    item, items = d.slot(w.ITEMS)
    do, because = d.pick(REASONS)
    colour = d.pick(w.COLOURS)
    early, late = sorted(d.slots(w.TIMES, 2), key=lambda time: int(time.replace(":", "")))
    return {
        "p": somebody.name,
        "he": somebody.he,
        "his": somebody.his,
        "q": other.name,
        "sister": w.woman(d),
        "n": quantity(d),
        "item": item,
        "items": items,
        "an_item": an(item),
        "adj_item": an(f"{d.slot(w.ADJECTIVES)} {item}"),
        "shop": d.slot(w.SHOPS),
        "spot": d.slot(w.SPOTS),
        "town": w.town(d),
        "street": d.slot(w.STREETS),
        "day": d.pick(w.DAYS),
        "month": d.pick(w.MONTHS),
        "date": w.date(d),
        "time": early,
        "time2": late,
        "part": d.pick(w.PARTS_OF_DAY),
        "colour": colour,
        "a_colour": an(colour),
        "animal": d.slot(w.ANIMALS),
        "an_animal": an(d.slot(w.ANIMALS)),
        "pet": w.invented(d, w.ENDS),
        "a_job": an(d.slot(w.JOBS)),
        "food": d.slot(w.FOODS),
        "hobby": d.slot(w.HOBBIES),
        "weather": d.pick(w.WEATHERS),
        "price": str(d.number(2, 95)),
        "years": str(d.number(18, 80)),
        "phone": w.phone(d),
        "do": do,
        "because": because.format(he=somebody.he, his=somebody.his),
    }


def apart(d: Draw, count: int) -> list[Event]:
    """Several events of different groups, so that no event answers another event's question."""
    found: dict[str, Event] = {}
    while len(found) < count:
        event = d.pick(EVENTS)
        found.setdefault(event.group, event)
    return list(found.values())


def story(d: Draw) -> tuple[str, list[tuple[str, str]], list[str]]:
    """A passage, the questions it answers, and questions that it does not answer."""
    count = d.pick((1, 2, 2, 3, 3, 4))
    cast = w.people(d, count + 1)
    events = apart(d, count + 2)
    asked: list[tuple[str, str]] = []
    sentences = []
    for index, event in enumerate(events[:count]):
        values = slots(d, cast[0 if d.chance(0.3) else index], cast[-1])
        sentences.append(d.pick(event.tellings).format(**values))
        asked += [(question.format(**values), cap(answer.format(**values))) for question, answer in event.questions]
    unsaid = slots(d, cast[0], cast[-1])
    open_questions = [question.format(**unsaid) for event in events[count:] for question, _ in event.questions]
    if d.chance(0.15):
        sentences.insert(0, f"It was {an(d.pick(w.WEATHERS))} day in {w.town(d)}.")
    return " ".join(map(cap, sentences)), unique(asked), open_questions


def notice(d: Draw) -> tuple[str, list[tuple[str, str]], list[str]]:
    """A notice, a small news item or a help text with its questions."""
    somebody, other = w.people(d, 2)
    values = slots(d, somebody, other)
    event, absent = d.some(NOTICES, 2)
    passage = d.pick(event.tellings).format(**values)
    asked = [(question.format(**values), cap(answer.format(**values))) for question, answer in event.questions]
    return passage, asked, [question.format(**values) for question in absent.only_here]


def unique(asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Questions that have one answer: a question that two sentences answer differently is dropped."""
    answers: dict[str, set[str]] = {}
    for question, answer in asked:
        answers.setdefault(question, set()).add(answer)
    return [(question, answer) for question, answer in asked if len(answers[question]) == 1]


def make(d: Draw) -> Sample:
    """One passage with one to three questions, in training with up to five."""
    passage, asked, open_questions = notice(d) if d.chance(0.25) else story(d)
    taken = {question for question, _ in asked}
    chosen = d.some(asked, min(len(asked), d.pick((1, 1, 2, 3) if d.held else (1, 2, 3, 5))))
    free = [question for question in open_questions if question not in taken]
    if free and d.chance(0.16):
        chosen[d.number(0, len(chosen) - 1)] = (d.pick(free), NOT_SAID)
    first = d.pick(FORMS).format(passage=passage, question=styled(d, chosen[0][0]))
    turns = [first, end(chosen[0][1])]
    for question, answer in chosen[1:]:
        turns += [d.pick(("", "", "And ", "Next: ")) + question, end(answer)]
        if turns[-2].startswith("And "):
            turns[-2] = "And " + low(question)
    return Sample(chat(*turns))


def end(answer: str) -> str:
    """The answer as a sentence, closed by a full stop."""
    return answer if answer.endswith(".") else answer + "."


SKILL = Skill("reading", make, "exact")
