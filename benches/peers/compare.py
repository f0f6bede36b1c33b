"""Measures Ocelli and llama.cpp one after the other on this machine, with the same shapes, and prints one Markdown table.

    python compare.py --ocelli PATH --gguf FILE --mmproj FILE [--vision-python PATH] [options]

Tokens and pictures are random. llama.cpp runs twice: on Vulkan with all layers there, and on the CPU. Every program runs alone,
for at most --limit seconds; what it did not reach by then stays empty.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Tokens before those that are decoded at a short context.
SHORT = 8


class Child:
    """A program that ran to its end or to the limit: what it printed, the most memory it had, and who else was at work."""

    def __init__(self, command: list, limit_secs: float, env: dict):
        self.peak_mb = self.private_mb = 0.0
        self.why = None
        busy, own, start = busy_secs(), children_secs(), time.monotonic()
        # A pipe that nobody reads would stop it.
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | env,
            )
            watch = threading.Thread(target=self.watch, args=(process, time.monotonic() + limit_secs))
            watch.start()
            self.out = process.stdout.read()
            process.wait()
            watch.join()
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:]
        others = busy_secs() - busy - (children_secs() - own)
        self.others = max(0.0, others / (time.monotonic() - start) / os.cpu_count())
        if process.returncode != 0 and not self.why:
            self.why = f"ended with {process.returncode}: {' '.join(last)}"

    def watch(self, process: subprocess.Popen, deadline: float) -> None:
        while process.poll() is None:
            self.look(process.pid)
            if time.monotonic() > deadline:
                self.why = "stopped at the limit"
                process.kill()
                return
            time.sleep(0.1)

    def look(self, pid: int) -> None:
        """Where the system has no /proc the figures stay 0."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        kib = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.endswith("kB")}
        self.peak_mb = max(self.peak_mb, kib.get("VmHWM", 0) * 1024 / 1e6)
        # Without pages of mapped files, which the system may drop.
        private = kib.get("RssAnon", 0) + kib.get("RssShmem", 0)
        self.private_mb = max(self.private_mb, private * 1024 / 1e6)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{") and line.endswith("}")]


def busy_secs() -> float:
    """Time that all processors of this machine have worked; 0 where the system does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def children_secs() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(text: str) -> None:
    load = f" (load {os.getloadavg()[0]:.1f})" if hasattr(os, "getloadavg") else ""
    print(f"{text}{load}", file=sys.stderr, flush=True)


def first_line(command: list) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True).stdout.strip().split("\n")[0]


class Column:
    """One program on one device: its figures by row, its name, and what is to be said of it."""

    def __init__(self, title: str):
        self.title = title
        self.figures: dict[str, float] = {}
        self.notes: list[str] = []

    def memory(self, child: Child) -> None:
        for name, megabytes in (("peak", child.peak_mb), ("private", child.private_mb)):
            if megabytes:
                self.figures[name] = max(self.figures.get(name, 0.0), megabytes)

    def note(self, what: str, child: Child) -> None:
        if child.why:
            self.notes.append(f"{what}: {child.why}")
        if child.others >= 0.02:
            self.notes.append(f"{what}: other programs took {child.others:.0%} of the processors")


def ocelli(args) -> Column:
    column = Column("Ocelli")
    column.notes.append(first_line([args.ocelli, "--version"]))

    def bench(what: str, *options) -> dict:
        say(f"Ocelli: {what}")
        command = [args.ocelli, "bench", "--json", "--model", args.ocelli_model or args.gguf]
        command += ["--context", args.context]
        command += ["--adapter", args.adapter] if args.adapter else []
        child = Child([*command, *options], args.limit, {})
        column.note(what, child)
        if "--text-only" in options:
            column.memory(child)
        try:
            return json.loads(child.out)
        except ValueError:
            return {}

    # The first time, a GGUF file is converted; that is not what is measured.
    say("Ocelli: getting the model ready")
    prepare = [args.ocelli, "bench", "--json", "--model", args.ocelli_model or args.gguf, "--context", args.context]
    Child([*prepare, "--image-size", "0x0", "--prompt-tokens", 1, "--new-tokens", 1], args.limit, {})
    text = ("--text-only", "--image-size", "0x0")
    report = bench("decoding", *text, "--prompt-tokens", SHORT, "--new-tokens", args.new)
    if report:
        column.figures[f"decode {SHORT}"] = report["decode_tok_s"]
        column.notes.append(f"{report['adapter']} ({report['driver']}), {report['recipe']}")
    for count in args.prompts:
        report = bench(f"prompt of {count}", *text, "--prompt-tokens", count, "--new-tokens", 1)
        if report:
            column.figures[f"prefill {count}"] = report["prefill_tok_s"]
    report = bench(f"picture of {args.image}", "--image-size", args.image, "--prompt-tokens", 1, "--new-tokens", 1)
    if report:
        column.figures["vision"] = report["vision_ms"] / 1e3
    if args.long:
        report = bench(f"prompt of {args.long}", *text, "--prompt-tokens", args.long, "--new-tokens", args.new)
        if report:
            column.figures[f"prefill {args.long}"] = report["prefill_tok_s"]
            column.figures[f"decode {args.long}"] = report["decode_tok_s"]
    return column


def llama_cpp(args, device: str) -> Column:
    where = "Vulkan" if device == "vulkan" else f"CPU, {args.threads} threads"
    column = Column(f"llama.cpp, {where}")
    # llama.cpp passes over Vulkan devices of the CPU kind, unless they are asked for by number.
    env = {} if args.vulkan_device is None else {"GGML_VK_VISIBLE_DEVICES": args.vulkan_device}
    common = ["--model", args.gguf, "--device", device, "--threads", args.threads, "--repeats", args.repeats]
    runs = [("text", ["node", HERE / "llama_text.mjs", *common, "--context", args.context, "--new", args.new,
                      "--short", SHORT, "--prompts", ",".join(map(str, args.prompts)), "--long", args.long])]
    if args.mmproj and args.vision_python:
        runs.append(("picture", [args.vision_python, HERE / "llama_vision.py", *common, "--mmproj", args.mmproj,
                                 "--image", args.image]))
    for what, command in runs:
        say(f"{column.title}: {what}")
        child = Child(command, args.limit, env)
        column.note(what, child)
        if what == "text":
            column.memory(child)
        for line in child.lines():
            for kind in ("prefill", "decode"):
                if kind in line:
                    column.figures[f"{kind} {line[kind]}"] = line["tok_s"]
            if "vision" in line:
                column.figures["vision"] = line["seconds"]
            if "version" in line:
                column.notes.append(" on ".join(filter(None, (line["version"], line.get("device")))))
            if "log" in line:
                column.notes.append(f"`{' '.join(line['log'].split())}`")
    return column


def table(args, columns: list[Column]) -> str:
    """Ratios above 1 say that Ocelli is the faster or the smaller one."""
    rows = [(f"decode {SHORT}", f"decode after {SHORT} tokens, tok/s", True, "{:.2f}")]
    rows += [(f"prefill {n}", f"prefill of {n} tokens, tok/s", True, "{:.1f}") for n in args.prompts]
    if args.long:
        rows.append((f"prefill {args.long}", f"prefill of {args.long} tokens, tok/s", True, "{:.1f}"))
        rows.append((f"decode {args.long}", f"decode after {args.long} tokens, tok/s", True, "{:.2f}"))
    rows.append(("vision", f"picture of {args.image}, s", False, "{:.2f}"))
    rows.append(("peak", "memory, text only: resident at most, MB", False, "{:.0f}"))
    rows.append(("private", "of it private (no mapped file), MB", False, "{:.0f}"))
    ours, *peers = columns
    head = ["", ours.title] + [title for peer in peers for title in (peer.title, "ratio")]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for key, title, more_is_better, form in rows:
        own = ours.figures.get(key)
        cells = [title, "" if own is None else form.format(own)]
        for peer in peers:
            theirs = peer.figures.get(key)
            ratio = own and theirs and (own / theirs if more_is_better else theirs / own)
            cells += ["" if theirs is None else form.format(theirs), f"{ratio:.2f}" if ratio else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", type=Path, required=True, help="the release binary")
    parser.add_argument("--gguf", type=Path, required=True, help="the text model, for both programs")
    parser.add_argument("--mmproj", type=Path, help="the vision tower, for llama.cpp")
    parser.add_argument("--ocelli-model", type=Path, help="another model for Ocelli; the same file if left out")
    parser.add_argument("--adapter", help="Ocelli's device, as `ocelli devices` names it")
    parser.add_argument("--vulkan-device", help="llama.cpp's Vulkan device by number; needed for a software device")
    parser.add_argument("--vision-python", help="a Python that has requirements.txt; no pictures in llama.cpp without it")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompts", type=lambda text: [int(n) for n in text.split(",")], default=[128, 512])
    parser.add_argument("--new", type=int, default=16, help="tokens to decode")
    parser.add_argument("--long", type=int, default=0, help="a long context to decode at the end of, such as 4096")
    parser.add_argument("--image", default="448x448")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each size in llama.cpp; the best one counts")
    parser.add_argument("--limit", type=float, default=600, help="seconds for each program's run")
    parser.add_argument("--skip", action="append", default=[], choices=("vulkan", "cpu"), help="leave one out")
    args = parser.parse_args()
    args.context = -(-(max(*args.prompts, args.long) + args.new + 64) // 256) * 256
    columns = [ocelli(args)]
    columns += [llama_cpp(args, device) for device in ("vulkan", "cpu") if device not in args.skip]
    print(table(args, columns))
    print(f"\nContext {args.context}, {args.new} tokens decoded, {args.gguf.name}, {platform.machine()}, "
          f"{os.cpu_count()} cores. A ratio above 1 is in Ocelli's favour.\n")
    for column in columns:
        print(f"- {column.title}: " + "; ".join(column.notes))


if __name__ == "__main__":
    main()
