#!/usr/bin/env python3
"""Draws the program's icon: one simple eye (an ocellus) on a rounded tile. Writes icon.svg and icon.png
beside itself, from the same figures; needs nothing but Python's standard library."""

import math
import pathlib
import struct
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


def tile_coverage(x: float, y: float) -> float:
    half = SIDE / 2
    inner = half - TILE_RADIUS
    dx, dy = max(abs(x - half) - inner, 0.0), max(abs(y - half) - inner, 0.0)
    return min(max(TILE_RADIUS - math.hypot(dx, dy) + 0.5, 0.0), 1.0)


def pixel(col: int, row: int) -> bytes:
    x, y = col + 0.5, row + 0.5
    colour = [float(c) for c in TILE]
    for cx, cy, radius, over in DISCS:
        share = min(max(radius - math.hypot(x - cx, y - cy) + 0.5, 0.0), 1.0)
        colour = [c + (o - c) * share for c, o in zip(colour, over)]
    return bytes([*(round(c) for c in colour), round(255 * tile_coverage(x, y))])


def png() -> bytes:
    rows = b"".join(b"\0" + b"".join(pixel(col, row) for col in range(SIDE)) for row in range(SIDE))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def svg() -> str:
    def rgb(colour: tuple) -> str:
        return "#%02x%02x%02x" % colour

    discs = "".join(f'  <circle cx="{x}" cy="{y}" r="{r}" fill="{rgb(c)}"/>\n' for x, y, r, c in DISCS)
    tile = f'  <rect width="{SIDE}" height="{SIDE}" rx="{TILE_RADIUS}" fill="{rgb(TILE)}"/>\n'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}">\n{tile}{discs}</svg>\n'


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    (here / "icon.svg").write_text(svg())
    (here / "icon.png").write_bytes(png())
