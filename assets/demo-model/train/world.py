"""The demo model's world: plain pictures of drawn things, as scenes, as pixels and as what a tower should see in them.

A scene is a list of things on a plain background. Everything is drawn from one `random.Random`, so a seed gives the same
pictures on every machine with the same Pillow. Training and held-out pictures take their shades from different bands.
"""

import colorsys
import math
import random
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "black"]
CHARACTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # no I and no O: in one plain font they are 1 and 0
WORDS = """CAT SUN CAR HAT RED CUP BED KEY MAP PEN BUS TEA EGG BEE CAN DAY EAR FAN GAS HEN JAM LEG MAN NET PAN RAT SEA TAP URN
VAN WAX YES ZAP ANT BAG CUB DEN EEL FLY GEM HAM JET LAB MUD NUT PUB RUG SKY TEN VET WEB YAK ZEN ARM BAT CRY DRY ELM FUR GUM HUT
BALL CAKE DESK EAST FARM GATE HAND JUMP KEEP LAKE MATH NEST PARK SALT TENT VASE WALL YARD""".split()
HELD_OUT_WORDS = "DEW PEA JAR CAP TUB HUG NEW TRAY BEAN MELT CUTE FERN WAVE GULF MUG SAY RAM BUN LAW".split()
ON_DARK = ["red", "orange", "yellow", "green"]  # what is seen well on a dark background

# name: hue in degrees (from, to), saturation (from, to), value (from, to)
SHADES = {
    "red": ((-8, 6), (0.80, 1.0), (0.72, 0.95)),
    "orange": ((23, 33), (0.85, 1.0), (0.92, 1.0)),
    "yellow": ((51, 59), (0.75, 1.0), (0.90, 1.0)),
    "green": ((105, 145), (0.60, 1.0), (0.45, 0.75)),
    "blue": ((212, 236), (0.70, 1.0), (0.65, 0.95)),
    "purple": ((272, 292), (0.55, 0.90), (0.50, 0.80)),
    "black": ((0, 360), (0.0, 0.15), (0.02, 0.14)),
}
HELD_OUT_BAND = (0.42, 0.58)  # of every shade's range: only held-out pictures use it


@dataclass
class Thing:
    shape: str            # one of SHAPES, "letter", "digit" or "word"
    colour: str
    rgb: tuple
    x: float              # centre, pixels
    y: float
    size: float           # side of the square it fits in, pixels
    turn: float = 0.0     # degrees
    text: str = ""
    box: tuple = ()       # x1, y1, x2, y2 in pixels, set by `outline`
    inside: bool = False  # drawn on top of the thing before it

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass
class Scene:
    width: int
    height: int
    background: tuple
    things: list = field(default_factory=list)
    kind: str = ""


def between(rng: random.Random, low: float, high: float, held_out: bool) -> float:
    """A value of the range, from the held-out band of it or from the rest."""
    a, b = HELD_OUT_BAND
    u = rng.uniform(a, b) if held_out else rng.uniform(0, 1 - (b - a))
    if not held_out and u > a:
        u += b - a
    return low + u * (high - low)


def shade(rng: random.Random, colour: str, held_out: bool) -> tuple:
    hue, saturation, value = (between(rng, *pair, held_out) for pair in SHADES[colour])
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value))


def plain_background(rng: random.Random, dark_allowed: bool, held_out: bool) -> tuple:
    kind = rng.random()
    if dark_allowed:
        value, saturation = between(rng, 0.22, 0.36, held_out), rng.uniform(0, 0.2)
    elif kind < 0.4:
        value, saturation = between(rng, 0.70, 0.85, held_out), rng.uniform(0, 0.08)
    elif kind < 0.6:
        value, saturation = 1.0, 0.0
    else:
        value, saturation = between(rng, 0.88, 1.0, held_out), rng.uniform(0, 0.12)
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), saturation, value))


# ---------------------------------------------------------------- outlines

def _heart() -> list:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x / 17, (y - 2.5) / 15.5))
    return points


def _star() -> list:
    points = []
    for i in range(10):
        r = 1.0 if i % 2 == 0 else 0.42
        a = math.pi * (i / 5 - 0.5)
        points.append((r * math.cos(a), r * math.sin(a) + 0.05))
    return points


# In a square from -1 to 1.
OUTLINES = {
    "circle": [(math.cos(2 * math.pi * i / 48), math.sin(2 * math.pi * i / 48)) for i in range(48)],
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
    "star": _star(),
    "heart": _heart(),
    "cross": [(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33), (0.33, 1), (-0.33, 1),
              (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)],
}


def outline(thing: Thing) -> list:
    """The polygon in pixels."""
    c, s = math.cos(math.radians(thing.turn)), math.sin(math.radians(thing.turn))
    r = thing.size / 2
    return [(thing.x + r * (c * px - s * py), thing.y + r * (s * px + c * py)) for px, py in OUTLINES[thing.shape]]


@lru_cache(maxsize=512)
def font(pixels: int):
    return ImageFont.load_default(pixels)


def text_box(thing: Thing) -> tuple:
    """The ink's box for text of cap height `size`, and where to put the pen, all in pixels."""
    f = font(max(8, round(thing.size * 1.42)))
    x1, y1, x2, y2 = f.getbbox(thing.text)
    left, top = thing.x - (x1 + x2) / 2, thing.y - (y1 + y2) / 2
    return (left + x1, top + y1, left + x2, top + y2), (left, top), f


def text_edges(thing: Thing) -> list:
    """Where each letter begins, pixels from the picture's left."""
    _, (left, _), f = text_box(thing)
    return [left + f.getlength(thing.text[:k]) for k in range(len(thing.text))]


def place(thing: Thing) -> None:
    """Sets the thing's box."""
    if thing.text:
        thing.box = text_box(thing)[0]
        return
    points = outline(thing)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    thing.box = (min(xs), min(ys), max(xs), max(ys))


def draw(scene: Scene, over: int = 2) -> np.ndarray:
    """[height, width, 3] u8, drawn `over` times larger and averaged."""
    image = Image.new("RGB", (scene.width * over, scene.height * over), scene.background)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        if thing.text:
            big = Thing(thing.shape, thing.colour, thing.rgb, thing.x * over, thing.y * over, thing.size * over,
                        text=thing.text)
            _, at, f = text_box(big)
            pen.text(at, thing.text, fill=thing.rgb, font=f)
        elif thing.shape == "circle":
            r = thing.size / 2
            pen.ellipse([over * (thing.x - r), over * (thing.y - r), over * (thing.x + r), over * (thing.y + r)],
                        fill=thing.rgb)
        else:
            pen.polygon([(over * x, over * y) for x, y in outline(thing)], fill=thing.rgb)
    return np.asarray(image.reduce(over))


# ---------------------------------------------------------------- what each merged token covers

CELL = 32          # pixels of a merged token's side
BINS = 40          # of each side of a box
NONE = 0           # class "no thing here"
IGNORED = -1       # hardly covered: neither
SHAPE_CLASSES = ["nothing", *SHAPES, "letter", "digit", "word"]
COLOUR_CLASSES = ["nothing", *COLOURS]


def cells(scene: Scene) -> dict:
    """Targets of the dense loss, each [cells] or [cells, 4]: the thing that covers most of each 32 x 32 cell."""
    rows, columns = scene.height // CELL, scene.width // CELL
    scale = 8
    ids = Image.new("L", (scene.width // scale, scene.height // scale), 0)
    pen = ImageDraw.Draw(ids)
    for i, thing in enumerate(scene.things, 1):
        if thing.text or thing.shape == "circle":
            x1, y1, x2, y2 = (v / scale for v in thing.box)
            (pen.rectangle if thing.text else pen.ellipse)([x1, y1, x2 - 0.5, y2 - 0.5], fill=i)
        else:
            pen.polygon([(x / scale - 0.25, y / scale - 0.25) for x, y in outline(thing)], fill=i)
    grid = np.asarray(ids).reshape(rows, CELL // scale, columns, CELL // scale).transpose(0, 2, 1, 3)
    grid = grid.reshape(rows * columns, -1)
    count = len(scene.things)
    cover = np.stack([(grid == i).sum(1) for i in range(1, count + 1)], 1) if count else np.zeros((len(grid), 1), int)
    best, share = cover.argmax(1), cover.max(1) / grid.shape[1]
    shape = np.zeros(len(grid), np.int64)
    colour = np.zeros(len(grid), np.int64)
    character = np.full(len(grid), IGNORED, np.int64)
    box = np.full((len(grid), 4), -1.0, np.float32)
    owner = np.zeros(len(grid), np.float32)
    for i, thing in enumerate(scene.things):
        here = (best == i) & (share >= 0.2)
        # The cell of the centre always belongs to its thing, however small.
        centre = min(int(thing.y // CELL), rows - 1) * columns + min(int(thing.x // CELL), columns - 1)
        on_top = i + 1 < count and scene.things[i + 1].inside
        if not on_top:
            here[centre] = True
            owner[centre] = 1
        shape[here] = SHAPE_CLASSES.index(thing.shape)
        colour[here] = COLOUR_CLASSES.index(thing.colour)
        if thing.text:
            # Which letter of a word lies at the cell's middle.
            edges = text_edges(thing)
            middles = (np.nonzero(here)[0] % columns + 0.5) * CELL
            which = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, len(thing.text) - 1)
            character[here] = [CHARACTERS.index(thing.text[k]) for k in which]
        x1, y1, x2, y2 = thing.box
        box[here] = (x1 / scene.width, y1 / scene.height, x2 / scene.width, y2 / scene.height)
    thin = (shape == NONE) & (share > 0)
    shape[thin] = IGNORED
    colour[thin] = IGNORED
    return {"shape": shape, "colour": colour, "character": character, "box": np.clip(box, -1, 1), "owner": owner}


# ---------------------------------------------------------------- scenes

def fits(thing: Thing, others: list, width: int, height: int, gap: float) -> bool:
    r = thing.size / 2
    if thing.x < r + 2 or thing.y < r + 2 or thing.x > width - r - 2 or thing.y > height - r - 2:
        return False
    return all(math.hypot(thing.x - o.x, thing.y - o.y) > r + o.size / 2 + gap for o in others)


def put(rng: random.Random, scene: Scene, shape: str, colour: str, low: float, high: float, held_out: bool) -> bool:
    """Adds one thing whose size is a share of the short side, where it touches no other."""
    short = min(scene.width, scene.height)
    for attempt in range(40):
        size = rng.uniform(low, max(low, high - (high - low) * attempt / 40)) * short
        r = size / 2 + 2
        thing = Thing(shape, colour, shade(rng, colour, held_out), rng.uniform(r, scene.width - r),
                      rng.uniform(r, scene.height - r), size,
                      0 if shape == "circle" else rng.uniform(-12, 12))
        if fits(thing, scene.things, scene.width, scene.height, 0.03 * short):
            place(thing)
            scene.things.append(thing)
            return True
    return False


def distinct(rng: random.Random, count: int, colours: list) -> list:
    """(shape, colour) pairs, all different; often no shape and no colour twice."""
    if rng.random() < 0.6:
        return list(zip(rng.sample(SHAPES, count), rng.sample(colours, count)))
    pairs: list = []
    while len(pairs) < count:
        pair = (rng.choice(SHAPES), rng.choice(colours))
        if pair not in pairs:
            pairs.append(pair)
    return pairs


def make_scene(rng: random.Random, kind: str, width: int, height: int, held_out: bool) -> Scene:
    """kind: one, few (2-3, all different), many (1-5, some alike), inside, text (a character), word."""
    dark = rng.random() < 0.15
    colours = ON_DARK if dark else COLOURS
    scene = Scene(width, height, plain_background(rng, dark, held_out), kind=kind)
    short = min(width, height)
    if kind == "one":
        put(rng, scene, rng.choice(SHAPES), rng.choice(colours), 0.26, 0.8, held_out)
    elif kind == "few":
        for shape, colour in distinct(rng, rng.choice([2, 2, 3]), colours):
            put(rng, scene, shape, colour, 0.24, 0.5, held_out)
    elif kind == "many":
        total = rng.choice([1, 2, 3, 3, 4, 4, 5, 5])
        kinds = distinct(rng, rng.choice([1, 2, 2, 3]), colours)
        for _ in range(total):
            put(rng, scene, *rng.choice(kinds), 0.2, 0.36, held_out)
    elif kind == "inside":
        (s1, c1), (s2, c2), (s3, c3) = list(zip(rng.sample(SHAPES, 3), rng.sample(colours, 3)))
        if s1 in ("star", "cross", "triangle"):  # too thin to hold anything
            s1, s2 = ("square" if s2 != "square" and s3 != "square" else "circle"), s2
            if s1 in (s2, s3):
                s1 = next(s for s in ("square", "circle", "heart") if s not in (s2, s3))
        put(rng, scene, s1, c1, 0.58, 0.72, held_out)
        if not scene.things:
            return make_scene(rng, "few", width, height, held_out)
        outer = scene.things[0]
        size = outer.size * rng.uniform(0.36, 0.46)
        jitter = 0.05 * outer.size
        inner = Thing(s2, c2, shade(rng, c2, held_out), outer.x + rng.uniform(-jitter, jitter),
                      outer.y + rng.uniform(-jitter, jitter), size, 0 if s2 == "circle" else rng.uniform(-12, 12),
                      inside=True)
        place(inner)
        scene.things.append(inner)
        if rng.random() < 0.5:
            put(rng, scene, s3, c3, 0.2, 0.3, held_out)
    elif kind in ("text", "word"):
        colour = rng.choice(colours)
        if kind == "text":
            text = rng.choice(CHARACTERS)
            shape = "digit" if text.isdigit() else "letter"
            size = rng.uniform(0.36, 0.68) * short
        else:
            shape = "word"
            text = rng.choice(HELD_OUT_WORDS if held_out else WORDS)
            if not held_out and rng.random() < 0.5:
                text = "".join(rng.sample(CHARACTERS[10:], rng.choice([2, 3, 3, 4])))
                if text in HELD_OUT_WORDS or any(t in text for t in ("AD", "GPT", "GP")):  # tokens of more than a letter
                    text = "CAT"
            size = 100.0
        thing = Thing(shape, colour, shade(rng, colour, held_out), 0, 0, size, text=text)
        if kind == "word":  # as wide as four fifths of the picture, or as high as half of it
            x1, y1, x2, y2 = text_box(thing)[0]
            largest = min(0.9 * width / (x2 - x1), 0.62 * height / (y2 - y1))
            thing.size *= rng.uniform(0.72, 1.0) * largest
        thing.x, thing.y = width / 2, height / 2
        place(thing)
        w, h = (thing.box[2] - thing.box[0]) / 2 + 3, (thing.box[3] - thing.box[1]) / 2 + 3
        thing.x = rng.uniform(w, width - w) if width > 2 * w else width / 2
        thing.y = rng.uniform(h, height - h) if height > 2 * h else height / 2
        place(thing)
        scene.things.append(thing)
    else:
        raise ValueError(kind)
    if not scene.things:
        return make_scene(rng, "one", width, height, held_out)
    return scene
