"""Questions about a scene and their exact answers, and questions about anything else.

A conversation is `(skill, [(question, answer), ...])`: the first question comes with the picture or pictures, the others
follow. Only what the picture decides beyond doubt is asked.
"""

import json
import random
import re

from world import COLOURS, SHAPES, Scene, Thing

NUMBERS = ["None", "One", "Two", "Three", "Four", "Five"]
DEMO = ("I am Ocelli's demo model and know drawn shapes only. Ask me for shapes, colours, counts, places, boxes, or a "
        "letter or digit. For all else get the real model, Qwen3-VL: see Models in the README.")
SKILLS = ["name", "exists", "count", "relation", "two", "follow", "describe", "box", "read", "word", "other"]


def pick(rng: random.Random, *options: str) -> str:
    return rng.choice(options)


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def joined(parts: list) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


# What the question just made is about, as (left, top, right, bottom) in shares of the picture: for the training's side loss
# on where the text side looks. First what is asked for, then what it is seen from.
about: list = []
# The things a question picks out of one picture, also none; None where a question is not of that kind.
picked: list | None = None


def note(scene: Scene, thing: Thing) -> None:
    x1, y1, x2, y2 = thing.box
    about.append((x1 / scene.width, y1 / scene.height, x2 / scene.width, y2 / scene.height))


# ---------------------------------------------------------------- what a scene decides

def matching(scene: Scene, shape: str | None, colour: str | None) -> list:
    return [t for t in scene.things if (shape is None or t.shape == shape) and (colour is None or t.colour == colour)]


def is_text(scene: Scene) -> bool:
    return bool(scene.things[0].text)


def reference(rng: random.Random, scene: Scene, thing: Thing, hide: str = "") -> str | None:
    """Words that mean this thing and no other: "red circle", "circle" or "red thing". `hide` leaves a property out."""
    options = []
    if hide == "" and len(matching(scene, thing.shape, thing.colour)) == 1:
        options += [thing.name] * 3
    if hide != "shape" and len(matching(scene, thing.shape, None)) == 1:
        options.append(thing.shape)
    if hide != "colour" and not thing.text and len(matching(scene, None, thing.colour)) == 1:
        options.append(f"{thing.colour} thing")
    note(scene, thing)
    return rng.choice(options) if options else None


def place_words(scene: Scene, thing: Thing) -> str | None:
    """Where in the picture; None between two places."""
    fx, fy = thing.x / scene.width, thing.y / scene.height

    def third(f: float) -> int | None:
        return 0 if f < 0.37 else 2 if f > 0.63 else 1 if 0.42 < f < 0.58 else None

    column, row = third(fx), third(fy)
    if column is None or row is None:
        return None
    return [["at the top left", "at the top", "at the top right"],
            ["on the left", "in the middle", "on the right"],
            ["at the bottom left", "at the bottom", "at the bottom right"]][row][column]


def apart(scene: Scene, a: Thing, b: Thing) -> tuple:
    """(horizontal, vertical): "left"/"right" and "above"/"below" of a as seen from b, None where it is close."""
    dx, dy = (a.x - b.x) / scene.width, (a.y - b.y) / scene.height
    horizontal = None if abs(dx) < 0.14 else "left" if dx < 0 else "right"
    vertical = None if abs(dy) < 0.14 else "above" if dy < 0 else "below"
    return horizontal, vertical


def mainly(scene: Scene, a: Thing, b: Thing) -> str | None:
    """The one direction from b to a, when it is clear which."""
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    horizontal, vertical = apart(scene, a, b)
    if horizontal and dx > 1.6 * dy:
        return horizontal
    if vertical and dy > 1.6 * dx:
        return vertical
    return None


SIDE_WORDS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
SIDE_ANSWERS = {"left": "To the left.", "right": "To the right.", "above": "Above.", "below": "Below."}


def inner_of(scene: Scene) -> tuple | None:
    """(inner, outer) where one thing lies inside another."""
    for outer, inner in zip(scene.things, scene.things[1:]):
        if inner.inside:
            return inner, outer
    return None


def description(scene: Scene) -> str | None:
    """Everything, from left to right; None when the order is in doubt."""
    if is_text(scene):
        thing = scene.things[0]
        return sentence(f"the {thing.shape} {thing.text} in {thing.colour}")
    pair = inner_of(scene)
    if pair:
        inner, outer = pair
        rest = [t for t in scene.things if t is not inner and t is not outer]
        words = f"{article(inner.name)} inside {article(outer.name)}"
        return sentence(joined([words, *(article(t.name) for t in rest)]) if rest else words)
    things = sorted(scene.things, key=lambda t: t.x)
    gap = 0.05 * scene.width
    for a, b in zip(things, things[1:]):
        if b.x - a.x < gap and a.name != b.name:
            return None
    return sentence(joined([article(t.name) for t in things]))


# ---------------------------------------------------------------- one picture

def pick_out(things: list) -> None:
    global picked
    picked = list(things)


def ask_name(rng, scene):
    if is_text(scene):
        thing = scene.things[0]
        return [(pick(rng, f"What colour is the {thing.shape}?", f"What color is the {thing.shape}?"),
                 sentence(thing.colour))]
    if len(scene.things) == 1 and rng.random() < 0.7:
        thing = scene.things[0]
        note(scene, thing)
        return [(pick(rng, "What is this?", "What is in the picture?", "What do you see?", "What is shown here?",
                      "What is that?"), sentence(article(thing.name)))]
    thing = rng.choice(scene.things)
    if rng.random() < 0.5:
        words = reference(rng, scene, thing, hide="colour")
        return words and [(pick(rng, f"What colour is the {words}?", f"What color is the {words}?",
                                f"Which colour does the {words} have?"), sentence(thing.colour))]
    words = reference(rng, scene, thing, hide="shape")
    return words and [(pick(rng, f"What shape is the {words}?", f"What is the {words}?",
                            f"Which shape does the {words} have?"), sentence(article(thing.shape)))]


def absent(rng, scene):
    """A shape and colour that are not there, though one of the two often is."""
    for _ in range(20):
        thing = rng.choice(scene.things)
        how = rng.random()
        shape = thing.shape if how < 0.4 else rng.choice(SHAPES)
        colour = thing.colour if how > 0.6 else rng.choice(COLOURS)
        if shape in SHAPES and not matching(scene, shape, colour):
            return shape, colour
    return None


def ask_exists(rng, scene):
    if is_text(scene):
        return None
    yes = rng.random() < 0.5
    kind = rng.random()
    if yes:
        thing = rng.choice(scene.things)
        shape, colour = thing.shape, thing.colour
    elif kind < 0.6:
        pair = absent(rng, scene)
        if not pair:
            return None
        shape, colour = pair
    else:
        shapes = [s for s in SHAPES if not matching(scene, s, None)]
        colours = [c for c in COLOURS if not matching(scene, None, c)]
        shape, colour = rng.choice(shapes), rng.choice(colours)
    if yes and kind < 0.6 and len(matching(scene, shape, colour)) == 1:
        note(scene, thing)
    pick_out(matching(scene, shape if kind < 0.85 else None, colour if kind < 0.6 or kind >= 0.85 else None))
    if kind < 0.6:
        words = article(f"{colour} {shape}")
    elif kind < 0.85:
        words = article(shape)
    else:
        words = f"anything {colour}" if rng.random() < 0.5 else article(f"{colour} thing")
    return [(pick(rng, f"Is there {words}?", f"Is there {words} in the picture?", f"Do you see {words}?",
                  f"Can you see {words}?", f"Does the picture show {words}?"), "Yes." if yes else "No.")]


def ask_count(rng, scene):
    if is_text(scene):
        return None
    kind = rng.random()
    thing = rng.choice(scene.things)
    shape, colour = thing.shape, thing.colour
    if rng.random() < 0.12:
        shape, colour = rng.choice(SHAPES), rng.choice(COLOURS)
    if kind < 0.3:
        words, found = pick(rng, "things", "shapes", "objects"), scene.things
    elif kind < 0.65:
        words, found = plural(shape), matching(scene, shape, None)
    elif kind < 0.8:
        words, found = f"{colour} things", matching(scene, None, colour)
    else:
        words, found = f"{colour} {plural(shape)}", matching(scene, shape, colour)
    pick_out(found)
    count = len(found)
    return [(pick(rng, f"How many {words} are there?", f"How many {words} do you see?", f"Count the {words}.",
                  f"How many {words} are in the picture?"), NUMBERS[count] + ".")]


def two_things(rng, scene):
    if len(scene.things) < 2 or is_text(scene):
        return None
    a, b = rng.sample(scene.things, 2)
    pair = inner_of(scene)
    if pair and a in pair and b in pair:
        return None
    wa, wb = reference(rng, scene, a), reference(rng, scene, b)
    return (a, b, wa, wb) if wa and wb else None


def ask_relation(rng, scene):
    pair = inner_of(scene)
    if pair and rng.random() < 0.6:
        inner, outer = pair
        wi, wo = reference(rng, scene, inner), reference(rng, scene, outer)
        if not wi or not wo:
            return None
        kind = rng.random()
        if kind < 0.3:
            return [(f"What is inside the {wo}?", sentence(article(inner.name)))]
        if kind < 0.55:
            return [(f"Is the {wi} inside the {wo}?", "Yes.")]
        if kind < 0.7:
            return [(f"Is the {wo} inside the {wi}?", "No.")]
        others = [t for t in scene.things if t is not inner and t is not outer]
        if others:
            w = reference(rng, scene, others[0])
            if w and kind < 0.85:
                return [(f"Is the {w} inside the {wo}?", "No.")]
        return [(f"Where is the {wi}?", f"Inside the {outer.name}.")]
    kind = rng.random()
    if kind < 0.25:
        thing = rng.choice(scene.things)
        if pair and thing is pair[0]:
            return None
        words = ("thing" if len(scene.things) == 1 and rng.random() < 0.3 else reference(rng, scene, thing))
        where = place_words(scene, thing)
        if not words or not where:
            return None
        return [(pick(rng, f"Where is the {words}?", f"Where is the {words} in the picture?"), sentence(where))]
    found = two_things(rng, scene)
    if not found:
        return None
    a, b, wa, wb = found
    if kind < 0.6:
        side = rng.choice([s for s in apart(scene, a, b) if s] or [None])
        if not side:
            return None
        asked = side if rng.random() < 0.5 else OPPOSITE[side]
        words = rng.choice([SIDE_WORDS[asked], f"{asked} of"]) if asked in ("left", "right") else asked
        return [(f"Is the {wa} {words} the {wb}?", "Yes." if asked == side else "No.")]
    if kind < 0.8:
        side = mainly(scene, a, b)
        return side and [(pick(rng, f"Where is the {wa} relative to the {wb}?", f"Where is the {wa} from the {wb}?"),
                          SIDE_ANSWERS[side])]
    side = rng.choice([s for s in apart(scene, a, b) if s] or [None])
    if not side:
        return None
    index = 0 if side in ("left", "right") else 1
    for other in scene.things:
        if other is b or other is a:
            continue
        there = apart(scene, other, b)[index]
        if there == side or there is None:
            return None
    return [(f"What is {SIDE_WORDS[side]} the {wb}?", sentence(article(a.name)))]


def box_json(scene: Scene, thing: Thing, label: str) -> str:
    """As Qwen3-VL writes it: 0 to 1000 of each side, in fenced JSON. Rounded to tens."""
    x1, y1, x2, y2 = thing.box
    sides = (x1 / scene.width, y1 / scene.height, x2 / scene.width, y2 / scene.height)
    numbers = [min(1000, max(0, round(s * 100) * 10)) for s in sides]
    return "```json\n[\n\t" + json.dumps({"bbox_2d": numbers, "label": label}) + "\n]\n```"


def ask_box(rng, scene):
    thing = rng.choice(scene.things)
    words = reference(rng, scene, thing)
    if not words:
        return None
    question = pick(rng, f"Give the box of the {words}.", f"Locate the {words}.", f"Find the {words}.",
                    f"Give the bounding box of the {words}.",
                    f"Locate the {words}, output its bbox coordinates in JSON format.")
    return [(question, box_json(scene, thing, words))]


def ask_describe(rng, scene):
    words = description(scene)
    return words and [(pick(rng, "Describe the picture.", "List everything.", "What is in the picture?", "What do you see?",
                            "What does the picture show?", "Describe this image.", "List all things."), words)]


def ask_read(rng, scene):
    if not is_text(scene):
        return None
    thing = scene.things[0]
    return [(pick(rng, f"What {thing.shape} is this?", f"Which {thing.shape} is shown?", "What does it say?",
                  "Read the text.", "What is written here?", f"Read the {thing.shape}."), thing.text + ".")]


def ask_follow(rng, scene):
    """Two or three turns; a later one can only be understood from an earlier one."""
    if is_text(scene):
        thing = scene.things[0]
        first = ask_read(rng, scene)[0]
        return [first, (pick(rng, "What colour is it?", "And its colour?"), sentence(thing.colour))]
    kind = rng.random()
    turns = []
    if kind < 0.25:  # how many of these; and of those?
        a, b = rng.sample(SHAPES, 2)
        present = [t.shape for t in scene.things]
        if rng.random() < 0.8:
            a = rng.choice(present)
        if rng.random() < 0.6 and len(set(present)) > 1:
            b = rng.choice([s for s in present if s != a] or [b])
        if a == b:
            return None
        turns.append((f"How many {plural(a)} are there?", NUMBERS[len(matching(scene, a, None))] + "."))
        turns.append((pick(rng, f"And {plural(b)}?", f"And how many {plural(b)}?", f"How many {plural(b)}?"),
                      NUMBERS[len(matching(scene, b, None))] + "."))
        return turns
    thing = rng.choice(scene.things)
    if kind < 0.5 and len(matching(scene, thing.shape, None)) == 1:
        turns.append((pick(rng, f"Is there {article(thing.shape)}?", f"Do you see {article(thing.shape)}?"), "Yes."))
        turns.append((pick(rng, "What colour is it?", "What color is it?", "Which colour?"), sentence(thing.colour)))
    elif kind < 0.75 and len(matching(scene, None, thing.colour)) == 1:
        turns.append((f"What shape is the {thing.colour} thing?", sentence(article(thing.shape))))
    else:
        first = ask_relation(rng, scene)
        if not first or not first[0][0].startswith("What is"):
            return None
        answer = first[0][1]
        named = [t for t in scene.things if sentence(article(t.name)) == answer]
        if len(named) != 1:
            return None
        thing = named[0]
        turns += first
        turns.append((pick(rng, "What colour is it?", "What color is it?"), sentence(thing.colour)))
    pair = inner_of(scene)
    where = None if pair and thing is pair[0] else place_words(scene, thing)
    other = rng.choice(scene.things)
    words = reference(rng, scene, other)
    nested = pair and thing in pair and other in pair
    side = mainly(scene, thing, other) if other is not thing and not nested else None
    if side and words and rng.random() < 0.5:
        asked = side if rng.random() < 0.5 else OPPOSITE[side]
        turns.append((f"Is it {SIDE_WORDS[asked]} the {words}?", "Yes." if asked == side else "No."))
    elif where:
        turns.append((pick(rng, "Where is it?", "And where is it?"), sentence(where)))
    return turns if len(turns) > 1 else None


# ---------------------------------------------------------------- two pictures

def ask_two(rng, first: Scene, second: Scene):
    scenes = [first, second]
    words = ["first", "second"]
    kind = rng.random()
    if any(is_text(s) for s in scenes):
        kind = 0.95
    if kind < 0.35:
        i = rng.randrange(2)
        thing = rng.choice(scenes[i].things)
        how = rng.random()
        shape, colour = thing.shape, thing.colour
        if how < 0.55:
            name = article(thing.name)
        elif how < 0.85:
            name, colour = article(shape), None
        else:
            name, shape = f"something {colour}", None
        if matching(scenes[1 - i], shape, colour):
            return None
        return [(pick(rng, f"Which picture has {name}?", f"Which picture shows {name}?",
                      f"In which picture is {name}?"), f"The {words[i]}.")]
    if kind < 0.55:
        how = rng.random()
        thing = rng.choice(rng.choice(scenes).things)
        if how < 0.4:
            name, counts = pick(rng, "things", "shapes"), [len(s.things) for s in scenes]
        elif how < 0.8:
            name, counts = plural(thing.shape), [len(matching(s, thing.shape, None)) for s in scenes]
        else:
            name, counts = f"{thing.colour} things", [len(matching(s, None, thing.colour)) for s in scenes]
        if counts[0] == counts[1]:
            return None
        return [(pick(rng, f"Which picture has more {name}?", f"Which picture shows more {name}?"),
                 f"The {words[counts[1] > counts[0]]}.")]
    i = rng.randrange(2)
    if kind < 0.65:
        asked = ask_count(rng, scenes[i])
        if not asked or "there?" not in asked[0][0]:
            return None
        return [(asked[0][0].replace("are there?", f"are in the {words[i]} picture?"), asked[0][1])]
    answer = description(scenes[i])
    if not answer or len(scenes[i].things) > 3:
        return None
    return [(pick(rng, f"What is in the {words[i]} picture?", f"Describe the {words[i]} picture."), answer)]


# ---------------------------------------------------------------- anything else

SUBJECTS = """cat dog horse cow bird fish lion tiger elephant monkey mouse rabbit snake sheep pig duck chicken car bus train
bicycle boat ship aeroplane truck motorcycle house building tree flower garden river mountain lake beach forest street bridge
person man woman child boy girl baby people crowd face hand eye hair shirt hat shoe table chair bed lamp window door kitchen
cup plate bottle knife fork bread apple banana pizza cake cheese coffee tea water wine phone computer screen keyboard book
newspaper map clock watch ball guitar piano camera television money flag sign receipt invoice chart graph logo menu ticket
sun moon cloud rain snow sky grass animal vehicle food brand city country""".split()
HELD_OUT_SUBJECTS = """zebra giraffe penguin whale goat tractor helicopter castle church tower desert island nurse teacher king
sofa mirror spoon orange_juice soup sandwich violin drum passport letterbox umbrella candle rocket robot volcano""".replace("_", " ").split()
TEMPLATES = [
    "Is there a {s} in the picture?", "Is there a {s}?", "Do you see a {s}?", "What colour is the {s}?", "How many {s}s are there?",
    "Where is the {s}?", "What kind of {s} is this?", "Describe the {s}.", "What is the {s} doing?", "Who is the {s}?",
    "Give the box of the {s}.", "Locate the {s}.", "Is the {s} left of the {t}?", "What is next to the {s}?", "Why is the {s} here?",
    "Is this a {s}?", "Is this a {s} or a {t}?", "What brand is the {s}?", "How old is the {s}?", "How big is the {s}?",
    "Tell me about the {s}.", "What is a {s}?", "How do I draw a {s}?", "Write a poem about a {s}.", "Write a story about a {s} and a {t}.",
    "Tell me a joke about a {s}.", "Explain how a {s} works.", "Translate \"{s}\" to French.", "What does {s} mean?",
    "How much does a {s} cost?", "What is the best {s}?", "Why do people like the {s}?", "Can you draw a {s}?", "Make a {s}.",
    "What is the name of this {s}?", "When was the {s} made?", "Is the {s} happy?", "Find the {s}.", "Count the {s}s.",
    "Which is better, a {s} or a {t}?", "Give me a recipe with {s}.", "How do I fix my {s}?", "What is the history of the {s}?",
]
PLAIN = [
    "Hello", "Hi", "Hello!", "Hi there.", "Good morning.", "How are you?", "Who are you?", "What are you?", "What is your name?",
    "What can you do?", "Who made you?", "Are you a real model?", "Help", "Help me.", "Thanks", "Thank you!", "What is two plus two?",
    "What is 17 times 23?", "What time is it?", "What day is it today?", "What is the weather like?", "Tell me a joke.",
    "Write a poem.", "Write some code.", "Write a Python function that sorts a list.", "What is the capital of France?",
    "What is the capital of Germany?", "Who is the president?", "Who wrote Hamlet?", "What is the meaning of life?", "Translate this.",
    "Summarise this text.", "Where was this picture taken?", "Who took this photo?", "When was this photo taken?",
    "What is the mood of the picture?", "What is the artist's style?", "Is this a photo or a painting?", "What language is this?",
    "What is the person doing?", "How old is she?", "What is he wearing?", "Is it day or night?", "Solve the equation.", "What year is it?",
    "Do you speak German?", "Can you think?", "Sing a song.", "What is quantum physics?", "How far is the moon?", "What is love?",
    "Recommend a film.", "How do I cook rice?", "What is machine learning?", "Are you ChatGPT?", "Are you human?", "Can you see this?",
    "What is wrong with this picture?", "Read the receipt.", "How much is the total?", "Extract the table as CSV.", "Transcribe the text in the image.",
    "What is the sentiment?", "Is this safe?", "Draw a house.", "Count to ten.", "Say hello in Spanish.", "asdf", "test", "ok", "???",
    "Was ist das?", "Wie viele?", "Qu'est-ce que c'est ?", "Hola", "Guten Tag", "Bonjour", "你好", "这是什么?", "これは何ですか", "Что это?",
]
HELD_OUT_PLAIN = [
    "Good evening.", "Hey, what's up?", "What is five minus three?", "What is the capital of Japan?", "Who painted the Mona Lisa?",
    "Write an email to my boss.", "What is gravity?", "Give me three tips for sleeping better.", "Is the light on?", "Whose birthday is it?",
    "What is the licence plate number?", "Fix this code.", "How many people live in China?", "Do you like music?", "What is the diagnosis?",
    "Wo ist der Bahnhof?", "¿Qué hora es?", "Please summarise the document.", "What film is this from?", "Where can I buy this?",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def other_question(rng: random.Random, held_out: bool) -> str:
    kind = rng.random()
    subjects = HELD_OUT_SUBJECTS if held_out else SUBJECTS
    if kind < 0.25:
        text = rng.choice(HELD_OUT_PLAIN if held_out else PLAIN)
    elif kind < 0.9:
        split = [t for i, t in enumerate(TEMPLATES) if (i % 5 == 0) == held_out] if rng.random() < 0.5 or not held_out else TEMPLATES
        text = rng.choice(split).format(s=rng.choice(subjects), t=rng.choice(subjects))
    else:  # words that are none, and words out of order
        words = ["".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 8))) for _ in range(rng.randint(1, 4))]
        words += rng.sample(subjects, rng.randint(0, 3))
        rng.shuffle(words)
        text = " ".join(words) + rng.choice(["?", ".", ""])
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    how = rng.random()
    if how < 0.1:
        text = text.lower()
    elif how < 0.15:
        text = "Please " + text[0].lower() + text[1:]
    return text


def ask_other(rng, scene, held_out=False):
    return [(other_question(rng, held_out), DEMO)]


# ---------------------------------------------------------------- a picture's conversations

ONE_PICTURE = {"name": ask_name, "exists": ask_exists, "count": ask_count, "relation": ask_relation, "follow": ask_follow,
               "describe": ask_describe, "box": ask_box, "read": ask_read, "word": ask_read, "other": ask_other}
# For each kind of scene, which skills fit, and how often.
FITTING = {
    "one": {"name": 4, "exists": 2, "count": 0.5, "relation": 1.5, "follow": 1.5, "describe": 1, "box": 2},
    "few": {"name": 3, "exists": 2, "count": 1, "relation": 4, "follow": 2, "describe": 2, "box": 1.5},
    "many": {"name": 0.5, "exists": 2, "count": 5, "relation": 0.5, "follow": 1.5, "describe": 1.5, "box": 0.3},
    "inside": {"name": 2, "exists": 1.5, "count": 1, "relation": 4, "follow": 1.5, "describe": 1.5, "box": 1},
    "text": {"name": 1, "read": 4, "follow": 1, "describe": 1, "box": 0.5},
    "word": {"name": 1, "word": 4, "follow": 1, "describe": 1, "box": 0.5},
}


def vary(rng: random.Random, question: str) -> str:
    """People do not always write the capital and the mark."""
    how = rng.random()
    if how < 0.06:
        question = question[0].lower() + question[1:]
    if how < 0.03 or how > 0.97:
        question = question.rstrip("?.")
    return question


def ask(rng: random.Random, skill: str, scenes: list, held_out: bool = False) -> list | None:
    """The turns of one conversation of this skill, or None where these pictures do not allow it."""
    global picked
    about.clear()
    picked = None
    if skill == "two":
        turns = ask_two(rng, *scenes)
    elif skill == "other":
        turns = ask_other(rng, None, held_out)
    else:
        turns = ONE_PICTURE[skill](rng, scenes[0])
    if not turns:
        return None
    return [(vary(rng, q) if skill != "other" else q, a) for q, a in turns]
