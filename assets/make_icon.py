#!/usr/bin/env python3
"""Draws the program's icon: one simple eye (an ocellus) on a rounded tile. Without arguments it writes icon.svg, icon.png and
icon.ico beside itself, from the same figures. For packages it draws it in other sizes and wrappings:

    make_icon.py FILE.png PIXELS
    make_icon.py FILE.icns

Needs nothing but Python's standard library."""

import math
import pathlib
import struct
import sys
import zlib

SIDE = 256
# Discs from the back to the front: centre x, centre y, radius, colour.
TILE = (20, 44, 58)
TILE_RADIUS = 56
DISCS = [
    (128, 128, 92, (236, 199, 96)),
    (128, 128, 74, (178, 84, 44)),
    (128, 128, 58, (30, 128, 132)),
    (128, 128, 34, (12, 20, 28)),
    (108, 106, 14, (250, 246, 232)),
]
# Sizes in a Windows icon, pixels.
ICO_SIDES = (16, 24, 32, 48, 64, 256)
# Sizes in a macOS icon, pixels, by the names of their chunks. (The chunks for 16 and 32 points at one pixel each are read as
# something else than PNG by some systems; those make do with the larger ones.)
ICNS_SIDES = {
    b"ic11": 32,
    b"ic12": 64,
    b"ic07": 128,
    b"ic13": 256,
    b"ic08": 256,
    b"ic14": 512,
    b"ic09": 512,
    b"ic10": 1024,
}
# On macOS a tile leaves a margin: this share of the side is the tile.
MACOS_TILE = 824 / 1024


def tile_coverage(x: float, y: float, scale: float) -> float:
    half = SIDE / 2
    inner = half - TILE_RADIUS
    dx, dy = max(abs(x - half) - inner, 0.0), max(abs(y - half) - inner, 0.0)
    return min(max((TILE_RADIUS - math.hypot(dx, dy)) * scale + 0.5, 0.0), 1.0)


def pixel(x: float, y: float, scale: float) -> bytes:
    """A pixel at this place of the drawing; `scale`: pixels for each of its units."""
    colour = [float(c) for c in TILE]
    for cx, cy, radius, over in DISCS:
        share = min(max((radius - math.hypot(x - cx, y - cy)) * scale + 0.5, 0.0), 1.0)
        colour = [c + (o - c) * share for c, o in zip(colour, over)]
    return bytes([*(round(c) for c in colour), round(255 * tile_coverage(x, y, scale))])


def png(side: int = SIDE, tile: float = 1.0) -> bytes:
    scale = side * tile / SIDE
    place = lambda at: (at + 0.5 - side * (1 - tile) / 2) / scale
    rows = b"".join(b"\0" + b"".join(pixel(place(col), place(row), scale) for col in range(side)) for row in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def ico() -> bytes:
    """A Windows icon of PNG pictures (Windows Vista and newer read them in all sizes)."""
    pictures = [png(side) for side in ICO_SIDES]
    at = 6 + 16 * len(pictures)
    head = struct.pack("<HHH", 0, 1, len(pictures))
    for side, picture in zip(ICO_SIDES, pictures):
        # A side of 256 is written as 0.
        head += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, 1, 32, len(picture), at)
        at += len(picture)
    return head + b"".join(pictures)


def icns() -> bytes:
    pictures = {side: png(side, MACOS_TILE) for side in set(ICNS_SIDES.values())}
    chunks = b"".join(
        kind + struct.pack(">I", 8 + len(pictures[side])) + pictures[side] for kind, side in ICNS_SIDES.items()
    )
    return b"icns" + struct.pack(">I", 8 + len(chunks)) + chunks


def svg() -> str:
    def rgb(colour: tuple) -> str:
        return "#%02x%02x%02x" % colour

    discs = "".join(f'  <circle cx="{x}" cy="{y}" r="{r}" fill="{rgb(c)}"/>\n' for x, y, r, c in DISCS)
    tile = f'  <rect width="{SIDE}" height="{SIDE}" rx="{TILE_RADIUS}" fill="{rgb(TILE)}"/>\n'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}">\n{tile}{discs}</svg>\n'


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    match sys.argv[1:]:
        case []:
            (here / "icon.svg").write_text(svg())
            (here / "icon.png").write_bytes(png())
            (here / "icon.ico").write_bytes(ico())
        case [file, side] if file.endswith(".png"):
            pathlib.Path(file).write_bytes(png(int(side)))
        case [file] if file.endswith(".icns"):
            pathlib.Path(file).write_bytes(icns())
        case _:
            raise SystemExit(__doc__)
