"""A byte-level BPE tokenizer built like Qwen's: NFC, the same split pattern, 256 bytes, merges, 26 added tokens."""

import json
import unicodedata
from collections import Counter, defaultdict

import regex

from corpus import training_text

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# name, special
ADDED = [
    ("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
    ("<|object_ref_start|>", True), ("<|object_ref_end|>", True), ("<|box_start|>", True), ("<|box_end|>", True),
    ("<|quad_start|>", True), ("<|quad_end|>", True), ("<|vision_start|>", True), ("<|vision_end|>", True),
    ("<|vision_pad|>", True), ("<|image_pad|>", True), ("<|video_pad|>", True),
    ("<tool_call>", False), ("</tool_call>", False),
    ("<|fim_prefix|>", False), ("<|fim_middle|>", False), ("<|fim_suffix|>", False), ("<|fim_pad|>", False),
    ("<|repo_name|>", False), ("<|file_sep|>", False), ("<tool_response>", False), ("</tool_response>", False),
    ("<think>", False), ("</think>", False),
]


def byte_letters() -> dict[int, str]:
    """GPT-2's map from bytes to printable characters, in the order of its vocabulary."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in shown}
    spare = 0x100
    for b in range(256):
        if b not in table:
            table[b] = chr(spare)
            spare += 1
    return table


def train(count: int, text: str | None = None) -> tuple[list[str], list[tuple[str, str]]]:
    """The alphabet and `count` merges. Ties go to the pair that sorts first, so the result never varies."""
    letters = byte_letters()
    text = unicodedata.normalize("NFC", training_text() if text is None else text)
    words = Counter(regex.findall(SPLIT, text))
    pieces = [[letters[b] for b in word.encode()] for word in words]
    weights = list(words.values())
    pairs: Counter = Counter()
    where: dict = defaultdict(set)
    for i, word in enumerate(pieces):
        for pair in zip(word, word[1:]):
            pairs[pair] += weights[i]
            where[pair].add(i)
    merges = []
    made = set()
    while len(merges) < count:
        pair = min(pairs, key=lambda p: (-pairs[p], p))
        if pairs[pair] <= 0:
            raise SystemExit(f"the corpus gives only {len(merges)} merges, {count} wanted")
        if pair[0] + pair[1] in made:  # two ways to one token would break "id = 256 + rank"
            del pairs[pair]
            continue
        merges.append(pair)
        made.add(pair[0] + pair[1])
        for i in sorted(where.pop(pair)):
            word = pieces[i]
            for old in zip(word, word[1:]):
                if old in pairs:
                    pairs[old] -= weights[i]
            joined, j = [], 0
            while j < len(word):
                if j + 1 < len(word) and (word[j], word[j + 1]) == pair:
                    joined.append(word[j] + word[j + 1])
                    j += 2
                else:
                    joined.append(word[j])
                    j += 1
            pieces[i] = joined
            for new in zip(joined, joined[1:]):
                pairs[new] += weights[i]
                where[new].add(i)
        pairs.pop(pair, None)
    return [*letters.values()], merges


def added_entry(index: int, content: str, special: bool, with_id: bool) -> dict:
    entry = {"id": index} if with_id else {}
    return entry | {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
                    "normalized": False, "special": special}


def write(folder, merge_count: int, merge_style: str, template: str | None, text: str | None = None) -> dict[str, int]:
    """Writes tokenizer.json and tokenizer_config.json, trained on `text` (or corpus.py's); gives the added tokens' ids."""
    alphabet, merges = train(merge_count, text)
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    base = len(vocab)
    ids = {name: base + i for i, (name, _) in enumerate(ADDED)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added_entry(ids[n], n, s, True) for n, s in ADDED],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, level]},
        "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab,
                  "merges": [f"{a} {b}" for a, b in merges] if merge_style == "strings" else [list(m) for m in merges]},
    }
    config = {
        "add_bos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": {str(ids[n]): added_entry(0, n, s, False) for n, s in ADDED},
        "additional_special_tokens": [n for n, s in ADDED if s and n != "<|endoftext|>"],
        "bos_token": None,
    }
    if template is not None:
        config["chat_template"] = template
    config |= {"clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
               "model_max_length": 262144, "pad_token": "<|endoftext|>", "split_special_tokens": False,
               "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    for name, value, indent in (("tokenizer.json", tokenizer, None), ("tokenizer_config.json", config, 2)):
        text = json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return ids
