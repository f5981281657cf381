"""Tables of plain facts for the knowledge skill, each with its question frames and its answer."""

from .kit import split

Table = tuple[tuple[str, ...], str, tuple[tuple[str, str], ...]]


def rows(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs from "left:right left:right" or, with bars, from "left:right|left:right"."""
    return tuple((left, right) for left, right in (part.split(":") for part in split(text)))


TABLES: tuple[Table, ...] = (
    (
        (
            "What is the capital of {a}?",
            "Name the capital of {a}.",
            "Which city is the capital of {a}?",
            "Tell me the capital of {a}.",
            "Do you know the capital of {a}?",
            "The capital of {a} is?",
            "What's the capital city of {a}?",
        ),
        "The capital of {a} is {b}.",
        rows(
            "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|England:London|Ireland:Dublin|"
            "Scotland:Edinburgh|"
            "Austria:Vienna|Poland:Warsaw|Greece:Athens|Sweden:Stockholm|Norway:Oslo|Denmark:Copenhagen|"
            "Finland:Helsinki|Belgium:Brussels|"
            "Hungary:Budapest|Russia:Moscow|Ukraine:Kyiv|Turkey:Ankara|Egypt:Cairo|Kenya:Nairobi|India:New Delhi|"
            "China:Beijing|Japan:Tokyo|"
            "Canada:Ottawa|Mexico:Mexico City|Cuba:Havana|Peru:Lima|Argentina:Buenos Aires|Brazil:Brasilia|"
            "Chile:Santiago|Australia:Canberra|"
            "Thailand:Bangkok|Vietnam:Hanoi|South Korea:Seoul|Iceland:Reykjavik"
        ),
    ),
    (
        (
            "What is the opposite of {a}?",
            "Give me the opposite of {a}.",
            "Which word is the opposite of {a}?",
            "Tell me the opposite of {a}.",
            "What's the opposite of {a}?",
            "{a}: what is the opposite?",
        ),
        "The opposite of {a} is {b}.",
        rows(
            "hot:cold big:small long:short high:low fast:slow old:new young:old good:bad happy:sad light:dark "
            "heavy:light open:closed full:empty "
            "rich:poor strong:weak early:late easy:difficult clean:dirty wet:dry soft:hard loud:quiet up:down "
            "left:right inside:outside "
            "first:last day:night summer:winter true:false always:never everything:nothing near:far wide:narrow "
            "thick:thin sweet:sour "
            "cheap:expensive safe:dangerous kind:unkind love:hate begin:end buy:sell win:lose question:answer "
            "black:white"
        ),
    ),
    (
        (
            "What is the plural of {a}?",
            "Give me the plural of {a}.",
            "One {a}, two what?",
            "What do you call more than one {a}?",
            "Plural of {a}?",
            "Tell me the plural of {a}.",
        ),
        "The plural of {a} is {b}.",
        rows(
            "child:children mouse:mice foot:feet tooth:teeth goose:geese man:men woman:women person:people "
            "knife:knives leaf:leaves wolf:wolves "
            "life:lives box:boxes bus:buses dish:dishes city:cities baby:babies story:stories party:parties "
            "sheep:sheep fish:fish cat:cats "
            "house:houses day:days key:keys shelf:shelves loaf:loaves potato:potatoes tomato:tomatoes "
            "watch:watches glass:glasses family:families"
        ),
    ),
    (
        (
            "What is the past tense of {a}?",
            "Give me the past tense of {a}.",
            "Past tense of {a}?",
            "What is {a} in the past?",
            "Tell me the past tense of {a}.",
        ),
        "The past tense of {a} is {b}.",
        rows(
            "go:went see:saw eat:ate drink:drank buy:bought bring:brought think:thought come:came take:took "
            "give:gave make:made write:wrote "
            "read:read run:ran sing:sang swim:swam speak:spoke find:found lose:lost win:won know:knew have:had "
            "do:did say:said tell:told sleep:slept "
            "walk:walked play:played work:worked help:helped"
        ),
    ),
    (
        (
            "What colour is {a}?",
            "Which colour does {a} have?",
            "What's the colour of {a}?",
            "Tell me the colour of {a}.",
            "Can you tell me what colour {a} is?",
        ),
        "{a} is {b}.",
        rows(
            "the sky on a clear day:blue|grass:green|snow:white|a ripe banana:yellow|a lemon:yellow|a ripe "
            "tomato:red|blood:red|coal:black|"
            "an orange:orange|chocolate:brown|a carrot:orange|milk:white|the sun in a drawing:yellow|a "
            "cucumber:green|a strawberry:red|"
            "a frog:green|an elephant:grey|a polar bear:white|a raven:black|the sea:blue"
        ),
    ),
    (
        (
            "What sound does {an_a} make?",
            "What does {an_a} say?",
            "Which sound does {an_a} make?",
            "What noise does {an_a} make?",
            "What is the sound of {an_a}?",
        ),
        "{an_a} says {b}.",
        rows(
            "cat:meow dog:woof cow:moo sheep:baa duck:quack hen:cluck horse:neigh pig:oink frog:croak bee:buzz "
            "lion:roar owl:hoot mouse:squeak"
        ),
    ),
    (
        (
            "What is a young {a} called?",
            "What do you call a baby {a}?",
            "What is the young of a {a}?",
            "What is the name for a young {a}?",
            "How do we call a young {a}?",
        ),
        "A young {a} is called {an_b}.",
        rows(
            "dog:puppy cat:kitten cow:calf horse:foal sheep:lamb goat:kid pig:piglet hen:chick duck:duckling "
            "lion:cub bear:cub frog:tadpole deer:fawn goose:gosling"
        ),
    ),
    (
        (
            "How many legs does {an_a} have?",
            "How many legs has {an_a}?",
            "Number of legs of {an_a}?",
            "Tell me how many legs {an_a} has.",
            "{an_a} has how many legs?",
        ),
        "{an_a} has {b} legs.",
        rows(
            "dog:four cat:four bird:two spider:eight ant:six bee:six horse:four hen:two snake:no fish:no cow:four "
            "person:two fly:six lion:four duck:two"
        ),
    ),
    (
        (
            "How many {b}?",
            "Tell me how many {b}.",
            "Do you know how many {b}?",
            "I forgot how many {b}.",
            "Can you tell me how many {b}?",
        ),
        "There are {a}.",
        rows(
            "seven days in a week:days are in a week|twelve months in a year:months are in a year|60 minutes in an "
            "hour:minutes are in an hour|"
            "60 seconds in a minute:seconds are in a minute|24 hours in a day:hours are in a day|365 days in a "
            "normal year:days are in a year|"
            "four seasons in a year:seasons are in a year|100 centimetres in a metre:centimetres are in a metre|"
            "1000 metres in a kilometre:metres are in a kilometre|1000 grams in a kilogram:grams are in a kilogram|"
            "26 letters in the English alphabet:letters are in the English alphabet|five vowels in the English "
            "alphabet:vowels are in the English alphabet|"
            "12 items in a dozen:items are in a dozen|seven colours in a rainbow:colours are in a rainbow|52 weeks "
            "in a year:weeks are in a year|"
            "seven continents on Earth:continents are on Earth|eight planets around the sun:planets go around the sun|"
            "28 or 29 days in February:days are in February|31 days in January:days are in January|30 days in "
            "April:days are in April|"
            "three sides in a triangle:sides are in a triangle|four sides in a square:sides are in a square|"
            "ten fingers on two hands:fingers are on two hands|100 cents in a dollar:cents are in a dollar|"
            "1000 millilitres in a litre:millilitres are in a litre|100 years in a century:years are in a century|"
            "ten years in a decade:years are in a decade"
        ),
    ),
    (
        (
            "What does {an_a} do?",
            "What is the work of {an_a}?",
            "What is the job of {an_a}?",
            "Tell me what {an_a} does.",
            "Can you say what {an_a} does?",
        ),
        "{an_a} {b}.",
        rows(
            "baker:bakes bread and cakes|teacher:helps people to learn|doctor:treats sick people|farmer:grows food "
            "and keeps animals|"
            "pilot:flies aeroplanes|dentist:looks after teeth|plumber:repairs water pipes|librarian:looks after "
            "books|judge:decides in a court|"
            "tailor:makes clothes|vet:treats sick animals|gardener:looks after plants|cook:prepares meals|"
            "driver:drives a car or a bus|"
            "painter:paints walls or pictures|carpenter:makes things from wood|nurse:cares for sick people|"
            "mechanic:repairs cars|"
            "journalist:writes news|waiter:brings food to guests"
        ),
    ),
    (
        (
            "Where do you use {an_a}?",
            "What is {an_a} for?",
            "What do people use {an_a} for?",
            "Why do I need {an_a}?",
            "What can I do with {an_a}?",
        ),
        "You use {an_a} to {b}.".replace("{an_a}", "a {a}"),
        rows(
            "knife:cut things|spoon:eat soup|pen:write|broom:sweep the floor|hammer:drive nails into wood|"
            "camera:take photos|"
            "thermometer:measure temperature|ruler:measure length|clock:tell the time|kettle:boil water|towel:dry "
            "yourself|ladder:reach high places|"
            "key:open a lock|pillow:rest your head|torch:see in the dark|map:find your way|phone:call people|"
            "bicycle:ride to places|"
            "comb:tidy your hair|fridge:keep food cold"
        ),
    ),
    (
        (
            "What do you call {b}?",
            "Which word means {b}?",
            "What is the word for {b}?",
            "What is {b} called?",
            "Give me a word for {b}.",
        ),
        "The word is {a}.",
        rows(
            "library:a place where you can borrow books|hospital:a place where sick people are treated|museum:a "
            "place where old things are shown|"
            "school:a place where children learn|bakery:a shop that sells bread|island:land with water all around "
            "it|desert:a dry place with sand|"
            "bridge:a road over a river|rainbow:an arc of colours in the sky|breakfast:the first meal of the day|"
            "uncle:the brother of your father|"
            "aunt:the sister of your mother|grandmother:the mother of your mother|nephew:the son of your sister|"
            "orphan:a child without parents|"
            "neighbour:a person who lives next door|dentist:a doctor for teeth|umbrella:a thing that keeps off the "
            "rain|calendar:a list of days and months|"
            "dictionary:a book that explains words|airport:a place where planes land|harbour:a place where ships "
            "stop|volcano:a mountain that can throw out fire|"
            "garage:a place for a car|kitchen:a room for cooking"
        ),
    ),
)
