"""Synthetic pictures: gradients, shapes, stripes and noise, from fixed seeds."""

import numpy as np
from PIL import Image, ImageDraw


def scene(width: int, height: int, seed: int, noise: float = 6.0) -> Image.Image:
    """A gradient with shapes; noise only in some bands, which keeps the PNG small and still tests the resize."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / max(width - 1, 1), y / max(height - 1, 1)
    corners = rng.integers(0, 256, (4, 3))
    pixels = sum(w[..., None] * c for w, c in zip(
        ((1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v), corners))
    picture = Image.fromarray((pixels // 8 * 8).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for k in range(9):
        cx, cy = rng.integers(0, width), rng.integers(0, height)
        r = int(rng.integers(max(2, min(width, height) // 12), max(3, min(width, height) // 4)))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        box = (int(cx) - r, int(cy) - r, int(cx) + r, int(cy) + r)
        if k % 3 == 0:
            draw.rectangle(box, fill=colour)
        elif k % 3 == 1:
            draw.ellipse(box, fill=colour)
        else:
            draw.line((box[0], box[1], box[2], box[3]), fill=colour, width=3)
    pixels = np.asarray(picture).astype(np.float64)
    if noise:
        noisy = ((y // max(height // 8, 1)) % 4 == 1) & ((x // max(width // 6, 1)) % 3 == 1)
        grain = rng.integers(-64, 65, (height, width, 3)) * noisy[..., None]
        stripes = 40 * ((x + y) % 2) * ((x // max(width // 5, 1)) % 5 == 4)
        pixels = np.clip(pixels + grain * noise / 6 + stripes[..., None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def save_png(picture: Image.Image, path) -> None:
    picture.save(path, format="PNG", optimize=True)


def make(folder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, width, height, seed in (("square", 448, 448, 11), ("wide", 700, 180, 12), ("tiny", 40, 30, 13),
                                      ("odd", 333, 517, 14), ("small", 150, 97, 15)):
        save_png(scene(width, height, seed), folder / f"{name}.png")
    for k in range(4):
        save_png(clip_frame(k), folder / f"clip_{k}.png")

    base = scene(64, 48, 21)
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None, :].repeat(48, 0)
    save_png(Image.fromarray(np.dstack([np.asarray(base), alpha])), folder / "mode_rgba.png")
    save_png(base.convert("L"), folder / "mode_grey.png")
    save_png(base.quantize(17, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE), folder / "mode_palette.png")
    y, x = np.mgrid[0:48, 0:64]
    save_png(Image.fromarray((x * 5 + y * 3).astype(np.uint16)), folder / "mode_grey16.png")  # 0...456: part saturates
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(80, 56, 22, noise=0).save(folder / "orientation_6.jpg", format="JPEG", quality=90, exif=exif)
    frames = [clip_frame(k).resize((80, 56), Image.Resampling.NEAREST).quantize(32, dither=Image.Dither.NONE)
              for k in range(4)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=500, loop=0,
                   optimize=False, disposal=1)


def clip_frame(k: int) -> Image.Image:
    """160x112: a ball that moves to the right over a fixed scene."""
    picture = scene(160, 112, 31)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8 + 36 * k, 30 + 9 * k, 40 + 36 * k, 62 + 9 * k), fill=(250, 240 - 50 * k, 20 + 60 * k))
    return picture
