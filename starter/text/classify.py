"""Classification: the intent of a help-desk message from a list of labels, or the sentiment of a review."""

from . import words as w
from .kit import Draw, Sample, Skill, chat, listed, typed

INTENTS: dict[tuple[str, ...], str] = {
    (
        "refund",
        "money back",
    ): "I want my money back for the {item}.|Please refund order {code}.|When will I get the refund for the {item}?|"
    "You still owe me {n} dollars for the {item} I returned.|The {item} was a mistake. Can I get a refund?",
    (
        "delivery",
        "shipping",
    ): "Where is my parcel?|My {item} has not arrived yet.|When will order {code} be delivered to {town}?|"
    "The courier did not come on {day}.|Do you deliver {items} to {town}?|I have been waiting for the {item} since "
    "{day}.",
    (
        "password",
        "login",
    ): "I forgot my password.|I cannot log in to my account.|The login page does not accept my password.|"
    "How do I reset my password?|My account is locked since {day}.|It says that my password is wrong.",
    (
        "opening hours",
        "hours",
    ): "When are you open on {day}?|At what time does the shop in {town} close?|Are you open on {day}?|"
    "What are your opening hours in {town}?|Do you open before {time}?",
    (
        "complaint",
        "unhappy customer",
    ): "I am very unhappy with your service in {town}.|Your staff in {town} were rude to me.|"
    "This is the worst {shop} I know.|I want to complain about {name}.|I waited {n} minutes at the desk and nobody "
    "helped me.",
    (
        "cancel order",
        "cancellation",
    ): "Please cancel order {code}.|I do not want the {item} any more, please cancel it.|"
    "How can I cancel my order of {n} {items}?|I ordered the {item} by mistake, stop the order.",
    ("appointment", "booking"): "I would like to see Dr {surname} on {day}.|Can I book a visit for {day} at {time}?|"
    "Please move my appointment to {day}.|Is there a free appointment at {time}?|I need an appointment with {name} "
    "this week.",
    (
        "invoice",
        "bill",
    ): "I need the invoice for order {code}.|The amount on my bill is wrong.|Please send the bill for the {item} "
    "again.|"
    "There is an error on invoice {code}.|Can I have an invoice for {n} {items}?",
    (
        "damaged item",
        "broken product",
    ): "The {item} arrived broken.|My new {item} has a big scratch.|The {item} in order {code} is damaged.|"
    "Two of the {n} {items} are broken.|The {item} stopped working on {day}.",
    ("change address", "new address"): "I moved to {town}, please change my address.|My new address is {street}.|"
    "Please send my order to {street} and not to the old address.|How do I update my address?|We live at {street} now.",
    (
        "payment",
        "paying",
    ): "Can I pay for the {item} with a card?|My payment of {n} dollars did not go through.|Which cards do you take?|"
    "I paid twice for order {code}.|The page shows an error when I pay.",
    (
        "job",
        "vacancy",
    ): "Are you looking for {a_job}?|I would like to work for you as {a_job}.|Do you have a job for {a_job} in {town}?|"
    "Where can I send my application?|Is the job of {job} in {town} still free?",
    (
        "stock",
        "availability",
    ): "Do you have {items} in stock?|Is the {item} available in {colour}?|When will you have {items} again?|"
    "Are there any {colour} {items} left?|Can I still get {n} {items}?",
    (
        "price",
        "cost",
    ): "How much does the {item} cost?|What is the price of {n} {items}?|Is the {item} cheaper if I buy {n}?|"
    "How much do you ask for {colour} {items}?|What would {n} {items} cost?",
    (
        "thanks",
        "praise",
    ): "Thank you so much for your help!|Great service, {name} was very kind.|I love the new {item}, thank you.|"
    "The team in {town} did a wonderful job.|Thanks, the {item} is perfect.",
    (
        "technical problem",
        "bug",
    ): "The app crashes when I open it.|Your website is down.|The screen stays black after the update.|"
    "I get an error on the page with the {items}.|The app does not work on my {colour} phone.",
    (
        "directions",
        "location",
    ): "How do I get to your shop in {town}?|Where is your office?|Is your {shop} near {street}?|"
    "Which bus goes to your {shop} in {town}?|Where can I park near the {shop}?",
    (
        "newsletter",
        "emails",
    ): "Please stop sending me emails.|I want to get your newsletter.|How do I sign up for news about {items}?|"
    "Take me off the mailing list.|I get your newsletter twice.",
}

SENTIMENT = {
    "positive": "I love this {item}.|The {item} is great, and {name} was very friendly.|What a wonderful {shop}!|"
    "We had a lovely day at the {spot}.|"
    "The {food} was delicious.|{name} helped me at once. Excellent!|The {items} are beautiful and well made.|I am "
    "very happy with my {colour} {item}.|"
    "Best {shop} in {town}.|The {spot} in {town} is clean and the staff are kind.|I would buy the {item} again.|"
    "Perfect! The {item} works very well.",
    "negative": "I hate this {item}.|The {item} broke after {n} days.|What a terrible {shop}.|We had an awful day "
    "at the {spot}.|The {food} was cold and bad.|"
    "{name} was rude to us.|The {items} are ugly and badly made.|I am very unhappy with my {colour} {item}.|Worst "
    "{shop} in {town}.|"
    "The {spot} in {town} is dirty and the staff are unkind.|I would never buy the {item} again.|Awful! The {item} "
    "does not work at all.",
    "neutral": "The {item} is {colour}.|I bought the {item} on {day}.|The {shop} is on {street}.|{name} went to "
    "the {spot} on {day}.|There is {food} on the menu.|"
    "The {spot} in {town} opens at {time}.|The box contains {n} {items}.|We ordered {n} {colour} {items}.|The "
    "{shop} sells {items}.|"
    "The {item} came on {day} at {time}.|{name} works at the {shop}.",
}

INTENT_FORMS = (
    "Classify the message. Labels: {labels}.\n\n{text}",
    "Which label fits this message? Labels: {labels}.\nMessage: {text}",
    "Message: {text}\nChoose one of: {labels}.",
    "{text}\n\nIs this about {choice}? Answer with the label only.",
    "Labels: {labels}\nText: {text}\nLabel:",
)

SENTIMENT_FORMS = (
    "Is this text positive, negative or neutral?\n\n{text}",
    "What is the sentiment (positive, negative, neutral)? {text}",
    "Review: {text}\nSentiment (positive, negative or neutral):",
    "Classify the sentiment as positive, negative or neutral.\n{text}",
    "{text}\n\nPositive, negative or neutral?",
)


def filled(d: Draw, template: str) -> str:
    """A message with its slots filled."""
    item, items = d.slot(w.ITEMS)
    job = d.slot(w.JOBS)
    return template.format(
        item=item,
        items=items,
        name=w.person(d).name,
        surname=w.surname(d),
        town=w.town(d),
        day=d.pick(w.DAYS),
        time=w.clock(d),
        n=d.number(3, 60),
        code=w.code(d),
        street=w.street(d),
        shop=d.slot(w.SHOPS),
        spot=d.slot(w.SPOTS),
        food=d.slot(w.FOODS),
        colour=d.pick(w.COLOURS),
        job=job,
        a_job=("an " if job[0] in "aeiou" else "a ") + job,
    )


EXTRA = (
    "",
    "",
    "",
    "",
    "Hello. ",
    "Hi, this is {name}. ",
    "Dear team, ",
    "Good morning. ",
    "I am writing from {town}. ",
)


def intent(d: Draw) -> Sample:
    """A help-desk message and three to six labels; sometimes none fits and the label is other."""
    names = list(INTENTS)
    right, *wrong = d.some(names, d.number(3, 6))
    text = filled(d, d.pick(EXTRA)) + d.side(typed(d, filled(d, d.pick(INTENTS[right].split("|")))))
    labels = [d.pick(name) for name in wrong]
    answer = d.pick(right)
    if d.chance(0.08):
        answer = "other"
    labels.insert(d.number(0, len(labels)), answer)
    user = d.pick(INTENT_FORMS).format(labels=", ".join(labels), choice=listed(labels, "or"), text=text)
    return Sample(chat(user, answer))


def sentiment(d: Draw) -> Sample:
    """One or two sentences of one sentiment."""
    label = d.pick(("positive", "negative", "neutral"))
    templates = d.some(SENTIMENT[label].split("|"), 1 if d.chance(0.6) else 2)
    text = d.side(" ".join(filled(d, template) for template in templates))
    return Sample(chat(d.pick(SENTIMENT_FORMS).format(text=text), label))


def make(d: Draw) -> Sample:
    """One classification."""
    return intent(d) if d.chance(0.65) else sentiment(d)


SKILL = Skill("classify", make, "exact")
