"""Measures side by side: 1, 2, 4 and 8 columns of one prompt, sharing all they can and nothing at all. Prints a Markdown table.

    python benches/columns.py --ocelli target/release/ocelli --model MODEL [--tokens 32] [--size 224]

Shared: every column has the same picture and prompt, another seed. Not shared: every column begins with a system prompt of
its own (so that no token is common) and has a picture of its own size (so that each is encoded). Random weights will do:
speed does not depend on what is said. Run it on a machine that does nothing else.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def comparison(columns: int, shared: bool, size: int, tokens: int) -> str:
    lines = [
        "[shared]", 'prompt = "Say what is in this picture, and where."', 'pictures = ["sample:shapes.png"]',
        f"max_tokens = {tokens}", "temperature = 1.0",
    ]
    for n in range(columns):
        lines += ["[[columns]]", f"seed = {n}"]
        if shared:
            lines.append(f"picture_size = {size}")
        else:
            lines += [f'picture_size = "{size}x{size + 32 * n}"', f'system = "{n} is your number."']
    return "\n".join(lines)


def run(args: argparse.Namespace, columns: int, shared: bool) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "c.toml", Path(folder) / "r.jsonl"
        file.write_text(comparison(columns, shared, args.size, args.tokens))
        start = time.monotonic()
        said = subprocess.run(
            [args.ocelli, "compare", file, "--out", out, "--model", args.model],
            capture_output=True, text=True, check=True,
        ).stderr
        cells = [json.loads(line) for line in out.read_text().splitlines()]
    cells = [cell for cell in cells if cell["kind"] == "cell"]
    figures = [cell["figures"] for cell in cells]
    tokens = sum(f["new_tokens"] for f in figures)
    # From the first question to the last token: the slowest cell's whole way.
    wall = max(f["ttft_ms"] + f["decode_ms"] for f in figures) / 1e3
    decode = max(f["decode_ms"] for f in figures) / 1e3
    return {
        "columns": columns, "shared": shared, "tokens": tokens, "wall_s": wall,
        "tok_s": tokens / wall,
        "decode_tok_s": tokens / decode,
        "ttft_first_s": min(f["ttft_ms"] for f in figures) / 1e3,
        "ttft_median_s": statistics.median(f["ttft_ms"] for f in figures) / 1e3,
        "ttft_last_s": max(f["ttft_ms"] for f in figures) / 1e3,
        "reused": sum(f["reused_tokens"] for f in figures), "prompt": sum(f["prompt_tokens"] for f in figures),
        "whole_s": time.monotonic() - start, "said": said.strip().splitlines()[-2:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ocelli", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--shared-only", action="store_true")
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    print("| columns | shared | prompt tokens reused | first token: first / median / last | all done | tok/s in all, from the first question |")
    print("|---|---|---|---|---|---|")
    for columns in args.columns:
        for shared in [True, False] if columns > 1 and not args.shared_only else [True]:
            r = run(args, columns, shared)
            print(
                f"| {columns} | {'yes' if shared else 'no'} | {r['reused']} of {r['prompt']} "
                f"| {r['ttft_first_s']:.1f} / {r['ttft_median_s']:.1f} / {r['ttft_last_s']:.1f} s "
                f"| {r['wall_s']:.1f} s | {r['tok_s']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
