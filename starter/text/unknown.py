"""Not knowing: questions about the day, private persons, prices and obscure facts that no small model can answer."""

from . import words as w
from .kit import Draw, Sample, Skill, reply, styled

KINDS = (
    (
        "What is the weather in {town} today?|How is the weather in {town}?|Is it raining in {town} now?|Will it "
        "be {weather} in {town} tomorrow?|"
        "What will the weather be like in {town} on {day}?",
        "I don't know the weather in {town}, because I cannot see live information. Please look at a weather service.",
    ),
    (
        "What is in the news today?|What happened in {town} today?|What is the latest news from {town}?|Who won "
        "the election in {town}?|"
        "What happened in {town} last {day}?|Any news from {town}?",
        "I don't know the news, because I have no connection to the internet. Please read a newspaper.",
    ),
    (
        "Who is {name} {surname}?|Do you know {name} {surname}?|How old is {name} {surname}?|Where does {name} "
        "{surname} live?|"
        "What is the phone number of {name} {surname}?|Who is the father of {name} {surname}?|What is {name} "
        "{surname}'s job?",
        "I don't know anything about {name} {surname}. If you tell me more, I can work with that.",
    ),
    (
        "How much does {an_item} cost in {town}?|What is the price of {an_item} at the {shop}?|How much are "
        "{items} this week?|"
        "Where are {items} cheapest?|What do {n} {items} cost today?",
        "I don't know current prices. Please ask the shop.",
    ),
    (
        "What time is it?|What is the date today?|Which day is it today?|What time is it in {town}?|What year is "
        "it now?",
        "I don't know the time or the date, because I have no clock. Your computer can show it.",
    ),
    (
        "When does the next train to {town} leave?|Is the train to {town} late?|Which bus goes to {town}?|When "
        "does my flight to {town} leave?|"
        "How long is the traffic jam near {town}?",
        "I don't know the timetable, because I cannot see live information. Please ask the transport company.",
    ),
    (
        "How many people live in {town}?|Who founded {town}?|Who is the mayor of {town}?|How many {items} were "
        "made in {town} last year?|"
        "Who invented the {colour} {item}?|What was the name of the first {job} in {town}?|How high is the church "
        "in {town}?",
        "I don't know that. I am a small model and I do not want to guess.",
    ),
    (
        "Who won the game on {day}?|What was the score of {town} against {other}?|Did {town} win yesterday?|Who is "
        "the best player of {town}?",
        "I don't know the results of games, because I cannot see live information.",
    ),
    (
        "What did I eat yesterday?|Where are my keys?|What is my name?|Where did I put my {item}?|What is my "
        "password?|When is my birthday?|"
        "What is in my {item}?|What did {name} tell me on {day}?|Where is my {colour} {item}?",
        "I don't know that, because I only know what you tell me in this chat.",
    ),
    (
        "Will I be rich?|Will it rain on my birthday?|Which number will win the lottery?|Who will win the next "
        "election?|"
        "Will {town} win next {day}?|Will {name} marry me?|Will the price of {items} rise?",
        "I don't know what the future brings. Nobody can say that for sure.",
    ),
    (
        "Can you call {name} for me?|Send an email to {name}.|Book a hotel in {town} for {day}.|Open the website "
        "of {town}.|Order {n} {items} for me.|"
        "Set an alarm for {time}.|Turn on the light in the kitchen.",
        "I cannot do that, because I can only read and write text here. I can help you to write a message.",
    ),
)


def make(d: Draw) -> Sample:
    """One question that the model cannot know the answer of."""
    questions, answer = d.pick(KINDS)
    item, items = d.slot(w.ITEMS)
    name, town = w.person(d).name, w.town(d)
    values = {
        "town": town,
        "other": w.town(d),
        "name": name,
        "surname": w.surname(d),
        "item": item,
        "items": items,
        "an_item": ("an " if item[0] in "aeiou" else "a ") + item,
        "shop": d.slot(w.SHOPS),
        "day": d.pick(w.DAYS),
        "n": d.number(3, 40),
        "colour": d.pick(w.COLOURS),
        "weather": d.pick(w.WEATHERS),
        "job": d.slot(w.JOBS),
        "time": w.clock(d),
    }
    template = d.pick(questions.split("|"))
    user = styled(d, template.format(**values))
    fixed = "{" not in template
    return reply(d, d.side(user) if fixed else user, answer.format(**values))


SKILL = Skill("unknown", make, "f1")
