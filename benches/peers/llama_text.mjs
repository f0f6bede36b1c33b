// The text half of llama.cpp, by the ready-made binaries that come with node-llama-cpp: prefill and decoding, nothing else.
// Prints one JSON object a line as soon as it knows something, so that a run cut short has still told what it measured.
//
//     node llama_text.mjs --model FILE --device vulkan|cpu [--threads 2] [--context 1024] [--short 8] [--prompts 128,512]
//                         [--new 16] [--long 0] [--repeats 2]

import fs from "node:fs";
import {parseArgs} from "node:util";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const {values: args} = parseArgs({
    options: {
        model: {type: "string"},
        device: {type: "string"},
        threads: {type: "string", default: "2"},
        context: {type: "string", default: "1024"},
        short: {type: "string", default: "8"},
        prompts: {type: "string", default: "128,512"},
        new: {type: "string", default: "16"},
        long: {type: "string", default: "0"},
        repeats: {type: "string", default: "2"},
    },
});
const threads = Number(args.threads);
const newTokens = Number(args.new);
const repeats = Number(args.repeats);
const tell = (object) => console.log(JSON.stringify(object));

// What tells whether the device was used, and for what.
const TELLING = /ggml_vulkan: \d|loaded .* backend|offloaded|buffer size|splits/;
const seen = new Set();
function log(_level, message) {
    for (const line of message.split("\n")) {
        const text = line.trim().replace(/from .*\/(?=[^/]*$)/, "from ");
        if (TELLING.test(text) && !seen.has(text)) {
            seen.add(text);
            tell({log: text});
        }
    }
}

// Never builds and never downloads: what is measured is what the package's version pins.
const llama = await getLlama({
    gpu: args.device === "vulkan" ? "vulkan" : false,
    build: "never",
    skipDownload: true,
    maxThreads: threads,
    logLevel: LlamaLogLevel.debug,
    logger: log,
});
const version = JSON.parse(fs.readFileSync(new URL("../package.json", import.meta.resolve("node-llama-cpp")))).version;
tell({
    version: `llama.cpp ${llama.llamaCppRelease.release} (node-llama-cpp ${version})`,
    device: (await llama.getGpuDeviceNames()).join(", ") || "CPU",
    system: llama.systemInfo.trim(),
});

const start = performance.now();
const model = await llama.loadModel({
    modelPath: args.model,
    gpuLayers: args.device === "vulkan" ? "max" : 0,
    ignoreMemorySafetyChecks: true,
});
tell({load_s: (performance.now() - start) / 1e3, layers_on_gpu: model.gpuLayers});
const context = await model.createContext({
    contextSize: Number(args.context),
    batchSize: 512,
    threads,
    flashAttention: "auto",
    ignoreMemorySafetyChecks: true,
});
const sequence = context.getSequence();

// Speed does not depend on which tokens these are; the first 256 and the special ones are left out.
const random = (count) => Array.from({length: count}, () => 256 + Math.floor(Math.random() * 150_000));

/** Seconds of a prompt. */
async function prefill(count) {
    await sequence.clearHistory();
    const tokens = random(count);
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    return (performance.now() - start) / 1e3;
}

/** Seconds a token after what was prefilled; the first step is not counted. */
async function decode() {
    let start = 0;
    let count = -1;
    for await (const _ of sequence.evaluate(random(1), {temperature: 0, yieldEogToken: true})) {
        count += 1;
        if (count === 0) start = performance.now();
        if (count === newTokens) break;
    }
    if (count < newTokens) throw new Error(`the answer ended after ${count} tokens`);
    return (performance.now() - start) / 1e3 / newTokens;
}

// The first run of a size makes its kernels; a later one counts if it is better. Decoding comes first: the kernels of a short
// prompt are the quickest to make, and a slow device may get no further.
const short = Number(args.short);
let token = Infinity;
for (let run = 1; run <= repeats; run++) {
    await prefill(short);
    token = Math.min(token, await decode());
    tell({decode: short, tok_s: 1 / token, runs: run});
}
for (const count of args.prompts.split(",").map(Number)) {
    let prompt = Infinity;
    for (let run = 1; run <= repeats; run++) {
        prompt = Math.min(prompt, await prefill(count));
        tell({prefill: count, tok_s: count / prompt, runs: run});
    }
}
const long = Number(args.long);
if (long > 0) {
    tell({prefill: long, tok_s: long / (await prefill(long)), runs: 1});
    tell({decode: long, tok_s: 1 / (await decode()), runs: 1});
}
process.exit(0);
