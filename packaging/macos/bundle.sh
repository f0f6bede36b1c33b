#!/usr/bin/env bash
# Makes Ocelli.app, for both kinds of Mac in one, and a disk image with it, in target/packages. To be run on a Mac, with Rust, the
# command line tools and python3:
#
#   packaging/macos/bundle.sh
#
# CODESIGN_IDENTITY="Developer ID Application: …" signs with that identity and the hardened runtime; without one the signature is
# ad hoc, and Gatekeeper asks before the first start of what was downloaded. NOTARY_PROFILE=NAME (of `notarytool store-credentials`)
# has the image notarised. UNIVERSAL=0 builds for this Mac alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. packaging/common.sh
[ "$(uname -s)" = Darwin ] || fail "This needs a Mac: lipo, codesign and hdiutil are there only."
need_rust

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# What Info.plist says, too.
export MACOSX_DEPLOYMENT_TARGET=11.0
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
out=$PWD/target/packages
folder=$PWD/target/packaging/macos
app=$folder/Ocelli.app
rm -rf "$folder"
mkdir -p "$out" "$app/Contents/MacOS" "$app/Contents/Resources"

if [ "${UNIVERSAL:-1}" = 1 ]; then
    machine=universal
    programs=
    for target in aarch64-apple-darwin x86_64-apple-darwin; do
        if command -v rustup >/dev/null; then rustup target add "$target"; fi
        packaging/release-build.sh --target "$target"
        programs="$programs target/release-packages/$target/release/ocelli"
    done
    # shellcheck disable=SC2086  # a list of words
    lipo -create -output "$app/Contents/MacOS/ocelli" $programs
    lipo -info "$app/Contents/MacOS/ocelli" >&2
else
    machine=$(uname -m)
    packaging/release-build.sh
    cp target/release-packages/release/ocelli "$app/Contents/MacOS/ocelli"
fi

sed "s/@VERSION@/$version/" packaging/macos/Info.plist >"$app/Contents/Info.plist"
plutil -lint "$app/Contents/Info.plist" packaging/macos/entitlements.plist >&2
printf 'APPL????' >"$app/Contents/PkgInfo"
python3 assets/make_icon.py "$app/Contents/Resources/Ocelli.icns"
cp LICENSE-MIT LICENSE-APACHE "$app/Contents/Resources"
gzip -dc assets/licences.txt.gz >"$app/Contents/Resources/Third-party licences.txt"
xattr -cr "$app"

identity=${CODESIGN_IDENTITY:--}
if [ "$identity" = - ]; then
    say "No CODESIGN_IDENTITY: signed ad hoc."
    codesign --force --sign - "$app"
else
    codesign --force --options runtime --timestamp --entitlements packaging/macos/entitlements.plist --sign "$identity" "$app"
fi
codesign --verify --strict --verbose=2 "$app"
"$app/Contents/MacOS/ocelli" --version >&2

# The image: the program, and a place to drag it to.
ln -s /Applications "$folder/Applications"
image=$out/Ocelli-$version-$machine.dmg
rm -f "$image"
hdiutil create -volname Ocelli -srcfolder "$folder" -fs HFS+ -format UDZO -imagekey zlib-level=9 "$image" >&2
if [ "$identity" != - ]; then
    codesign --timestamp --sign "$identity" "$image"
    if [ -n "${NOTARY_PROFILE:-}" ]; then
        xcrun notarytool submit "$image" --keychain-profile "$NOTARY_PROFILE" --wait
        xcrun stapler staple "$image"
    fi
fi
(cd "$out" && shasum -a 256 -- *.dmg >SHA256SUMS)
ls -l "$out" >&2
