#!/usr/bin/env bash
# Writes the list of everything in the program (SBOM, in the form of CycloneDX) to target/packages. Needs cargo-cyclonedx
# (`cargo install cargo-cyclonedx --locked`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
need_rust
command -v cargo-cyclonedx >/dev/null || fail "cargo-cyclonedx is missing: cargo install cargo-cyclonedx --locked"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
mkdir -p target/packages
# It writes beside Cargo.toml and nowhere else. All targets: one list for the packages of all systems.
cargo cyclonedx --format json --spec-version 1.5 --target all --override-filename sbom
# This folder's name is nobody's concern.
sed "s|path+file://$PWD#|path+file:///ocelli#|g" sbom.json >"target/packages/Ocelli-$version.cdx.json"
rm sbom.json
ls -l "target/packages/Ocelli-$version.cdx.json" >&2
