"""The word lists that skills fill their sentences from. Pools keep some of their values for held-out rows."""

import re
from collections.abc import Callable
from functools import cache

from .kit import Draw, Person, Pool, cap, is_held, split

STARTS = split(
    "Ba Be Bo Da De Do Fa Fe Ga Go Ha Hi Jo Ka Ke Ko La Le Lo Ma Me Mi Na Ne No Pa Pe Ra Re Ro Sa Se So Ta Te To "
    "Va Ve Vi "
    "Wa We Ya Ze Zo Bri Dra Fre Gri Kel Lor Mar Nor Pel Quin Ros Sten Tor Ul Ash Bren Cor Dal El Far Hol Win"
)
MIDDLES = ("", "", "", "ri", "lo", "ma", "na", "ve", "di", "ta", "ro", "le")
ENDS = split("na ra lin dor vin mel rick son tha ren la ven lia dan sha tor wen mir bel kin vo ston da ley mond")
TOWN_ENDS = split("ton ford bury field ham wick port dale mouth worth bridge haven stead ville")
ONSETS = split("b br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr qu r s sh sk sl sn st t tr v w y z")
VOWELS = split("a e i o u ai ea ou")
CODAS = ("", "", "", *split("l m n r s t x ck lt nd ng rk"))


RUDE = re.compile("shit|slut|dick|cock|cunt|tit|cum|fag|kike|nig|rap|slag|sex|ass|fuk|fuc|twat|wank|spic|coon|poo|pis")


def syllables(d: Draw) -> str:
    """The start of a word nobody has seen: one or two syllables, with a capital."""
    while True:
        word = "".join(d.pick(ONSETS) + d.pick(VOWELS) + d.pick(CODAS) for _ in range(d.number(1, 2)))
        if not RUDE.search(word):
            return cap(word)


LITTLE = split("the and to is in of may so no on at for you with he she it not can all her his are was what from")
SPOKEN = re.compile("[aeiouy]")
CRAMPED = re.compile(r"(.)\1\1|[^aeiouy]{5}")

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
        "Ashford Bath Belmont Bergen Boston Bristol Cardiff Chester Cork Dover Dublin Durham Exeter Florence Geneva "
        "Ghent Glasgow Granada Hamburg Helsinki Hull Kent Krakow Leeds Lincoln Lisbon London Lyon Madrid Malmo Milan "
        "Naples Newport Norwich Nottingham Oslo Oxford Paris Plymouth Porto Prague Riga Salem Seville Stirling "
        "Swansea Toledo Toronto Turin Utrecht Valencia Vienna Warsaw Windsor York Zurich Bremen Brighton Denver "
        "Dallas Aberdeen Antwerp Athens Austin Barcelona Basel Belfast Berlin Bologna Bruges Brussels Budapest "
        "Calgary Cambridge Canterbury Carlisle Coventry Derby Dresden Dundee Edinburgh Frankfurt Galway Genoa "
        "Grimsby Halifax Hanover Hastings Inverness Ipswich Lancaster Leicester Leipzig Limerick Liverpool Luton "
        "Manchester Marseille Melbourne Memphis Montreal Munich Nairobi Nantes Newcastle Orlando Osaka Ottawa "
        "Palermo Perth Pisa Portland Preston Rome Rotterdam Salford Seattle Sheffield Stockholm Stuttgart Sunderland "
        "Sydney Tampa Truro Vancouver Venice Verona Winchester Worcester"
    )
)
THINGS = split(
    "apple orange pear lemon banana carrot onion potato tomato egg cake pie cookie sandwich bun pen pencil notebook "
    "book map stamp card envelope ruler lamp chair table cup plate bowl spoon fork pan kettle towel pillow blanket "
    "shirt hat coat scarf sock belt jacket sweater boot button basket bag bucket box rope hammer nail screw brick "
    "tile candle clock radio camera phone battery cable ticket poster toy ball kite puzzle drum flute guitar flower "
    "rose tulip seed plant shovel rake ladder mirror vase bottle jar mug curtain rug cushion bell ring necklace "
    "ribbon printer keyboard laptop charger speaker helmet tent backpack torch lock key magnet brush watch anchor "
    "apron armchair arrow atlas axe badge bagel balloon bandage banjo banner barrel baton beaker bead bench bicycle "
    "binder blender blouse board bolt bonnet bookcase bookmark bouquet bow bracelet bridle brooch broom buckle bulb "
    "bunk cabinet cactus cage calculator calendar canoe canvas cap cape carpet cart cello chain chisel clamp "
    "clarinet clip cloak coaster coin collar comb comic compass cone cork cot couch cracker cradle crate crayon "
    "crown crystal cucumber cupboard dart desk diamond diary dish doll domino doormat doughnut drawer dress drill "
    "duster earring easel engine eraser fan fence fiddle fig file filter flag flask folder frame freezer fridge "
    "funnel garland gem glove goblet gong gown grape grill hairpin hammock hamper handbag handle hanger harmonica "
    "harp hatchet heater hinge hoe hook hoop hose icon jigsaw jug juicer kayak kennel kimono knob lace lantern latch "
    "lawnmower leaflet lens lever lid lighter lime locket log loom lunchbox magazine mallet mango marble marker mask "
    "mat mattress medal melon menu microphone microscope mitten modem mop motor muffin napkin needle net nut oar "
    "olive oven paddle padlock pail painting pancake panel parasol parcel pastry peach peanut pebble pedal peg "
    "pendant pepper piano picture pillar pin pipe pitcher plank plum pole poncho postcard pot prism projector pump "
    "pumpkin puppet purse quilt racket radiator radish raft razor receipt recorder reel robe robot rocket roller "
    "router saddle safe sandal satchel saucer saw scale scanner scooter screen sculpture seat shawl shield shoe "
    "shutter sieve sign sink skateboard sketch skirt sled sleeve slipper sofa spade spanner sponge spring stapler "
    "statue stencil sticker stool stove strap straw suit suitcase surfboard swing sword tablet tambourine tank tap "
    "tape target tassel teapot telescope thermometer thimble tie timer toaster token tool toothbrush tractor "
    "trampoline tray trolley trophy trombone trumpet trunk tub tube tunic turban turnip tyre typewriter ukulele "
    "umbrella uniform urn valve van veil vest violin visor waffle wagon wallet walnut wardrobe wheel wheelbarrow "
    "whistle wig wire wreath wrench zip"
)


def plural(noun: str) -> str:
    """More than one of a thing: "cups", "boxes", "diaries", "potatoes"."""
    if noun.endswith(("ch", "sh", "s", "x")) or noun in {"potato", "tomato"}:
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


PLAIN = Pool(THINGS).train
"""Words that invented values are put together from."""


@cache
def pieces() -> tuple[str, ...]:
    """Words of training rows that `spliced` cuts up, in lower case."""
    names = [name for pool in (WOMEN, MEN, SURNAMES, TOWNS) for name in pool.train]
    places = [word for pool in (SHOPS, SPOTS, FOODS, HOBBIES) for value in pool.train for word in value.split()]
    words = {word.lower() for word in (*names, *places, *PLAIN, *ADJECTIVES.train, *DAYS, *MONTHS, *LITTLE)}
    return tuple(sorted(word for word in words if word.isalpha() and word.isascii()))


def spliced(d: Draw) -> str:
    """The head of one word on the tail of another, with a capital, such as "Mayna" or "Tobrel".

    A tokenizer cuts it into the same odd pieces as a real word that it has no token for, often with a common word in
    front; syllables alone are too regular to teach how those are copied.
    """
    while True:
        head, tail = d.pick(pieces()), d.pick(pieces())
        word = head[: d.number(1, 5)] + tail[-d.number(1, 5) :]
        if 3 <= len(word) <= 9 and SPOKEN.search(word) and not CRAMPED.search(word) and not RUDE.search(word):
            return cap(word)


def coined(d: Draw) -> str:
    """A common noun nobody has seen."""
    if d.chance(0.6):
        return spliced(d).lower()
    return syllables(d).lower() + (d.pick(ENDS) if d.chance(0.4) else "")


def made_item(d: Draw) -> tuple[str, str]:
    """A thing nobody has seen: a coined word, or two known ones that do not belong together."""
    thing = coined(d) if d.chance(0.4) else f"{d.pick(PLAIN)} {d.pick(PLAIN)}"
    return thing, plural(thing)


def made_with(*ends: str) -> Callable[[Draw], str]:
    """Invents values that end in one of these words, such as "kettle hall", "dorrel hall" or "stove-lamp hall"."""

    def made(d: Draw) -> str:
        first = coined(d) if d.chance(0.5) else d.pick(PLAIN)
        if d.chance(0.15):
            first = f"{first}-{coined(d) if d.chance(0.5) else d.pick(PLAIN)}"
        return f"{first} {d.pick(ends)}"

    return made


def made_hobby(d: Draw) -> str:
    """Something to do that nobody does."""
    return f"{coined(d)}ing" if d.chance(0.5) else f"{d.pick(PLAIN)} {d.pick(('racing', 'watching', 'tossing'))}"


def made_street(d: Draw) -> str:
    """A street nobody lives in."""
    return f"{syllables(d)}{d.pick(ENDS)} {d.pick(('Road', 'Street', 'Lane', 'Avenue'))}"


ITEMS = Pool(
    [(thing, plural(thing)) for thing in THINGS]
    + [("box of tea", "boxes of tea"), ("bag of rice", "bags of rice"), ("loaf of bread", "loaves of bread")],
    made_item,
)
STREETS = Pool(
    split(
        "Mill Road|High Street|Station Road|Park Lane|Church Street|Bridge Street|King Street|Queen Street|River Road|"
        "Market Street|Green Lane|School Lane|Hill Street|Garden Road|Lake Street|North Road|South Street|West Street|"
        "East Road|Oak Avenue|Elm Street|Maple Avenue|Cedar Road|Rose Lane|Harbour Road|Castle Street|Forest Road|"
        "Windmill Lane|Orchard Road|Spring Street|Chapel Lane|Victoria Road|Meadow Lane|Silver Street|Canal Street"
    ),
    made_street,
)
COLOURS = split("red blue green yellow black white brown grey pink purple orange silver")
ANIMALS = Pool(
    split(
        "dog cat horse cow goat pig hen duck goose rabbit pony donkey parrot turtle hamster lamb kitten puppy "
        "rooster badger bat bear beaver bee bull camel canary cheetah chicken cow crab crow deer dolphin dove eagle "
        "falcon ferret finch fox frog giraffe gorilla hare hawk hedgehog heron kangaroo lion lizard llama lobster "
        "magpie mole monkey moose mouse mule newt otter owl panda peacock penguin pigeon raven robin seal sheep "
        "skunk snail snake sparrow spider squirrel stork swan tiger toad walrus weasel whale wolf wombat zebra"
    ),
    coined,
)
JOBS = Pool(
    split(
        "teacher nurse doctor baker farmer driver cook painter gardener plumber singer writer lawyer dentist builder "
        "clerk pilot tailor waiter artist chemist librarian engineer carpenter mechanic photographer guard cleaner "
        "postman vet actor architect banker barber biologist bricklayer butcher captain cashier coach composer "
        "dancer designer detective diver editor electrician fisherman florist gardener geologist hairdresser "
        "illustrator janitor jeweller journalist judge locksmith manager midwife miner model musician optician "
        "pharmacist physicist poet porter potter priest printer ranger reporter sailor scientist secretary sculptor "
        "shepherd soldier surgeon surveyor translator trucker tutor weaver welder"
    ),
    made_with("maker", "seller", "keeper", "cleaner", "painter"),
)
SHOPS = Pool(
    split(
        "bakery|bookshop|market|toy shop|flower shop|supermarket|corner shop|garden centre|hardware shop|farm shop|"
        "music shop|gift shop|shoe shop|furniture shop|stationery shop|pet shop|department store|craft fair|"
        "phone shop|second-hand shop|camera shop|kitchen shop|clothes shop|sports shop|tea shop|shoe store|"
        "cheese shop|wine shop|fish market|sweet shop|candle shop|bike shop|hat shop|print shop|tool shop|"
        "charity shop|antique shop|paint shop|jewellery shop|art shop|chemist's|computer shop|carpet shop|grocery"
    ),
    made_with("shop", "store", "market", "stall"),
)
SPOTS = Pool(
    split(
        "park|library|school|museum|station|harbour|beach|cafe|town hall|hospital|clinic|theatre|garden|river|"
        "old bridge|playground|swimming pool|sports hall|church|airport|castle|zoo|bus stop|post office|"
        "village square|lake|community centre|gym|hotel|cinema|stadium|bank|embassy|university|college|farm|factory|"
        "office|mill|lighthouse|windmill|temple|palace|prison|courthouse|kindergarten|campsite|car park|concert hall|"
        "bowling alley|skating rink|tennis court|golf course|aquarium|gallery|tower|fountain|mountain hut|"
        "fire station|police station|ferry terminal|bus station|shopping centre|tea room|youth club|health centre|"
        "city gate|market hall|pier|orchard"
    ),
    made_with("hall", "court", "course", "centre", "square", "house", "room", "field", "club", "yard"),
)
DAYS = split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = split("January February March April May June July August September October November December")
TIMES = Pool([f"{hour}:{minute}" for hour in range(7, 21) for minute in ("00", "15", "30", "45")])
PARTS_OF_DAY = ("in the morning", "in the afternoon", "in the evening", "at noon", "after lunch", "before breakfast")
ADJECTIVES = Pool(
    split(
        "small large old new bright quiet heavy light round square soft warm cold clean pretty simple strong cheap "
        "long short wooden plastic metal fresh lovely useful broken empty ancient blank bent bumpy creamy curved "
        "dark dirty dull dusty elegant fancy flat fragile fuzzy glossy gentle golden grand handmade hollow huge "
        "inexpensive loose loud modern muddy narrow neat odd painted pale patterned polished rare rough rusty shiny "
        "sharp shallow slim smooth spare sticky striped sturdy thick thin tiny torn ugly unusual wet wide worn"
    )
)
FOODS = Pool(
    split(
        "soup|rice|pasta|bread|cheese|salad|fish|pancakes|chicken|porridge|stew|pizza|beans|noodles|curry|fruit|"
        "toast|roast potatoes|lentils|omelettes|dumplings|vegetable pie|burgers|sausages|lasagne|risotto|tacos|"
        "mushrooms|spinach|broccoli|cabbage|peas|ham|bacon|meatballs|scrambled eggs|waffles|muesli|yoghurt|jelly|"
        "ice cream|apple crumble|chocolate cake|biscuits|scones|gingerbread|tofu|couscous|chilli|ravioli|goulash|"
        "shrimps|tuna|salmon|pickles|popcorn|nuts|honey bread|garlic bread|pumpkin soup|onion soup|fried rice"
    ),
    made_with("soup", "pie", "stew", "bread", "salad", "cakes"),
)
HOBBIES = Pool(
    split(
        "painting|swimming|running|reading|chess|singing|cooking|dancing|fishing|cycling|gardening|knitting|hiking|"
        "drawing|sailing|skating|pottery|photography|bird watching|baking|tennis|football|yoga|woodwork|sewing|"
        "weaving|juggling|climbing|rowing|surfing|skiing|archery|fencing|boxing|judo|karate|golf|hockey|cricket|"
        "rugby|basketball|volleyball|badminton|bowling|darts|poker|origami|calligraphy|embroidery|sculpture|acting|"
        "magic|stargazing|camping|diving|riding|jogging|quilting|carving|blogging|collecting stamps|model building|"
        "playing cards|folk music"
    ),
    made_hobby,
)
WEATHERS = ("sunny", "rainy", "windy", "cloudy", "foggy", "snowy", "stormy", "warm", "cold", "mild")


LISTED = frozenset(name for pool in (WOMEN, MEN, SURNAMES, TOWNS) for name in pool.held + pool.train)


def invented(d: Draw, ends: list[str]) -> str:
    """A made-up proper name of this side of the split, so that copying a name never depends on knowing it."""
    while True:
        if not d.held and d.chance(0.6):
            name = spliced(d) + (d.pick(ends) if ends is TOWN_ENDS and d.chance(0.5) else "")
        else:
            name = (syllables(d) if d.chance(0.4) else d.pick(STARTS) + d.pick(MIDDLES)) + d.pick(ends)
        if is_held(name) == d.held and name not in LISTED:
            return name


def person(d: Draw) -> Person:
    """Somebody with a first name, at times a made-up one."""
    roll = d.rng.random()
    share = 0.3 if d.held else 0.45
    if roll < share:
        name = invented(d, ENDS)
        woman = name.endswith("a")
    else:
        woman = roll < (1 + share) / 2
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
    return invented(d, ENDS) if d.chance(0.25 if d.held else 0.4) else d.slot(SURNAMES)


def town(d: Draw) -> str:
    """A town, at times a made-up one."""
    return invented(d, TOWN_ENDS) if d.chance(0.35 if d.held else 0.5) else d.slot(TOWNS)


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
