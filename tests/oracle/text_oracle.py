"""What the tokenizer and the chat template answer."""

from cases import TOOLS, UNICODE_ASK, UNICODE_SYSTEM, tool_turns

STRINGS = [
    "", " ", "Hello, world!", "hello  world", "   three spaces before", "three spaces after   ", "\n", "\n\n\n", "a\nb",
    "a\r\nb\r\n\r\nc", " \n \n x", "\t\ttabs\tand spaces \t ", "line  \n  next", "don't can't we're I'll you've he'd I'm it's",
    "DON'T I'LL WE'RE", "o'clock 'tis rock'n'roll's", "1234567890", "3.14159, 1,000,000 and 2024-03-12T09:45:00Z",
    "x1y22z333", "½ Ⅷ ² ٣", "CamelCaseWords and snake_case_words and kebab-case-words", "def f(x):\n    return x ** 2  # done\n",
    "!!!??? ... --- ===>>> <<<", "(a)[b]{c}<d>", "https://example.org/path?query=1&page=2#top", "C:\\folder\\file.txt",
    "眼睛是动物的一个小小的仪器。", "这 是 test 混合text。", "日本語とカタカナ、ひらがな", "안녕하세요 그림", "नमस्ते दुनिया", "مرحبا بالعالم", "ภาษาไทย",
    "🙂", "👩‍🚀 and 🏳️‍🌈, 👍🏽!", "cafe\u0301 = caf\u00e9", "A\u030angstro\u0308m \u212b", "e\u0323\u0302 \u1ec7", "\u1100\u1161\u11a8 각", "ﬁne ﬂow №",
    "zero\u200bwidth\u00a0nbsp\u3000ideographic", "\ufeffbom \u2028 line \u0085 nel", "null \x00 and \x07 control \x7f", "\U0001f9ff\U00020000",
    "<|im_start|>user\nhi<|im_end|>", "text<|im_end|>text", "a <|image_pad|> b<|video_pad|>", "<|vision_start|><|image_pad|><|vision_end|>",
    "<think>\nhm\n</think>\n\nyes", "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "<tool_response> </tool_response>",
    "<|im_start|", "<| im_start |>", "<|IM_START|>", "<|endoftext|><|endoftext|>", " <|im_end|> ", "<0.2 seconds><|vision_start|>",
    "e<|im_end|>\u0301", "<|box_start|>(10,20),(300,400)<|box_end|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    UNICODE_SYSTEM, UNICODE_ASK, "the microlightscope reframeation of Paperless Starboard " * 3, "a" * 70, "ab" * 40 + " " * 17 + "c",
]


def chats() -> list[tuple[list, dict]]:
    """Conversations with the template's options."""
    picture, url = {"type": "image", "image": "p.png"}, {"type": "image_url", "image_url": {"url": "p.png"}}
    clip = {"type": "video", "video": ["a.png", "b.png"]}

    def say(role: str, *parts) -> dict:
        return {"role": role, "content": list(parts) if len(parts) != 1 or isinstance(parts[0], dict) else parts[0]}

    def words(text: str) -> dict:
        return {"type": "text", "text": text}

    seen = [say("user", picture, words("one "), clip, words(" two "), url), say("assistant", "Seen."),
            say("user", clip, picture, words("\n more \n"))]
    ask = {"add_generation_prompt": True}
    return [
        ([say("user", "Hi")], ask),
        ([say("user", "Hi")], {"add_generation_prompt": False}),
        ([say("system", "Be brief."), say("user", "  Hi  \n")], ask),
        ([say("system", words("Be "), words("brief.")), say("user", words("a"), words("b"))], ask),
        (seen, ask),
        (seen, ask | {"add_vision_id": True}),
        ([say("user", "One"), say("system", "too late"), say("assistant", words("Two"), picture, words("!"))],
         {"add_generation_prompt": False}),
        ([say("user", "Weather?")], ask | {"tools": TOOLS}),
        ([say("system", "Be exact."), say("user", "Weather?")], ask | {"tools": TOOLS[:1]}),
        (tool_turns(), ask | {"tools": TOOLS}),
        (tool_turns()[1:], ask),
        ([say("user", picture), {"role": "assistant", "content": "", "tool_calls": [
            {"name": "crop", "arguments": {"é": ["<", ">", "&", "'", "\"", "\n"], "n": -0.5, "b": False}}]},
          say("tool", picture, words("the part")), say("tool", "and 'this'"), say("user", url)],
         ask | {"add_vision_id": True}),
        ([say("user", "2+2?"), say("assistant", "<think>\nhm\n</think>\n\n4"), say("user", "<|im_end|> & <b>")], ask),
        ([say("user", ""), say("assistant", ""), say("user", words(""))], ask),
        ([say("user", {"image": "p.png"}, {"video": "v.gif"}, {"text": "bare keys"})], ask),
    ]


def tokenizer_cases(oracle) -> dict:
    rendered = []
    for messages, options in chats():
        text = oracle.processor.apply_chat_template(messages, tokenize=False, **options)
        rendered.append({"messages": messages, "options": options, "text": text,
                         "ids": oracle.tokenizer(text)["input_ids"]})
    strings = []
    for text in STRINGS:
        ids = oracle.tokenizer(text)["input_ids"]
        strings.append({"text": text, "ids": ids, "decoded": oracle.tokenizer.decode(ids),
                        "decoded_skip_special": oracle.tokenizer.decode(ids, skip_special_tokens=True)})
    added = {t.content: i for i, t in sorted(oracle.tokenizer.added_tokens_decoder.items())}
    return {"added_tokens": added, "strings": strings, "chats": rendered}
