#!/usr/bin/env bash
# Writes the list of everything in the program (SBOM, in the form of CycloneDX) to target/packages. Needs cargo-cyclonedx
# (`cargo install cargo-cyclonedx --locked`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
need_rust
command -v cargo-cyclonedx >/dev/null || fail "cargo-cyclonedx is missing: cargo install cargo-cyclonedx --locked"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory='*' log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
mkdir -p target/packages
# It writes beside Cargo.toml and nowhere else. All targets: one list for the packages of all systems.
cargo cyclonedx --format json --target all --override-filename sbom
mv sbom.json "target/packages/Ocelli-$version.cdx.json"
ls -l "target/packages/Ocelli-$version.cdx.json" >&2
