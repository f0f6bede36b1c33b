"""Makes everything under fixtures/, the same bytes each time.

    python make_fixtures.py                  everything
    python make_fixtures.py mono deep        only these checkpoints
"""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"


def wordings() -> dict:
    """{checkpoint: {case: number of the wording}}, found by search_variants.py."""
    path = HERE / "variants.json"
    return json.loads(path.read_text()) if path.exists() else {}


def make_checkpoint(name: str) -> None:
    import checkpoints
    import inside
    import record
    import text_oracle
    from cases import cases, prompt_only_cases

    spec = checkpoints.spec(name)
    folder = FIXTURES / name
    checkpoints.write(spec, folder / "model")
    shutil.rmtree(folder / "cases", ignore_errors=True)
    oracle = record.Oracle(spec, FIXTURES)
    chosen = wordings().get(name, {})
    for case, messages, options in cases(name, lambda c: chosen.get(c, 0), oracle.count_tokens):
        record.write_case(folder / "cases", case, *oracle.record(messages, options))
        print(f"{name}/{case}", flush=True)
    for case, messages, options in prompt_only_cases():
        story = oracle.prompt_record(messages, options, oracle.prompt(messages, options))
        record.write_case(folder / "cases", case, story, {})
    record.write_json(folder / "tokenizer_cases.json", text_oracle.tokenizer_cases(oracle))
    inside.write(oracle)


def main() -> None:
    import checkpoints
    import pictures
    import preprocess_oracle
    import record

    names = sys.argv[1:] or [s.name for s in checkpoints.SPECS]
    pictures.make(FIXTURES / "pictures")
    record.write_json(FIXTURES / "preprocess.json", preprocess_oracle.everything(FIXTURES))
    for name in names:
        make_checkpoint(name)


if __name__ == "__main__":
    main()
