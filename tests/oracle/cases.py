"""The conversations. Each takes a wording number: variants.json says which wording a checkpoint uses, chosen so that
no greedy step is a near tie (see search_variants.py)."""

ASKED = ["What do you see", "Describe what is shown", "Name the colours", "Which shape is the largest", "Count the circles",
         "Tell me a short story", "Where is the brightest spot", "How many lines are there", "Is there a square",
         "Give this a title", "What could happen next", "What is missing"]
ENDED = ["?", ", please?", "? Answer in one sentence.", "? Answer with a number.", " - and why?", "? Be brief.",
         "? Use plain words.", "? Think first."]
WORDINGS = len(ASKED) * len(ENDED)

PARAGRAPH = ("The eye is a small instrument, and this sentence is number {n} of a longer text about lenses, light and "
             "{thing}. ")
THINGS = ["water", "glass", "paper", "stone", "letters", "markets", "towers", "the sea", "windows", "trees"]


def wording(k: int) -> str:
    return ASKED[k % len(ASKED)] + ENDED[k // len(ASKED)]


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def image(name: str) -> dict:
    return {"type": "image", "image": f"pictures/{name}.png"}


def clip(fps: float | None = None) -> dict:
    part = {"type": "video", "video": [f"pictures/clip_{k}.png" for k in range(4)]}
    return part if fps is None else part | {"fps": fps}


def user(*parts: dict) -> dict:
    return {"role": "user", "content": list(parts)}


def long_words(k: int, count_tokens) -> list[dict]:
    """Sentences until the whole prompt has 600 tokens."""
    words, n = "", 0
    while True:
        n += 1
        words += PARAGRAPH.format(n=n, thing=THINGS[n % len(THINGS)])
        messages = [user(text(words + wording(k)))]
        if count_tokens(messages) >= 600:
            return messages


UNICODE_SYSTEM = "You are “Ocelli” 👁️: answer in 中文 or English, naïvely cafe\u0301-style. Å ≠ Å, ﬁ stays ﬁ."
UNICODE_ASK = "这张图片里有什么？ e\u0301le\u0300ve, 한국어, नमस्ते, 👩‍🚀🏳️‍🌈👍🏽, 1234567, \ttab  two   three\r\n\nnew — "

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city — 今の天気",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
                    "required": ["city"]}}},
    {"type": "function", "function": {"name": "crop", "description": "Cut a box out of the picture <0-1000> & show it",
     "parameters": {"type": "object", "properties": {"box": {"type": "array", "items": {"type": "integer"}}}}}},
]


def call(name: str, arguments) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool_turns() -> list[dict]:
    return [
        {"role": "system", "content": "Be exact."},
        user(text("Weather in Zürich and Oslo?")),
        {"role": "assistant", "content": "Let me look.", "tool_calls": [
            call("get_weather", {"city": "Zürich", "unit": "C", "days": 1.5, "now": True, "note": None}),
            call("get_weather", "{\"city\": \"Oslo\"}")]},
        {"role": "tool", "content": "12 °C, \"rain\""},
        {"role": "tool", "content": [text("3 °C"), text(", snow")]},
        {"role": "assistant", "content": "", "tool_calls": [call("crop", {"box": [0, 10, 500, 1000]})]},
        {"role": "tool", "content": "done"},
    ]


def cases(name: str, pick, count_tokens):
    """Yields (case name, messages, options) for the checkpoint. `pick(case)` is the wording number of the case."""
    yield from (
        ("text", [user(text(wording(pick("text"))))], {}),
        ("square", [user(image("square"), text(wording(pick("square"))))], {}),
        ("wide", [user(image("wide"), text(wording(pick("wide"))))], {}),
        ("tiny", [user(image("tiny"), text(wording(pick("tiny"))))], {}),
        ("two_pictures", [user(text("First: "), image("odd"), text(" and second: "), image("small"),
                               text(". " + wording(pick("two_pictures"))))], {}),
        ("two_turns", [user(image("small"), text("What is in the picture?")),
                       {"role": "assistant", "content": [text("A red circle and a line on a blue ground.")]},
                       user(text(wording(pick("two_turns"))))], {}),
        ("long_text", long_words(pick("long_text"), count_tokens), {}),
        ("video", [user(clip(), text(wording(pick("video"))))], {"video_form": "4.57"}),
        ("mixed", [user(image("small"), text("Then the clip: "), clip(fps=4.0),
                        text(wording(pick("mixed"))))], {"video_form": "4.57"}),
        ("unicode_system", [{"role": "system", "content": UNICODE_SYSTEM},
                            user(text(UNICODE_ASK + wording(pick("unicode_system"))))], {}),
    )
    if name == "plain":
        yield "video_5x", [user(clip(), text(wording(pick("video_5x"))))], {"video_form": "5.x"}
    if name == "deep":
        yield "system_picture", [{"role": "system", "content": [text("You name shapes.")]},
                                 user(text(wording(pick("system_picture")) + " "), image("tiny"), image("small"))], {}


def prompt_only_cases():
    """Prompts of which only the text and the ids are recorded."""
    yield "tools", [user(text("Weather in Zürich?"))], {"tools": TOOLS}
    yield "tools_turns", tool_turns(), {"tools": TOOLS}
    yield "vision_id", [user(image("tiny"), text("or "), clip(), image("small"), text("?"))], {"add_vision_id": True}
