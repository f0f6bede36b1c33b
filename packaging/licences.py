#!/usr/bin/env python3
"""Gathers the notices and licence texts of everything that is in the program, on every system it is packaged for, into
assets/licences.txt.gz. To be run after Cargo.lock has changed; packaging/check-licences.sh says when. Needs cargo, with the
crates' sources fetched (`cargo fetch --locked`), and Python's standard library. The same crates give the same bytes."""

import gzip
import io
import json
import pathlib
import re
import subprocess
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "assets" / "licences.txt.gz"
# Longest line; longer ones are broken at spaces.
WIDTH = 118
NAMES = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Texts that lie elsewhere in a crate.
MORE = {"epaint_default_fonts": ["fonts/*.txt"], "enum-map": ["LICENSES/MIT.txt", "LICENSES/Apache-2.0.txt"]}
# In the program, and no crates.
OTHERS = [
    (
        "Rust standard library",
        "MIT OR Apache-2.0",
        "Copyright The Rust Project Contributors. The texts of both licences are below.",
    ),
    (
        "SQLite",
        "public domain",
        "Its authors have dedicated it to the public domain: https://www.sqlite.org/copyright.html",
    ),
    (
        "Syntax definitions and themes in syntect",
        "MIT and similar",
        "From Sublime Text's Packages (\"Permission to copy, use, modify, sell and distribute this software is granted. This "
        "software is provided 'as is' without express or implied warranty, and with no claim as to its suitability for any "
        "purpose.\") and from the projects Solarized, base16 and Spacegray (MIT).",
    ),
]


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def shipped() -> list[str]:
    """"name version" of every crate in the program, as packaging/check-licences.sh lists them."""
    return run(str(ROOT / "packaging" / "check-licences.sh"), "--shipped").splitlines()


def texts_of(package: dict) -> list[str]:
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and NAMES.match(file.name)]
    if package["license_file"]:
        files.append(folder / package["license_file"])
    for pattern in MORE.get(package["name"], []):
        files += sorted(folder.glob(pattern))
    # Rust files are called so when they check licences.
    files = [file for file in dict.fromkeys(files) if file.suffix not in (".rs", ".html", ".toml")]
    # Of a choice the permissive licence is taken (deny.toml allows no other).
    files = [file for file in files if "GPL" not in file.name.upper()]
    return [file.read_text(errors="replace") for file in files]


def tidy(text: str) -> str:
    """The text with its lines broken where they are too long, and nothing else changed but blanks."""
    lines = []
    for line in text.replace("\r\n", "\n").replace("\f", "\n").expandtabs().split("\n"):
        line = line.rstrip()
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent) if len(line) > WIDTH else [line]
    return "\n".join(lines).strip("\n")


def holders(package: dict) -> str:
    names = [re.sub(r"\s*<[^>]*>", "", name) for name in package["authors"]]
    return ", ".join(name for name in names if name) or f"the authors of {package['name']}"


def main() -> None:
    metadata = json.loads(run("cargo", "metadata", "--locked", "--offline", "--format-version", "1"))
    packages = {f"{p['name']} {p['version']}": p for p in metadata["packages"]}
    crates = shipped()
    # A text, less its blanks: how it is written, and who is under it.
    texts: dict[str, tuple[str, list[str]]] = {}
    without: list[str] = []

    def add(text: str, whose: str) -> None:
        key = " ".join(text.split())
        if key:
            texts.setdefault(key, (tidy(text), []))[1].append(whose)

    for crate in crates:
        package = packages[crate]
        found = texts_of(package)
        if not found:
            without.append(crate)
        for text in found:
            add(text, crate)
    apache = (ROOT / "LICENSE-APACHE").read_text()
    mit = (ROOT / "LICENSE-MIT").read_text()
    permission = mit[mit.index("Permission is hereby granted") :]
    # A crate that carries no text says its licence by name; the text is the same for all of them.
    add(apache, "Rust standard library")
    add(permission, "Rust standard library")
    for crate in without:
        name = packages[crate]["license"]
        if "MIT" in name:
            add(permission, crate)
        if "Apache-2.0" in name:
            add(apache, crate)
        if not ("MIT" in name or "Apache-2.0" in name):
            standard = [t for t in texts.values() if t[0].startswith("Boost Software License") and name == "BSL-1.0"]
            if not standard:
                raise SystemExit(f"{crate} carries no text of {name}, and there is none here")
            standard[0][1].append(crate)

    out = io.StringIO()
    say = lambda text="": out.write(text + "\n")
    say("In this program, with the licence each states. Of a choice, the permissive one is taken. The sources of all crates are,")
    say("unchanged, on crates.io under their names.")
    say()
    for name, licence, words in OTHERS:
        say(f"  {name} — {licence}")
        for line in textwrap.wrap(words, WIDTH - 4):
            say(f"    {line}")
    for crate in crates:
        package = packages[crate]
        licence = package["license"] or "see below"
        note = f" — Copyright {holders(package)}" if crate in without else ""
        say(f"  {crate} — {licence}{note}")
    for text, whose in texts.values():
        say()
        say("=" * WIDTH)
        for line in textwrap.wrap("Of " + ", ".join(dict.fromkeys(whose)) + ":", WIDTH):
            say(line)
        say()
        say(text)
    OUT.write_bytes(gzip.compress(out.getvalue().encode(), 9, mtime=0))
    print(f"{OUT.relative_to(ROOT)}: {len(crates)} crates, {len(texts)} texts, {len(without)} crates without one of their own,")
    print(f"{len(out.getvalue().encode())} bytes, packed {OUT.stat().st_size}")


if __name__ == "__main__":
    main()
