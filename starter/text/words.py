"""The word lists that skills fill their sentences from. Pools keep some of their values for held-out rows."""

from .kit import Draw, Person, Pool, is_held, split

WOMEN = Pool(
    split(
        "Ada Alice Amina Anna Bella Beth Carla Carmen Celia Chloe Clara Dana Diana Donna Edith Elena Ella Emily "
        "Emma Erin "
        "Esther Eva Fatima Fiona Flora Freya Gina Grace Greta Hana Hannah Helen Holly Ida Ingrid Irene Iris Isla "
        "Ivy Jane "
        "Jasmine Joan Julia Karen Kate Kira Laila Laura Leah Lena Lily Linda Lisa Lucy Luna Mara Maria Marta Mary "
        "Maya Mei "
        "Mina Mira Molly Nadia Nina Nora Olga Olivia Paula Petra Priya Rachel Rita Rosa Ruby Ruth Sally Sara Selma "
        "Sofia "
        "Stella Susan Tara Tessa Tina Vera Wendy Yara Yuki Zara Zoe"
    )
)
MEN = Pool(
    split(
        "Adam Ahmed Alan Albert Alex Amir Andrew Anton Arthur Ben Bill Boris Brian Bruno Carl Carlos Charles Chris "
        "Colin "
        "Daniel David Dennis Diego Dylan Eddie Edgar Elias Eric Ethan Felix Frank Fred Gary George Glen Hans "
        "Harold Harry "
        "Hassan Henry Hugo Ian Igor Isaac Ivan Jack Jacob James Jamal Jim Joel John Jonas Joseph Karl Kenji Kevin "
        "Kofi Lars "
        "Leo Lewis Liam Louis Lucas Luis Malik Marco Mark Martin Max Michael Miguel Milo Nathan Ned Nick Noah "
        "Oliver Omar "
        "Oscar Owen Pablo Patrick Paul Peter Rafael Raj Ralph Ravi Robert Ryan Sam Samuel Scott Sean Simon Stefan Theo "
        "Thomas Tim Toby Tom Victor Vikram Walter Will Yusuf"
    )
)
STARTS = split(
    "Ba Be Bo Da De Do Fa Fe Ga Go Ha Hi Jo Ka Ke Ko La Le Lo Ma Me Mi Na Ne No Pa Pe Ra Re Ro Sa Se So Ta Te To "
    "Va Ve Vi "
    "Wa We Ya Ze Zo Bri Dra Fre Gri Kel Lor Mar Nor Pel Quin Ros Sten Tor Ul Ash Bren Cor Dal El Far Hol Win"
)
MIDDLES = ("", "", "", "ri", "lo", "ma", "na", "ve", "di", "ta", "ro", "le")
ENDS = split("na ra lin dor vin mel rick son tha ren la ven lia dan sha tor wen mir bel kin vo ston da ley mond")
TOWN_ENDS = split("ton ford bury field ham wick port dale mouth worth bridge haven stead ville")
SURNAMES = Pool(
    split(
        "Adams Ali Allen Baker Bell Berg Black Brown Carter Chen Clark Cole Cook Cooper Costa Cruz Davis Dean Diaz "
        "Evans "
        "Fisher Ford Foster Fox Garcia Gray Green Hall Harris Hill Holt Hughes Hunt Jackson Jones Kaur Kelly Khan "
        "Kim King "
        "Klein Lane Lee Lewis Lopez Marsh Martin Mason Meyer Miller Moore Morgan Novak Park Patel Perez Price Reed "
        "Rivera "
        "Roberts Rossi Sato Scott Shah Silva Singh Smith Stone Taylor Turner Walker Ward Watson Webb White Wilson Wood "
        "Wright Young"
    )
)
TOWNS = Pool(
    split(
        "Ashford Bath Belmont Bergen Boston Bristol Cardiff Chester Cork Dover Dublin Durham Exeter Florence "
        "Geneva Ghent "
        "Glasgow Granada Hamburg Helsinki Hull Kent Krakow Leeds Lincoln Lisbon London Lyon Madrid Malmo Milan Naples "
        "Newport Norwich Nottingham Oslo Oxford Paris Plymouth Porto Prague Riga Salem Seville Stirling Swansea Toledo "
        "Toronto Turin Utrecht Valencia Vienna Warsaw Windsor York Zurich Bremen Brighton Denver Dallas"
    )
)
STREETS = Pool(
    split(
        "Mill Road|High Street|Station Road|Park Lane|Church Street|Bridge Street|King Street|Queen Street|River Road|"
        "Market Street|Green Lane|School Lane|Hill Street|Garden Road|Lake Street|North Road|South Street|West Street|"
        "East Road|Oak Avenue|Elm Street|Maple Avenue|Cedar Road|Rose Lane|Harbour Road|Castle Street|Forest Road|"
        "Windmill Lane|Orchard Road|Spring Street|Chapel Lane|Victoria Road|Meadow Lane|Silver Street|Canal Street"
    )
)
ITEMS = Pool(
    [
        (word, word + "s")
        for word in split(
            "apple orange pear lemon banana carrot onion potato tomato egg cake pie cookie sandwich bun pen pencil "
            "notebook "
            "book map stamp card envelope ruler lamp chair table cup plate bowl spoon fork pan kettle towel pillow "
            "blanket "
            "shirt hat coat scarf sock belt jacket sweater boot button basket bag bucket box rope hammer nail "
            "screw brick tile "
            "candle clock radio camera phone battery cable ticket poster toy ball kite puzzle drum flute guitar "
            "flower rose "
            "tulip seed plant shovel rake ladder mirror vase bottle jar mug curtain rug cushion bell ring necklace "
            "ribbon "
            "printer keyboard laptop charger speaker helmet tent backpack torch lock key magnet"
        )
        if word not in {"sandwich", "potato", "tomato"}
    ]
    + [("box of tea", "boxes of tea"), ("sandwich", "sandwiches"), ("potato", "potatoes"), ("tomato", "tomatoes")]
    + [
        ("bag of rice", "bags of rice"),
        ("loaf of bread", "loaves of bread"),
        ("brush", "brushes"),
        ("watch", "watches"),
    ]
)
COLOURS = split("red blue green yellow black white brown grey pink purple orange silver")
ANIMALS = Pool(
    split(
        "dog cat horse cow goat pig hen duck goose rabbit pony donkey parrot turtle hamster lamb kitten puppy rooster"
    )
)
JOBS = Pool(
    split(
        "teacher nurse doctor baker farmer driver cook painter gardener plumber singer writer lawyer dentist "
        "builder clerk "
        "pilot tailor waiter artist chemist librarian engineer carpenter mechanic photographer guard cleaner "
        "postman vet"
    )
)
SHOPS = Pool(
    split(
        "bakery|bookshop|market|toy shop|flower shop|supermarket|corner shop|garden centre|hardware shop|farm shop|"
        "music shop|gift shop|shoe shop|furniture shop|stationery shop|pet shop|department store|craft fair|phone shop|"
        "second-hand shop|camera shop|kitchen shop|clothes shop|sports shop"
    )
)
SPOTS = Pool(
    split(
        "park|library|school|museum|station|harbour|beach|cafe|town hall|hospital|clinic|theatre|garden|river|old "
        "bridge|"
        "playground|swimming pool|sports hall|church|airport|castle|zoo|bus stop|post office|village square|lake|"
        "community centre|gym|hotel|cinema"
    )
)
DAYS = split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = split("January February March April May June July August September October November December")
TIMES = Pool([f"{hour}:{minute}" for hour in range(7, 21) for minute in ("00", "15", "30", "45")])
PARTS_OF_DAY = ("in the morning", "in the afternoon", "in the evening", "at noon", "after lunch", "before breakfast")
ADJECTIVES = Pool(
    split(
        "small large old new bright quiet heavy light round square soft warm cold clean pretty simple strong cheap "
        "long short "
        "wooden plastic metal fresh lovely useful broken empty"
    )
)
FOODS = Pool(
    split(
        "soup|rice|pasta|bread|cheese|salad|fish|pancakes|chicken|porridge|stew|pizza|beans|noodles|curry|fruit|toast|"
        "roast potatoes|lentils|omelettes|dumplings|vegetable pie"
    )
)
HOBBIES = Pool(
    split(
        "painting|swimming|running|reading|chess|singing|cooking|dancing|fishing|cycling|gardening|knitting|hiking|"
        "drawing|sailing|skating|pottery|photography|bird watching|baking|tennis|football|yoga|woodwork"
    )
)
WEATHERS = ("sunny", "rainy", "windy", "cloudy", "foggy", "snowy", "stormy", "warm", "cold", "mild")


LISTED = frozenset(name for pool in (WOMEN, MEN, SURNAMES, TOWNS) for name in pool.held + pool.train)


def invented(d: Draw, ends: list[str]) -> str:
    """A made-up proper name of this side of the split, so that copying a name never depends on knowing it."""
    while True:
        name = d.pick(STARTS) + d.pick(MIDDLES) + d.pick(ends)
        if is_held(name) == d.held and name not in LISTED:
            return name


def person(d: Draw) -> Person:
    """Somebody with a first name, at times a made-up one."""
    roll = d.rng.random()
    if roll < 0.3:
        name = invented(d, ENDS)
        woman = name.endswith("a")
    else:
        woman = roll < 0.65
        name = d.slot(WOMEN if woman else MEN)
    return Person(name, "she", "her") if woman else Person(name, "he", "his")


def woman(d: Draw) -> str:
    """A woman's first name."""
    return d.slot(WOMEN)


def people(d: Draw, count: int) -> list[Person]:
    """Several persons with different names."""
    found: dict[str, Person] = {}
    while len(found) < count:
        somebody = person(d)
        found.setdefault(somebody.name, somebody)
    return list(found.values())


def surname(d: Draw) -> str:
    """A family name, at times a made-up one."""
    return invented(d, ENDS) if d.chance(0.25) else d.slot(SURNAMES)


def town(d: Draw) -> str:
    """A town, at times a made-up one."""
    return invented(d, TOWN_ENDS) if d.chance(0.35) else d.slot(TOWNS)


def street(d: Draw) -> str:
    """A house number and a street."""
    return f"{d.number(1, 99)} {d.slot(STREETS)}"


def clock(d: Draw) -> str:
    """A time of day such as 9:30."""
    return d.slot(TIMES)


def date(d: Draw) -> str:
    """A day and month such as 4 March."""
    return f"{d.number(1, 28)} {d.pick(MONTHS)}"


def code(d: Draw) -> str:
    """An order or booking number such as K4821."""
    while True:
        made = f"{d.pick('ABCDEFGHKLMNPRSTVWXYZ')}{d.number(1000, 9999)}"
        if is_held(made) == d.held:
            return made


def email(d: Draw, name: str) -> str:
    """An address under a domain that is reserved for examples."""
    return f"{name.lower()}@{d.pick(('example.com', 'example.org', 'example.net'))}"


def phone(d: Draw) -> str:
    """A telephone number in a range kept for fiction."""
    while True:
        made = f"555 {d.number(1000, 9999)}"
        if is_held(made) == d.held:
            return made
