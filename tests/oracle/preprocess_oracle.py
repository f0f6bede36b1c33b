"""Sizes, resized pixels, clip timestamps and frame sampling, as the processor of transformers gives them."""

import hashlib
import math

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import load_image, load_image_as_tensor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as image_resize
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as video_resize
from transformers.video_utils import VideoMetadata

from record import digest

HUB, HUB_VIDEO = (65536, 16777216), (4096, 25165824)
SIZES = [  # height, width, min, max
    (448, 448, *HUB), (180, 700, *HUB), (30, 40, *HUB), (517, 333, *HUB), (48, 80, 1024, 1 << 24), (80, 48, 1024, 1 << 24),
    (272, 272, *HUB), (272, 240, 4096, 1 << 24), (304, 336, *HUB), (16, 16, 1024, 4096), (15, 17, *HUB), (1, 1, *HUB), (1, 200, *HUB),
    (200, 1, 1024, 1 << 20), (1, 201, *HUB), (2010, 10, *HUB), (4000, 6000, *HUB), (1080, 1920, 65536, 1048576),
    (3000, 17, 1024, 65536), (5000, 40, 4096, 131072), (97, 150, 4096, 1 << 20), (10000, 10000, 65536, 262144),
    (256, 256, *HUB), (255, 255, *HUB), (241, 271, *HUB), (768, 1024, 65536, 786432), (4096, 4096, *HUB), (4112, 4112, *HUB),
]
VIDEO_SIZES = [  # frames, height, width, min, max
    (4, 112, 160, *HUB_VIDEO), (5, 112, 160, *HUB_VIDEO), (3, 112, 160, *HUB_VIDEO), (2, 20, 31, *HUB_VIDEO), (1, 64, 64, *HUB_VIDEO),
    (768, 480, 640, *HUB_VIDEO), (120, 1080, 1920, *HUB_VIDEO), (4, 30, 7000, *HUB_VIDEO), (6, 17, 33, *HUB_VIDEO), (2, 32, 32, *HUB_VIDEO),
    (7, 240, 272, 4096, 131072), (9, 48, 80, 65536, 1 << 24), (2, 1, 1, *HUB_VIDEO),
]
LIMITS = [HUB, (4096, 65536), (250000, 1 << 20)]
EXACT = ["square", "wide", "tiny", "odd", "small", "mode_rgba", "mode_grey", "mode_palette", "mode_grey16"]
TIMES = [  # frame indices, frames a second
    ([0, 1, 2, 3], 2.0), ([0, 1, 2, 3], 4.0), ([0, 1, 2, 3, 4], 2.0), ([0, 12, 24, 36, 48], 24), ([0, 1], 2), ([0, 3, 5, 6], 4),
    ([0, 1, 4, 6], 4), ([0, 15, 30, 45], 29.97), ([7], 10), ([0, 30, 60, 90, 120, 150], 30), ([0, 1, 2, 3, 4, 5], 0.5), ([5, 6, 11, 12], 10),
]
SAMPLES = [(100, 25.0), (100, 30.0), (3, 30.0), (4, 30.0), (9, 1.0), (250, 29.97), (7200, 24.0), (2, 10.0), (48, 24.0), (61, 12.0),
           (100000, 30.0), (14, 7.0)]


def attempt(function, *args, **kwargs) -> dict:
    try:
        return {"result": list(function(*args, **kwargs))}
    except ValueError as error:
        return {"error": str(error)}


def sha(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def image_processor(low: int, high: int) -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(size={"shortest_edge": low, "longest_edge": high}, patch_size=16,
                                 image_mean=[0.5] * 3, image_std=[0.5] * 3)


def unpatch(pixels: torch.Tensor, grid) -> np.ndarray:
    """Rows of pixel_values back to u8 frames [2t, H, W, 3]."""
    t, h, w = (int(g) for g in grid)
    blocks = pixels.reshape(t, h // 2, w // 2, 2, 2, 3, 2, 16, 16).permute(0, 6, 1, 3, 7, 2, 4, 8, 5)
    return (blocks.reshape(2 * t, h * 16, w * 16, 3) * 127.5 + 127.5).round().to(torch.uint8).numpy()


def axis(n_in: int, n_out: int):
    """For each output sample its first input and its integer weights; and their precision."""
    scale = n_in / n_out
    f = max(scale, 1.0)
    support, rows, a = 2 * f, [], -0.5
    for i in range(n_out):
        centre = scale * (i + 0.5)
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), n_in)
        kernel = []
        for x in range(low, high):
            t = abs((x - centre + 0.5) / f)
            kernel.append(((a + 2) * t - (a + 3)) * t * t + 1 if t < 1 else
                          (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0)
        total = sum(kernel)
        rows.append((low, [k / total for k in kernel]))
    largest, precision = max(max(k) for _, k in rows), 0
    while precision < 22 and int(0.5 + largest * 2 ** (precision + 1)) < 1 << 15:
        precision += 1
    return [(low, [int(k * 2**precision + math.copysign(0.5, k)) for k in kernel]) for low, kernel in rows], precision


def one_pass(pixels: np.ndarray, n_out: int) -> np.ndarray:
    """Resizes axis 0 of u8 pixels, in integers."""
    if pixels.shape[0] == n_out:
        return pixels
    rows, precision = axis(pixels.shape[0], n_out)
    out = np.empty((n_out, *pixels.shape[1:]), np.uint8)
    for i, (low, kernel) in enumerate(rows):
        total = np.tensordot(np.array(kernel, np.int64), pixels[low:low + len(kernel)].astype(np.int64), 1)
        out[i] = np.clip((total + (1 << (precision - 1))) >> precision, 0, 255)
    return out


def by_hand(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The integer recipe: across first, then down, u8 in between."""
    across = one_pass(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    return one_pass(across, height)


def read(path) -> torch.Tensor:
    """A picture as the processor reads it from a path. Only 16-bit PNG takes the way of load_image (Pillow), which
    saturates: torchvision 0.24 hands over 16-bit values, and the processor then makes numbers far outside [-1, 1]."""
    pixels = load_image_as_tensor(str(path))
    if pixels.dtype != torch.uint8:
        pixels = torch.from_numpy(np.array(load_image(str(path)))).permute(2, 0, 1)
    return pixels


def pictures(fixtures) -> list[dict]:
    out = []
    for name in EXACT:
        path = f"pictures/{name}.png"
        for low, high in LIMITS:
            processor = image_processor(low, high)
            pixels = read(fixtures / path)
            got = processor(images=[pixels], return_tensors="pt")
            grid = got["image_grid_thw"][0].tolist()
            frames = unpatch(got["pixel_values"], grid)
            source = pixels.permute(1, 2, 0).numpy()
            assert np.array_equal(frames[0], frames[1])
            assert np.array_equal(frames[0], by_hand(source, *frames.shape[1:3])), (name, "the integer recipe differs")
            out.append({"picture": path, "size_hw": list(source.shape[:2]), "rgb_sha256": sha(source),
                        "min_pixels": low, "max_pixels": high, "resized_hw": list(frames.shape[1:3]), "grid_thw": grid,
                        "resized_rgb_sha256": sha(frames[0]), "pixel_values_sha256": digest(got["pixel_values"])})
    return out


def video_processor(low: int, high: int) -> Qwen3VLVideoProcessor:
    return Qwen3VLVideoProcessor(size={"shortest_edge": low, "longest_edge": high}, image_mean=[0.5] * 3, image_std=[0.5] * 3,
                                 cap_pixels_per_frame=False)


def clips(fixtures) -> list[dict]:
    out = []
    for count, (low, high) in ((4, HUB_VIDEO), (3, HUB_VIDEO), (2, (65536, 1 << 22)), (4, (4096, 32768))):
        paths = [f"pictures/clip_{k}.png" for k in range(count)]
        stack = torch.stack([read(fixtures / p) for p in paths])
        got = video_processor(low, high)(videos=[stack], do_sample_frames=False, return_tensors="pt", video_metadata=[
            {"fps": 2.0, "total_num_frames": count, "frames_indices": list(range(count))}])
        grid = got["video_grid_thw"][0].tolist()
        frames = unpatch(got["pixel_values_videos"], grid)
        for k, frame in enumerate(frames):
            source = stack[min(k, count - 1)].permute(1, 2, 0).numpy()
            assert np.array_equal(frame, by_hand(source, *frames.shape[1:3])), "the integer recipe differs (clip)"
        out.append({"frames": paths, "min_pixels": low, "max_pixels": high, "resized_hw": list(frames.shape[1:3]),
                    "grid_thw": grid, "resized_rgb_sha256": [sha(f) for f in frames],
                    "pixel_values_videos_sha256": digest(got["pixel_values_videos"])})
    return out


def files(fixtures) -> dict:
    """What is read from the files whose exact pixels, or frames, need a word."""
    turned = read(fixtures / "pictures/orientation_6.jpg")
    animated = []
    with Image.open(fixtures / "pictures/animated.gif") as picture:
        for k in range(picture.n_frames):
            picture.seek(k)
            animated.append({"rgb_sha256": sha(np.asarray(picture.convert("RGB"))), "duration_ms": picture.info["duration"]})
        size = [picture.height, picture.width]
    return {"orientation_6": {"picture": "pictures/orientation_6.jpg", "size_hw": list(turned.shape[-2:])},
            "animated": {"picture": "pictures/animated.gif", "size_hw": size, "frames": animated}}


def timestamps() -> list[dict]:
    calculate = Qwen3VLProcessor._calculate_timestamps
    return [{"indices": indices, "fps": fps, "text": [f"<{t:.1f} seconds>" for t in calculate(None, list(indices), fps)]}
            for indices, fps in TIMES]


def samples() -> list[dict]:
    processor, out = video_processor(*HUB_VIDEO), []
    for total, fps in SAMPLES:
        indices = processor.sample_frames(VideoMetadata(total_num_frames=total, fps=fps), fps=2).tolist()
        out.append({"total_frames": total, "fps": fps, "count": len(indices),
                    "indices": indices if len(indices) < 100 else indices[:20] + indices[-20:]})
    return out


def everything(fixtures) -> dict:
    return {
        "smart_resize": [{"height": h, "width": w, "min_pixels": low, "max_pixels": high}
                         | attempt(image_resize, h, w, factor=32, min_pixels=low, max_pixels=high)
                         for h, w, low, high in SIZES],
        "video_smart_resize": [{"frames": n, "height": h, "width": w, "min_pixels": low, "max_pixels": high}
                               | attempt(video_resize, n, h, w, temporal_factor=2, factor=32, min_pixels=low, max_pixels=high)
                               for n, h, w, low, high in VIDEO_SIZES],
        "pictures": pictures(fixtures), "clips": clips(fixtures), "files": files(fixtures),
        "timestamps": timestamps(), "frame_sampling": samples(),
    }
