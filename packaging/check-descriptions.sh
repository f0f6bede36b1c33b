#!/usr/bin/env bash
# Checks the files that describe the program to systems and stores, as far as any system can: the desktop entry, the AppStream
# metadata, the file types, macOS's property lists, Windows' manifest and installer, Flatpak's manifest, the workflows' syntax.
# What a tool for it is missing for is said and left out. Exit status 0 if nothing is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

# Runs a check if its program is there. $1: of what
check() {
    local what=$1
    shift
    if command -v "$1" >/dev/null; then
        "$@" >&2 || fail "$what: wrong"
        say "$what: fine"
    else
        say "$what: not checked, there is no $1"
    fi
}

id=org.ocelli.Ocelli
check "desktop entry" desktop-file-validate packaging/linux/$id.desktop
check "AppStream metadata" appstreamcli validate --no-net packaging/linux/$id.metainfo.xml
check "workflows" actionlint
check "everything by its syntax" python3 - <<'PYTHON'
import json, pathlib, plistlib, re, struct, xml.dom.minidom

for file in ["linux/org.ocelli.Ocelli.metainfo.xml", "linux/org.ocelli.Ocelli.mime.xml", "windows/ocelli.manifest", "windows/ocelli.wxs"]:
    xml.dom.minidom.parse(f"packaging/{file}")
info = plistlib.loads(pathlib.Path("packaging/macos/Info.plist").read_bytes())
plistlib.loads(pathlib.Path("packaging/macos/entitlements.plist").read_bytes())
# Every type of a document is one that macOS has, or declared here.
declared = {t["UTTypeIdentifier"] for key in ("UTExportedTypeDeclarations", "UTImportedTypeDeclarations") for t in info[key]}
for kind in info["CFBundleDocumentTypes"]:
    for name in kind["LSItemContentTypes"]:
        assert name in declared or not name.startswith("org.ocelli."), name
assert re.fullmatch(r"@VERSION@", info["CFBundleVersion"])
# The version is said once more in places that cannot be filled in.
version = re.search(r'^version = "(.*)"$', pathlib.Path("Cargo.toml").read_text(), re.M)[1]
manifest = pathlib.Path("packaging/windows/ocelli.manifest").read_text()
assert f'name="Ocelli" version="{version}.0"' in manifest, "the manifest's version"
assert f'<release version="{version}"' in pathlib.Path("packaging/linux/org.ocelli.Ocelli.metainfo.xml").read_text(), "no such release"
# Endings are the same everywhere.
source = pathlib.Path("src/app/sorting.rs").read_text()
for ending in ("ocelli-chat", "ocelli-compare"):
    assert f'"{ending}"' in source, ending
    for file in ["linux/org.ocelli.Ocelli.mime.xml", "macos/Info.plist", "windows/ocelli.wxs"]:
        assert ending in pathlib.Path(f"packaging/{file}").read_text(), (ending, file)
assert struct.unpack("<HHH", pathlib.Path("assets/icon.ico").read_bytes()[:6]) == (0, 1, 6), "icon.ico"
try:
    import yaml
except ImportError:
    print("(no PyYAML: Flatpak's manifest and the workflows are not read)")
else:
    for file in [*pathlib.Path(".github/workflows").glob("*.yml"), pathlib.Path("packaging/flatpak/org.ocelli.Ocelli.yaml")]:
        yaml.safe_load(file.read_text())
PYTHON
