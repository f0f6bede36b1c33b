"""Runs `ocelli bench` and writes the tables and charts of docs/performance.md.

    python benches/report.py --ocelli target/release/ocelli --model MODEL [--context N] [--out docs/performance]

Writes OUT/bench.json, OUT/sweep.json and one SVG chart for each axis of the sweep, and prints the tables in Markdown. With
--from OUT nothing runs: tables and charts are made again from the figures there. Python's standard library is enough.
"""

import argparse
import json
import subprocess
from pathlib import Path

AXES = {
    "context": ("Decoding, by tokens of context", "tokens of context"),
    "batch": ("Decoding, by sessions in a step (total)", "sessions"),
    "prompt": ("Prefill, by tokens of the prompt", "tokens"),
    "picture": ("Vision tower, by side of a square picture", "pixels"),
}


def run(program, arguments):
    done = subprocess.run([program, *arguments, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def chart(title, label, points):
    """One line of tokens a second over the axis' values, evenly spaced, from zero."""
    width, height, left, right, top, bottom = 520, 260, 56, 16, 36, 44
    most = max(point["tok_s"] for point in points) or 1.0
    digits = 0 if most >= 20 else 1 if most >= 2 else 2
    step = (width - left - right) / max(len(points) - 1, 1)

    def place(index, value):
        return left + index * step, height - bottom - value / most * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{left}" y="20" font-size="14" fill="#222">{title}</text>',
    ]
    for part in range(5):
        value = most * part / 4
        _, y = place(0, value)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:.{digits}f}</text>')
    places = [place(index, point["tok_s"]) for index, point in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2a6fbb" stroke-width="2"/>')
    for (x, y), point in zip(places, points):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2a6fbb"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle" fill="#555">{point["value"]}</text>'
        )
    parts.append(
        f'<text x="{(left + width - right) / 2:.0f}" y="{height - 8}" text-anchor="middle" fill="#555">{label}; tok/s</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def bench_table(report):
    rows = [
        ("decode, batch 1", f'{report["decode_tok_s"]:.2f} tok/s', f'{report["decode_bare_tok_s"]:.2f} tok/s', report["decode_share"]),
        ("prefill", f'{report["prefill_tok_s"]:.1f} tok/s', f'{report["prefill_bare_tok_s"]:.1f} tok/s', report["prefill_share"]),
    ]
    if report["vision_ms"] is not None:
        rows.append(
            (
                f'vision, {report["image_tokens"]} tokens',
                f'{report["vision_ms"] / 1e3:.2f} s',
                f'{report["vision_bare_ms"] / 1e3:.2f} s',
                report["vision_share"],
            )
        )
    lines = ["| | measured | matrix products alone | share |", "|---|---|---|---|"]
    lines += [f"| {name} | {got} | {bare} | {share * 100:.0f} % |" for name, got, bare, share in rows]
    lines += [
        "",
        f'{report["adapter"]} ({report["driver"]}), {report["model"]}, {report["recipe"]}: load {report["load_s"]:.1f} s, '
        f'{report["bytes_per_token"] / 1e9:.2f} GB a step, {report["decode_gb_s"]:.2f} of {report["copy_gb_s"]:.2f} GB/s '
        f'({report["bandwidth_share"] * 100:.0f} %), {report["gpu_mb"]:.0f} MB on the device.',
    ]
    return "\n".join(lines)


def sweep_tables(points):
    lines = []
    for axis, (title, label) in AXES.items():
        here = [point for point in points if point["axis"] == axis]
        if not here:
            continue
        lines += ["", f"{title}:", "", "| " + label + " | " + " | ".join(str(p["value"]) for p in here) + " |"]
        lines.append("|---" * (len(here) + 1) + "|")
        lines.append("| tok/s | " + " | ".join(f'{p["tok_s"]:.2f}' for p in here) + " |")
        lines.append("| ms | " + " | ".join(f'{p["ms"]:.0f}' for p in here) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", default="target/release/ocelli")
    parser.add_argument("--model")
    parser.add_argument("--context", default="4608", help="tokens of context to make room for; the sweep goes as far as it allows")
    parser.add_argument("--prompt-tokens", default="512")
    parser.add_argument("--new-tokens", default="16")
    parser.add_argument("--image-size", default="448x448")
    parser.add_argument("--repeat", default="5")
    parser.add_argument("--out", type=Path, default=Path("docs/performance"))
    parser.add_argument("--from", dest="old", type=Path)
    arguments = parser.parse_args()
    out = arguments.old or arguments.out
    if arguments.old is None:
        if arguments.model is None:
            parser.error("--model is missing")
        out.mkdir(parents=True, exist_ok=True)
        common = ["bench", "--model", arguments.model, "--context", arguments.context, "--new-tokens", arguments.new_tokens]
        point = ["--prompt-tokens", arguments.prompt_tokens, "--image-size", arguments.image_size, "--repeat", arguments.repeat]
        (out / "bench.json").write_text(json.dumps(run(arguments.ocelli, common + point), indent=1) + "\n")
        (out / "sweep.json").write_text(json.dumps(run(arguments.ocelli, common + ["--sweep"]), indent=1) + "\n")
    report = json.loads((out / "bench.json").read_text())
    points = json.loads((out / "sweep.json").read_text())
    for axis, (title, label) in AXES.items():
        here = [point for point in points if point["axis"] == axis]
        if here:
            (out / f"{axis}.svg").write_text(chart(title, label, here))
    print(bench_table(report))
    print(sweep_tables(points))


if __name__ == "__main__":
    main()
