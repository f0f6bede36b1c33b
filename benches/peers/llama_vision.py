"""The vision half of llama.cpp, by the ready-made libraries that come with cyllama: one picture through the tower, twice, since
the first time makes the kernels. Prints one JSON object a line as soon as it knows something.

    python llama_vision.py --model FILE --mmproj FILE --device vulkan|cpu [--threads 2] [--image 448x448] [--repeats 2]
"""

import argparse
import json
import os
import re
import time
from importlib.metadata import version

from cyllama.llama import llama_cpp as llama

# What tells whether the device was used.
TELLING = re.compile(r"ggml_vulkan: \d|loaded .* backend|CLIP using|compute buffer size|flash attention")
IMAGE = 1


def tell(**values) -> None:
    print(json.dumps(values), flush=True)


def log(_level: int, text: str) -> None:
    if TELLING.search(text):
        tell(log=re.sub(r"from .*/(?=[^/]*$)", "from ", text.strip()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mmproj", required=True)
    parser.add_argument("--device", choices=("vulkan", "cpu"), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--image", default="448x448")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    width, height = map(int, args.image.split("x"))

    llama.set_log_callback(log)
    llama.ggml_backend_load_all()
    llama.llama_backend_init()
    package = f"cyllama-vulkan {version('cyllama-vulkan')}"
    tell(version=f"ggml {llama.ggml_version()} {llama.ggml_commit()} ({package})")
    # The tower wants a text model beside it. It stays in the mapped file, on the CPU.
    params = llama.LlamaModelParams()
    params.n_gpu_layers = 0
    model = llama.LlamaModel(args.model, params)
    # Flash attention -1: where the device can. The warm-up would take the largest picture there is.
    options = llama.MtmdContextParams(
        use_gpu=args.device == "vulkan", n_threads=args.threads, flash_attn_type=-1, warmup=False
    )
    tower = llama.MtmdContext(args.mmproj, model, options)
    best = float("inf")
    for run in range(args.repeats):
        picture = llama.MtmdBitmap.create_image(width, height, os.urandom(width * height * 3))
        chunks = tower.tokenize(llama.get_default_media_marker(), [picture], False, True)
        for chunk in (chunks[n] for n in range(len(chunks))):
            if int(chunk.type) != IMAGE:
                continue
            start = time.perf_counter()
            if tower.encode_chunk(chunk) != 0:
                raise SystemExit("the picture could not be encoded")
            best = min(best, time.perf_counter() - start)
            tell(vision=args.image, seconds=best, tokens=chunk.n_tokens, runs=run + 1)


if __name__ == "__main__":
    main()
