"""What happens in the passages of the reading skill: each event's tellings, and the questions they answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Ways to tell one event, and questions with the answers that every telling contains."""

    tellings: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    only_here: tuple[str, ...] = ()
    group: str = ""


def event(tellings: str, *questions: str, only_here: str = "", group: str = "") -> Event:
    """An event from "telling|telling" and "question|answer" texts."""
    pairs = tuple((question, answer) for question, answer in (text.split("|") for text in questions))
    return Event(tuple(tellings.split("|")), pairs, tuple(only_here.split("|")) if only_here else (), group or tellings)


REASONS = (
    ("stayed at home", "{he} was ill"),
    ("took a taxi", "the bus was late"),
    ("bought an umbrella", "it was raining"),
    ("opened the window", "the room was hot"),
    ("closed the shop early", "there were no customers"),
    ("called a doctor", "{his} arm hurt"),
    ("went to bed early", "{he} was very tired"),
    ("missed the train", "{his} watch was slow"),
    ("laughed", "the story was funny"),
    ("wore a coat", "it was cold outside"),
    ("made a cake", "it was {his} birthday"),
    ("changed the password", "{he} had forgotten the old one"),
    ("returned the shoes", "they were too small"),
    ("sold the car", "it used too much fuel"),
    ("called the help desk", "the printer did not work"),
    ("walked to work", "the road was closed"),
    ("left the party", "the music was too loud"),
    ("asked for a refund", "the parcel was damaged"),
    ("turned off the computer", "the screen was frozen"),
    ("was happy", "the team won the game"),
    ("was late", "the traffic was heavy"),
    ("cancelled the trip", "the hotel was full"),
    ("moved to a new flat", "the old one was too small"),
    ("studied hard", "the exam was difficult"),
    ("drank some water", "{he} was thirsty"),
    ("ran to the station", "the train was about to leave"),
)

EVENTS = (
    event(
        "{p} bought {n} {items} at the {shop} on {day}.|On {day}, {p} went to the {shop} and bought {n} {items}.",
        "Who bought the {items}?|{p}",
        "How many {items} did {p} buy?|{n}",
        "Where did {p} buy the {items}?|at the {shop}",
        "When did {p} buy the {items}?|on {day}",
        "What did {p} buy?|{n} {items}",
        group="trade",
    ),
    event(
        "{p} lives in {town} and works as {a_job}.|{p} works as {a_job} and lives in {town}.",
        "Where does {p} live?|in {town}",
        "What is {p}'s job?|{a_job}",
        "Who lives in {town}?|{p}",
        group="home",
    ),
    event(
        "{p} met {q} at the {spot} at {time}.|At {time}, {p} met {q} at the {spot}.",
        "Who did {p} meet?|{q}",
        "Where did {p} meet {q}?|at the {spot}",
        "At what time did {p} meet {q}?|at {time}",
        group="meet",
    ),
    event(
        "{p} has {an_animal} called {pet}.|{p} owns {an_animal}, and its name is {pet}.",
        "What animal does {p} have?|{an_animal}",
        "What is the name of {p}'s animal?|{pet}",
        "Who has {an_animal}?|{p}",
        group="animal",
    ),
    event(
        "{p} gave {q} {adj_item}.|{p} handed {q} {adj_item} as a present.",
        "Who gave {q} {an_item}?|{p}",
        "What did {p} give {q}?|{adj_item}",
        "Who got {adj_item}?|{q}",
        group="give",
    ),
    event(
        "{p} {do} because {because}.|Because {because}, {p} {do}.",
        "Why is it that {p} {do}?|because {because}",
        "Who {do}?|{p}",
    ),
    event(
        "{p} cooked {food} for {q} on {day}.|On {day}, {p} made {food} for {q}.",
        "What did {p} make for {q}?|{food}",
        "Who made the food?|{p}",
        "Who did {p} cook for?|{q}",
        "On which day did {p} cook?|on {day}",
    ),
    event(
        "{p} went to {town} by train in {month}.|In {month}, {p} took the train to {town}.",
        "Where did {p} go?|to {town}",
        "When did {p} go to {town}?|in {month}",
        "How did {p} get to {town}?|by train",
        "Who went to {town}?|{p}",
        group="go",
    ),
    event(
        "{p} put the {item} in the {colour} box.|The {item} is in the {colour} box, where {p} put it.",
        "Where is the {item}?|in the {colour} box",
        "Who put the {item} in the box?|{p}",
        "What colour is the box?|{colour}",
        "What is in the {colour} box?|the {item}",
        group="lose",
    ),
    event(
        "{p} is {years} years old and likes {hobby}.|{p} likes {hobby} and is {years} years old.",
        "How old is {p}?|{years} years old",
        "What does {p} like?|{hobby}",
        "Who likes {hobby}?|{p}",
    ),
    event(
        "{p} lost {a_colour} {item} near the {spot}.|Near the {spot}, {p} lost {a_colour} {item}.",
        "What did {p} lose?|{a_colour} {item}",
        "Where was the {item} lost?|near the {spot}",
        "Who lost the {item}?|{p}",
        "What colour was the {item}?|{colour}",
        group="lose",
    ),
    event(
        "{p} found {n} {items} under the table {part}.|Under the table, {p} found {n} {items} {part}.",
        "How many {items} did {p} find?|{n}",
        "Where did {p} find the {items}?|under the table",
        "When did {p} find the {items}?|{part}",
        "Who found the {items}?|{p}",
        group="lose",
    ),
    event(
        "{p} paid {price} dollars for {an_item}.|The {item} cost {p} {price} dollars.",
        "How much did {p} pay for the {item}?|{price} dollars",
        "Who paid {price} dollars?|{p}",
        "What did {p} pay {price} dollars for?|{an_item}",
        group="trade",
    ),
    event(
        "{p} has an appointment at the clinic on {date} at {time}.|On {date} at {time}, {p} has an appointment at "
        "the clinic.",
        "When is {p}'s appointment?|on {date} at {time}",
        "Where is {p}'s appointment?|at the clinic",
        "Who has an appointment at the clinic?|{p}",
        "At what time is the appointment?|at {time}",
        group="time",
    ),
    event(
        "{p} teaches {hobby} at the school in {town}.|At the school in {town}, {p} teaches {hobby}.",
        "What does {p} teach?|{hobby}",
        "Where does {p} teach?|at the school in {town}",
        "Who teaches {hobby}?|{p}",
        group="home",
    ),
    event(
        "{p} sold {n} {items} to {q}.|{q} bought {n} {items} from {p}.",
        "Who sold the {items}?|{p}",
        "How many {items} did {p} sell?|{n}",
        "Who bought the {items} from {p}?|{q}",
        group="trade",
    ),
    event(
        "{p} lives at {years} {street}.|The home of {p} is at {years} {street}.",
        "What is {p}'s address?|{years} {street}",
        "Who lives on {street}?|{p}",
        "In which street does {p} live?|{street}",
        group="home",
    ),
    event(
        "{p} called {q} at {time} to talk about the {item}.|At {time}, {p} called {q} about the {item}.",
        "Who called {q}?|{p}",
        "When did {p} call {q}?|at {time}",
        "What did {p} call about?|about the {item}",
        "Who did {p} call?|{q}",
        group="call",
    ),
    event(
        "{p} painted the door {colour} on {day}.|On {day}, {p} painted the door {colour}.",
        "What did {p} paint?|the door",
        "What colour is the door now?|{colour}",
        "When did {p} paint the door?|on {day}",
        "Who painted the door?|{p}",
    ),
    event(
        "{p} and {q} walked to the {spot} {part}.|Together with {q}, {p} walked to the {spot} {part}.",
        "Where did {p} and {q} walk?|to the {spot}",
        "Who walked with {p}?|{q}",
        "When did they walk to the {spot}?|{part}",
        group="go",
    ),
    event(
        "{p} broke the {colour} {item} by accident.|By accident, {p} broke the {colour} {item}.",
        "What did {p} break?|the {colour} {item}",
        "Who broke the {item}?|{p}",
        group="break",
    ),
    event(
        "{p} works at the {shop} in {town}.|In {town}, {p} has a job at the {shop}.",
        "Where does {p} work?|at the {shop} in {town}",
        "Who works at the {shop}?|{p}",
        "In which town is the {shop}?|{town}",
        group="home",
    ),
    event(
        "{p}'s phone number is {phone}.|You can reach {p} on {phone}.",
        "What is {p}'s phone number?|{phone}",
        "Who can be reached on {phone}?|{p}",
        group="call",
    ),
    event(
        "{p} plants {n} {colour} flowers in the garden each {month}.|Each {month}, {p} plants {n} {colour} flowers "
        "in the garden.",
        "How many flowers does {p} plant?|{n}",
        "What colour are the flowers?|{colour}",
        "When does {p} plant flowers?|each {month}",
        "Where does {p} plant the flowers?|in the garden",
    ),
    event(
        "{p} starts work at {time} and goes home at {time2}.|At {time}, {p} starts work, and {he} goes home at "
        "{time2}.",
        "When does {p} start work?|at {time}",
        "When does {p} go home?|at {time2}",
        group="time",
    ),
    event(
        "{p} wants to buy {adj_item}, but {he} has only {price} dollars.|{p} has only {price} dollars, but {he} "
        "wants to buy {adj_item}.",
        "What does {p} want to buy?|{adj_item}",
        "How much money does {p} have?|{price} dollars",
        group="trade",
    ),
    event(
        "{p} borrowed the {item} from {q} on {day}.|On {day}, {q} lent the {item} to {p}.",
        "What did {p} borrow?|the {item}",
        "Who lent the {item} to {p}?|{q}",
        "When did {p} borrow the {item}?|on {day}",
        "Who borrowed the {item}?|{p}",
        group="lose",
    ),
    event(
        "{p} saw {an_animal} near the {spot}.|Near the {spot}, {p} saw {an_animal}.",
        "What did {p} see?|{an_animal}",
        "Where did {p} see {an_animal}?|near the {spot}",
        "Who saw {an_animal}?|{p}",
        group="animal",
    ),
    event(
        "{p} sent a letter to {q} on {date}.|On {date}, {q} got a letter from {p}.",
        "Who wrote to {q}?|{p}",
        "What did {p} send?|a letter",
        "What is the date of the letter?|{date}",
    ),
    event(
        "{sister} is the sister of {q} and lives in {town}.|{q} has a sister, {sister}, who lives in {town}.",
        "Who is the sister of {q}?|{sister}",
        "Where does the sister of {q} live?|in {town}",
        group="home",
    ),
)

NOTICES = (
    event(
        "The {shop} on {street} is open from {time} to {time2}. It is closed on {day}. For questions, call {phone}."
        "|Our {shop} is on {street}. It opens at {time} and closes at {time2}. It is closed on {day}. Please call "
        "{phone}.",
        "Where is the {shop}?|on {street}",
        "On which day is the {shop} closed?|on {day}",
        "Which number can people call?|{phone}",
        "When does the {shop} open?|at {time}",
        "When does the {shop} close?|at {time2}",
        only_here="Where is the {shop}?|Which number can people call?",
    ),
    event(
        "The town of {town} will open a new {spot} on {date}. It cost {price} million dollars. {p}, the mayor, "
        "said that people had waited {n} years for it."
        "|After {n} years of work, a new {spot} will open in {town} on {date}. The mayor, {p}, said that it cost "
        "{price} million dollars.",
        "What will open in {town}?|a new {spot}",
        "When will the {spot} open?|on {date}",
        "How much did it cost?|{price} million dollars",
        "Who is the mayor?|{p}",
        only_here="Who is the mayor?|How much did the new building cost?",
    ),
    event(
        "To reset the {item}, press the {colour} button for {n} seconds. Then wait until the light turns off. If "
        "it does "
        "not work, write to {p}.|Press the {colour} button for {n} seconds to reset the {item}. Wait until the "
        "light turns off. "
        "Write to {p} if it does not work.",
        "Which button resets the {item}?|the {colour} button",
        "How long should you press the button?|for {n} seconds",
        "Who can help if it does not work?|{p}",
        "What should you wait for?|until the light turns off",
        only_here="How long should you press the button?|Which button should be pressed?",
    ),
    event(
        "The weather in {town} was {weather} on {day}. {n} people had to leave the {spot}. The wind broke a window "
        "of the {shop}."
        "|On {day} it was {weather} in {town}. The wind broke a window of the {shop}, and {n} people had to leave "
        "the {spot}.",
        "What was the weather like in {town}?|{weather}",
        "How many people had to leave the {spot}?|{n}",
        "What broke the window?|the wind",
        "On which day was this?|on {day}",
        only_here="What was the weather like?|What broke the window?",
    ),
    event(
        "Class {price} will visit the {spot} in {town} on {date}. The bus leaves at {time}. Please bring {n} "
        "dollars and {an_item}. "
        "The teacher is {p}.|{p} is a teacher and will take class {price} to the {spot} in {town} on {date}. The "
        "bus leaves at {time}. "
        "Every child should bring {an_item} and {n} dollars.",
        "Where will the class go?|to the {spot} in {town}",
        "When does the bus leave?|at {time}",
        "What should the children bring?|{an_item} and {n} dollars",
        "What is the date of the trip?|{date}",
        "Who is the teacher?|{p}",
        only_here="When does the bus leave?|Who is the teacher?|What should the children bring?",
    ),
    event(
        "The farm near {town} has {n} cows and {price} hens. {p} milks the cows {part}. The milk is sold at the {shop}."
        "|{p} has a farm near {town} with {n} cows and {price} hens. The cows are milked {part}, and the milk is "
        "sold at the {shop}.",
        "How many cows are there?|{n}",
        "How many hens are there?|{price}",
        "Where is the milk sold?|at the {shop}",
        "Where is the farm?|near {town}",
        only_here="How many cows are there?|Where is the milk sold?",
    ),
    event(
        "Members of the library in {town} may borrow {n} books for {price} days. New members should ask {p} at the "
        "desk. "
        "The library is closed on {day}.|The library in {town} is closed on {day}. Members may borrow {n} books for "
        "{price} days. {p} at the desk helps new members.",
        "How many books may members borrow?|{n}",
        "For how many days may members keep books?|{price}",
        "Who helps new members?|{p}",
        "On which day is the library closed?|on {day}",
        only_here="How many books may members borrow?|Who helps new members?",
    ),
    event(
        "Dr {p} sees patients at the clinic on {street}. Please come {n} minutes early and bring your card. "
        "Parking costs "
        "{price} dollars.|The clinic of Dr {p} is on {street}. Patients should bring their card and come {n} "
        "minutes early. Parking "
        "costs {price} dollars.",
        "Where is the clinic?|on {street}",
        "How early should patients come?|{n} minutes early",
        "What should patients bring?|their card",
        "How much does parking cost?|{price} dollars",
        "Who sees patients at the clinic?|Dr {p}",
        only_here="How much does parking cost?|What should patients bring?",
    ),
    event(
        "{p} and {q} opened a {shop} in {town} in {month}. They sell {items} for {price} dollars each. Most "
        "customers come {part}."
        "|In {month}, {p} and {q} opened a {shop} in {town}. Their {items} cost {price} dollars each. Most "
        "customers come {part}.",
        "Who opened the {shop}?|{p} and {q}",
        "What does the {shop} sell?|{items}",
        "How much do the {items} cost?|{price} dollars each",
        "When do most customers come?|{part}",
        only_here="When do most customers come?",
    ),
    event(
        "The train to {town} leaves from platform {n} at {time}. It arrives at {time2}. A ticket costs {price} dollars."
        "|A ticket for the train to {town} costs {price} dollars. It leaves at {time} from platform {n} and "
        "arrives at {time2}.",
        "Where does the train go?|to {town}",
        "From which platform does it leave?|platform {n}",
        "When does it arrive?|at {time2}",
        "How much is a ticket?|{price} dollars",
        only_here="From which platform does it leave?|How much is a ticket?",
    ),
)
