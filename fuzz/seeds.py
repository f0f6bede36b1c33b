#!/usr/bin/env python3
"""Makes the beginnings of the corpora, and the sound database that the target `history` writes over.

python3 fuzz/seeds.py [--database]     from the repository's root

What fuzzing found since lies in `corpus` too and is left alone. WebP pictures want Pillow; without it they are left out.
"""

import base64
import hashlib
import json
import os
import re
import sqlite3
import struct
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "tests/oracle/fixtures"
MONO = FIXTURES / "mono/model"
MOST = 64 << 10


def seed(target, data):
    if isinstance(data, str):
        data = data.encode()
    if len(data) > MOST:
        return
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def text(value):
    return json.dumps(value, ensure_ascii=False)


def safetensors():
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "e": {"dtype": "I8", "shape": [0, 5], "data_offsets": [16, 16]},
    }
    whole = text(header).encode()
    seed("safetensors", b"\0" + struct.pack("<Q", len(whole)) + whole + bytes(16))
    seed("safetensors", b"\1{}")
    seed("safetensors", b"\2" + struct.pack("<H", 16) + whole)
    seed("safetensors", b"\3" + text({"weight_map": {"a": "a.safetensors", "b": "../b"}}).encode())
    seed("safetensors", b"\0" + struct.pack("<Q", 1 << 60))


def config():
    seed("config", b"\0" + (MONO / "generation_config.json").read_bytes())
    seed("config", b"\1" + (MONO / "config.json").read_bytes())
    for key in ["text_config", "vision_config"]:
        for field, value in json.loads((MONO / "config.json").read_text())[key].items():
            seed("config", b"\2" + text({key: {field: value}}).encode())
    image, video = MONO / "preprocessor_config.json", MONO / "video_preprocessor_config.json"
    seed("config", b"\3" + image.read_bytes())
    seed("config", b"\4" + text({"size": {"shortest_edge": 1}, "patch_size": 14, "min_pixels": 4}).encode())
    both = {"image_processor": json.loads(image.read_text()), "video_processor": json.loads(video.read_text())}
    seed("config", b"\5" + text(both).encode())
    seed("config", b"\6" + text({"fps": 4, "min_frames": 1, "max_frames": 3, "merge_size": 1}).encode())


def tokenizer():
    seed("tokenizer", b"\0" + (MONO / "tokenizer.json").read_bytes())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$|\\s"}, "behavior": "Removed", "invert": True}
    for patch in [
        {},
        {"pre_tokenizer": split},
        {"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": False}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True}},
        {"pre_tokenizer": {"type": "Digits", "individual_digits": True}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "bb"}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}},
        {"normalizer": {"type": "Prepend", "prepend": "x"}},
        {"model": {"unk_token": "ab", "byte_fallback": True, "fuse_unk": True, "continuing_subword_prefix": "#"}},
        {"model": {"dropout": 0.5, "end_of_word_suffix": "</w>", "ignore_merges": True, "merges": []}},
        {"model": {"vocab": {"abc": 16777216}}},
        {"added_tokens": [{"id": 9, "content": "a", "special": False, "normalized": True, "single_word": False}]},
        {"truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}},
        {"padding": {"strategy": {"Fixed": 4}, "pad_id": 0, "pad_type_id": 0, "pad_token": "a", "direction": "Left"}},
        {"decoder": {"type": "ByteFallback"}, "post_processor": None},
    ]:
        seed("tokenizer", b"\1" + text(patch).encode() + b"\0aaaaaaaa abc ab 12")


def template():
    sources = [(FIXTURES / "ladder/model/chat_template.jinja").read_text()]
    sources += [
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{{ messages | tojson(indent=4, sort_keys=true, separators=(',', ':')) }}{{ tools | tojson(ensure_ascii=true) }}",
        "{{ 'x' * 100 }}{{ 'a-b' | replace('-', 'xx') | upper | trim }}{{ [3, 1, 2] | sort | join(', ') }}",
        "{{ messages | map(attribute='role') | list | first }}{{ messages | selectattr('role', 'eq', 'user') | list | length }}",
        "{{ 'abc'[::-1] }}{{ 'a b'.split(' ') }}{{ 'a'.startswith('a') }}{{ messages[0].items() | list }}",
        "{{ '%s %05d' | format('a', 3) }}{{ 1.5 // 2 }}{{ 2 ** 70 }}{{ 7 % 3 }}{{ -9223372036854775808 }}",
        "{% generation %}x{% endgeneration %}{{ raise_exception('no') }}{{ range(3) | batch(2) | list }}",
        "{% if a is defined and a in [1] %}{% elif b == {'c': 1} %}{% else %}{{ dict(a=1) | dictsort }}{% endif %}",
        "{% call(x) m() %}{{ x }}{% endcall %}{% filter upper %}a{% endfilter %}{% raw %}{{ }}{% endraw %}{# c #}",
        "{% for a in range(3) recursive %}{{ loop.index }}{{ loop.cycle(1, 2) }}{% break %}{% endfor %}{{ 'a' ~ 1 }}",
    ]
    messages = text([{"role": "user", "content": [{"type": "image", "image": "a"}, {"type": "text", "text": "b"}]}])
    for source in sources:
        seed("template", source)
        seed("template", source.encode() + b"\0" + messages.encode())


def gguf():
    def name(value):
        return struct.pack("<Q", len(value)) + value

    entries = [
        name(b"general.architecture") + struct.pack("<I", 8) + name(b"qwen3vl"),
        name(b"a") + struct.pack("<IIQ", 9, 8, 2) + name(b"x") + name(b"yy"),
        name(b"b") + struct.pack("<IIQ", 9, 4, 3) + struct.pack("<3I", 1, 2, 3),
        name(b"c") + struct.pack("<If", 6, 1.5),
        name(b"general.alignment") + struct.pack("<II", 4, 32),
    ]
    tensor = name(b"t") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    head = struct.pack("<QQ", 1, len(entries)) + b"".join(entries) + tensor
    whole = b"GGUF" + struct.pack("<I", 3) + head
    whole += bytes(-len(whole) % 32) + bytes(68)
    seed("gguf", b"\0" + whole)
    seed("gguf", b"\1" + head)
    for kind in [0, 1, 8, 12, 13, 14, 30]:
        seed("gguf", bytes([2, kind]) + bytes(range(256)))
    for door in [3, 4, 5]:
        seed("gguf", bytes([door]))
        for at in range(0, 4000, 400):
            seed("gguf", bytes([door]) + struct.pack("<I", at)[:3] + bytes([3, 0xFF, 1]))
        seed("gguf", bytes([door, 9, 0]))


MESSAGES = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"image": "p.png"}, "b"]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}]}],
    [{"role": "user", "content": [{"type": "video", "video": ["1.png", "2.png"], "fps": 4}]}],
    [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
    [{"role": "tool", "content": "r", "tool_call_id": "x", "name": "f", "reasoning_content": "hm"}],
    {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]},
    [{"role": "user", "content": [{"image": "file:///C:/a%20b.png"}]}],
]

COMPARISONS = [
    """title = "t"
[shared]
prompt = "What is {{a}} {{b}}?"
temperature = 0.0
max_tokens = 32
[[columns]]
name = "x"
picture_size = "448x224"
before = [{ role = "user", text = "Hello" }]
[[columns]]
system = "s"
recipe = "int8hu"
[variables]
a = ["x", 7, true, 1.5]
[matrix]
repeats = 2
csv = "v.csv"
[[assertions]]
contains = ["cat", "{{a}}"]
columns = ["x"]
""",
    """[shared]
prompt = "x"
[[columns]]
server = "http://127.0.0.1"
server_model = "m"
stop = ["a"]
reference = "r"
[matrix]
pairing = "paired"
[variables]
a = [1, 2]
b = ["{{a}}{{a}}", 4]
[[assertions]]
regex = "a+"
ignore_case = true
json_schema = { type = "object" }
""",
    "[[columns]]\npictures = [\"sample:shapes.png\"]\n[[columns]]\nprompt = \"{{\"\ntop_k = 3\nseed = 9\n",
]


def chats():
    for messages in MESSAGES:
        seed("messages", text(messages))
        seed("import", text(messages))
    for comparison in COMPARISONS:
        seed("comparison", b"\1" + comparison.encode() + b"\0b,c\n\"x, y\",1\nz,2\n")
    for table in ["a,b\n1,2\n", "a;b\n1;2", "a\tb\r\n\"1\n2\"\t3\r\n", "\ufeffa\n\"x\"\"y\"\n"]:
        seed("comparison", b"\0" + table.encode())
    cat = b"not really a picture"
    sha256 = hashlib.sha256(cat).hexdigest()
    exported = {
        "format": "ocelli-conversations",
        "version": 1,
        "conversations": [
            {
                "title": "t",
                "title_is_own": True,
                "pinned": False,
                "folder": "f",
                "settings": {"system_prompt": "s"},
                "created_ms": 1000,
                "changed_ms": 2000,
                "chosen_beginning": 1,
                "messages": [
                    {"id": 1, "role": "user", "text": "a", "chosen": 2,
                     "attachments": [{"kind": "image", "name": "cat.png", "sha256": sha256}]},
                    {"id": 2, "parent": 1, "role": "assistant", "text": "b", "state": "complete", "details": {"x": 1}},
                    {"id": 3, "parent": 1, "role": "assistant", "text": "c", "state": "stopped"},
                ],
            }
        ],
        "files": {sha256: base64.b64encode(cat).decode()},
    }
    seed("import", text(exported))
    exported["files"], exported["conversations"][0]["messages"][0]["attachments"] = {}, []
    seed("import", text(exported))


def history():
    seed("history", b"\0" + b"SQLite format 3\0")
    for door in [1, 2, 3]:
        seed("history", bytes([door]))
        for at in [16, 18, 24, 28, 36, 44, 56, 60, 68, 100, 103, 105, 108, 512, 1024, 2048, 4096]:
            seed("history", bytes([door]) + struct.pack("<I", at)[:3] + bytes([3, 0xFF, 0]))
        seed("history", bytes([door, 0, 2]))


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(width)) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pictures():
    for path in (FIXTURES / "pictures").iterdir():
        if path.stat().st_size < 6000:
            seed("picture", path.read_bytes())
    seed("picture", png(9, 7))
    pixels = bytes(range(36))
    seed("picture", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, 3, 3, 1, 24, 0, 36, 0, 0, 0, 0) + pixels)
    tags = [(256, 3, 1, 3), (257, 3, 1, 3), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
            (278, 3, 1, 3), (279, 4, 1, 9)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    seed("picture", b"II*\0" + struct.pack("<I", 20) + bytes(range(9)) + bytes(3) + directory)
    try:
        import io

        from PIL import Image
    except ImportError:
        return
    frames = [Image.new("RGBA", (12, 8), (i * 60, 9, 9, 200)) for i in range(3)]
    for form, options in [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 30}),
        ("WEBP", {"save_all": True, "append_images": frames[1:], "duration": 100}),
        ("PNG", {"save_all": True, "append_images": frames[1:], "duration": 100}),
        ("GIF", {"save_all": True, "append_images": frames[1:], "duration": 100}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ]:
        out = io.BytesIO()
        frames[0].save(out, form, **options)
        seed("picture", out.getvalue())
    for mode in ["L", "RGB", "CMYK"]:
        for progressive in [False, True]:
            out = io.BytesIO()
            Image.new(mode, (16, 9)).save(out, "JPEG", progressive=progressive)
            seed("picture", out.getvalue())


def hub():
    for files in [
        ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "../a.safetensors"],
        ["M-Q8_0.gguf", "M-F16.gguf", "mmproj-M-F16.gguf", "M-Q8_0-00001-of-00002.gguf"],
    ]:
        siblings = [{"rfilename": name, "size": 5, "blobId": "a" * 40} for name in files]
        siblings[0] |= {"lfs": {"sha256": "b" * 64, "size": 7}}
        seed("hub", b"\0" + text({"sha": "c" * 40, "siblings": siblings}).encode())
    for name in ["Qwen/Qwen3-VL-2B-Instruct", "https://huggingface.co/Qwen/Some/tree/main", "refs/pr/3", "a/b.safetensors",
                 "../x", "con.txt", "d" * 64, "models--a--b"]:
        seed("hub", b"\1" + name.encode())
    seed("hub", b"\2" + b"OCELLI\x01P" + struct.pack("<QQQ", 5000, 32 << 20, 77))
    seed("hub", b"\3" + text({"weight_map": {"a": "a-00001-of-00002.safetensors", "b": "../../etc"}}).encode())


def server():
    piece = text({"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": " cat"}, "logprobs": {"content": [
        {"token": " cat", "logprob": -0.25, "top_logprobs": [{"token": "x", "logprob": -9999}]}]}, "finish_reason": None}]})
    last = text({"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "END"}], "usage": {"prompt_tokens": 1}})
    stream = f"\ufeff: hi\r\ndata: {piece}\r\n\r\nevent: x\nid: 7\ndata: {last}\n\ndata: [DONE]\n\n"
    for cut in [0, 6, 255]:
        seed("server", bytes([0, cut]) + stream.encode())
    seed("server", b"\0\0data: " + text({"error": {"message": "out of\n memory"}}).encode() + b"\n\n")
    seed("server", b"\0\0data: " + text({"choices": [{"message": {"content": [{"text": "a"}], "reasoning": "b"}}]}).encode() + b"\n\n")
    seed("server", b"\1" + text({"object": "list", "data": [{"id": "a", "owned_by": "vllm"}, {"name": "b"}, "c"]}).encode())
    seed("server", b"\2" + text({"detail": [{"msg": "no"}]}).encode())
    seed("server", b"\2<html>")


def costs():
    # The columns of an answer of one token, and of none, as postcard writes them.
    def number(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def many(values):
        return number(len(values)) + b"".join(values)

    times = many([number(n) for n in [2, 2, 2, 2, 2, 2, 2, 2]])
    for tokens in [0, 1]:
        one = tokens * [b"\1"]
        floats = tokens * [struct.pack("<f", -1.0)]
        packed = b"\1m\1a\1" + number(9) + number(9) + b"\0" + number(18) + b"\5\6" + b"\3\2\1\0"
        packed += b"\1\0" + times + b"\1\0\2" + times
        packed += many(one) + many(one) + many(floats) + many(one) + many(floats) + many(one) + many(one) + many(tokens * [b"\2\0"])
        packed += many(one) + many(one) + many(one) + many(one) + (times if tokens else b"\0") + b"\2\2\2" + b"\1\1\1x"
        whole = b"\1" + packed
        seed("costs", b"\1" + whole)
        deflated = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = deflated.compress(whole) + deflated.flush()
        seed("costs", b"\0\1" + struct.pack("<I", len(data)) + data)


def results():
    cell = {"kind": "cell", "key": "a" * 32, "row": 0, "repeat": 0, "column": "A", "values": [["a", "1"]], "prompt": "p",
            "answer": "one {\"bbox_2d\": [1, 2, 3, 4]}", "reason": "End", "ids": [1, 2], "logprobs": [-0.5, -1],
            "figures": {"ttft_ms": 1.5}, "verdicts": [{"number": 0, "what": "w", "passed": True, "why": "y"}],
            "reference": {"tokens": 1, "mean_logprob": -1, "perplexity": 2.7}}
    lines = [{"kind": "begin", "title": "t", "cells": 4, "at": 1700000000}, cell, cell | {"column": "B", "key": "b" * 32},
             {"kind": "rating", "key": "a" * 32, "rating": {"thumb": 1, "stars": 4, "note": "n"}}]
    written = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    seed("results", written)
    seed("results", written[:-20])


def judge():
    for table, answer in [
        ({"contains": ["cat", "dog"], "ignore_case": True, "not": True}, "A cat"),
        ({"lacks": "x", "equals": "y"}, " y "),
        ({"regex": "(a|b)+?\\w{1,20}", "name": "n", "columns": ["A"]}, "abab cd"),
        ({"json": True, "json_schema": {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "items": {"$ref": "#/$defs/a"}}}, "[[null]]"),
        ({"json_schema": {"type": "object", "properties": {"a": {"pattern": "^x+$", "format": "date"}}, "required": ["a"],
                          "patternProperties": {"b": {"enum": [1]}}, "additionalProperties": False}}, "```json\n{\"a\": \"xx\"}\n```"),
        ({"json_schema": {"$schema": "http://json-schema.org/draft-04/schema#", "oneOf": [{"minimum": 1}, {"multipleOf": 0.1}]}}, "0.3"),
        ({"json_schema": {"if": {"const": 1}, "then": {"contains": {}}, "unevaluatedItems": False, "dependentSchemas": {"a": {}}}}, "1"),
        ({"min_words": 1, "max_words": 3, "max_characters": 9, "max_tokens": 9, "stops_by_itself": True}, "can't 中文"),
        ({"box": [1, 2, 30, 40], "min_iou": 0.5, "label": "cat"}, '{"bbox_2d": [1, 2, 30, 41], "label": "Cat"}'),
    ]:
        seed("judge", b"\0" + text(table).encode() + b"\0" + answer.encode())
    seed("judge", b"\1a cat sat\0a dog  sat.")
    seed("judge", b"\2" + text({"thumb": -1, "stars": 3, "note": "x"}).encode())
    for answer in ['Here:\n```json\n[{"bbox_2d": [10, 20, 500, 600], "label": "a {cat}"},\n{"point": [1, 2], "img_idx": 0}]\n```',
                   '{"things": [{"bbox": [1, 2, 3, 4], "image": 2}, {"point_2d": [5, 6]}]}', '[{"a":"{"bbox', "{{{{\"bbox\""]:
        seed("grounding", answer)


def preferences():
    seed("preferences", text({"theme": "dark", "zoom": 1.5, "presets": [{"name": "a", "settings": {"greedy": True}}],
                              "window": {"position": [1, 2], "size": [800, 600], "maximized": False}, "servers": []}))
    seed("preferences", text({"zoom": 1e300, "settings": {"system_prompt": "x", "temperature": 0.5}, "language": "de"}))


def database():
    """The sound database, with small pages so that it is small, and a log that is not yet in it."""
    steps = re.findall(r'^    "\n(.*?)\n    ",$', (HERE.parent / "src/chat/history/schema.rs").read_text(), re.S | re.M)
    path = HERE / "seeds/history.db"
    path.parent.mkdir(exist_ok=True)
    for end in ["", "-wal", "-shm"]:
        path.with_name(path.name + end).unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA page_size = 512")
    for step in steps:
        db.executescript(step)
    db.execute(f"PRAGMA application_id = {0x4F63656C}")
    db.execute(f"PRAGMA user_version = {len(steps)}")
    cat = b"a picture of a cat"
    key = hashlib.sha256(cat).digest()
    db.execute("INSERT INTO files VALUES (?, ?)", (key, cat))
    for n in [1, 2]:
        db.execute("INSERT INTO conversations (title, created_ms, changed_ms, chosen_beginning) VALUES (?, 1, ?, ?)",
                   (f"about {n}", n, 2 * n - 1))
        for parent, role, words in [(None, "user", "Where is the cat?"), (2 * n - 1, "assistant", "The cat sits on the mat. " * 30)]:
            db.execute("INSERT INTO messages (conversation, parent, role, text, state, created_ms) VALUES (?, ?, ?, ?, 'complete', 1)",
                       (n, parent, role, words))
        db.execute("INSERT INTO attachments VALUES (?, 0, 'image', 'cat.png', ?)", (2 * n - 1, key))
        db.execute("INSERT INTO costs VALUES (?, ?)", (2 * n, b"\1\0\0\0\0"))
    db.execute("PRAGMA journal_mode = wal")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("INSERT INTO messages (conversation, parent, role, text, state, created_ms) VALUES (1, 2, 'user', 'And now?', 'complete', 2)")
    copies = {end: path.with_name(path.name + end).read_bytes() for end in ["", "-wal"]}
    db.close()
    for end in ["-wal", "-shm"]:
        path.with_name(path.name + end).unlink(missing_ok=True)
    for end, data in copies.items():
        path.with_name(path.name + end).write_bytes(data)


if __name__ == "__main__":
    os.chdir(HERE.parent)
    if "--database" in sys.argv or not (HERE / "seeds/history.db").exists():
        database()
    for make in [safetensors, config, tokenizer, template, gguf, chats, history, pictures, hub, server, costs, results, judge, preferences]:
        make()
