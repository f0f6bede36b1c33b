#!/usr/bin/env bash
# Tries the packages in target/packages (packaging/package.sh makes them) where nothing else is installed: a Debian of its own,
# made with debootstrap. Installs the .deb there with what it depends on, asks a question, starts the window on a display without a
# screen and Mesa's software device, looks whether files open in it, and removes it again; then runs the AppImage in
# another such root. Pictures of the windows come to target/packages-test.
#
#   packaging/test-packages.sh [SUITE]     bookworm, if nothing is said
#
# Needs to be root, and debootstrap, Xvfb, python3. Fetches Debian's packages, about 150 MB; a root is kept in
# target/packaging/SUITE for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

suite=${1:-bookworm}
[ "$(id -u)" = 0 ] || fail "Making a root needs root."
for tool in debootstrap Xvfb python3; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install debootstrap xvfb python3"
done
deb=$(ls target/packages/ocelli_*_"$(dpkg --print-architecture)".deb)
appimage=$(ls target/packages/*.AppImage)
out=$PWD/target/packages-test
base=$PWD/target/packaging/$suite
rm -rf "$out"
mkdir -p "$out" target/packaging

root=
server=
window=
leave() {
    [ -z "$window" ] || kill -- "-$window" 2>/dev/null || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$root" ] || close_root
}
trap leave EXIT
trap 'exit 1' INT TERM

if [ ! -e "$base/etc/debian_version" ]; then
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    rm -rf "$base"
    debootstrap --variant=minbase "$suite" "$base.new" "${OCELLI_MIRROR:-${mirror:-http://deb.debian.org/debian}}" >"$out/debootstrap.log"
    mv "$base.new" "$base"
fi

# A fresh copy of the root, with a user in it.
open_root() {
    root=$(mktemp -d /var/tmp/ocelli-root.XXXXXX)
    chmod 755 "$root"
    cp -a --reflink=auto "$base/." "$root"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -t devpts devpts "$root/dev/pts"
    mkdir -p "$root/tmp/.X11-unix" "$root/run/user/1000"
    mount --bind /tmp/.X11-unix "$root/tmp/.X11-unix"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    chroot "$root" useradd --create-home --home-dir /srv/somebody --uid 1000 somebody
    chown 1000:1000 "$root/run/user/1000"
    cp assets/pictures/shapes.png "$root/srv/somebody/"
    echo '[{"role": "user", "content": "What is this?"}]' >"$root/srv/somebody/old.ocelli-chat"
    cp assets/comparisons/picture-sizes.toml "$root/srv/somebody/sizes.ocelli-compare"
}
close_root() {
    umount "$root/tmp/.X11-unix" "$root/dev/pts" "$root/dev" "$root/proc" || true
    # Nothing of the machine's own may be under it when it goes.
    if grep -q " $root/" /proc/mounts; then
        say "$root is still in use."
    else
        rm -rf "$root"
    fi
    root=
}
as_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
as_user() {
    chroot --userspec=1000:1000 "$root" env -i PATH=/usr/bin:/bin HOME=/srv/somebody XDG_RUNTIME_DIR=/run/user/1000 \
        DISPLAY=":$display" OCELLI_LOG=ocelli::app=debug "$@"
}
install() { as_root apt-get install -q -y --no-install-recommends "$@" >>"$out/apt.log" 2>&1; }
files() { (cd "$root" && find . -xdev -not -path './var/*' -not -path "./srv/*" -not -path './tmp/*' -not -path './run/*' | LC_ALL=C sort); }

# A display without a screen, whose picture is a file.
Xvfb -displayfd 3 -ac -fbdir "$out" -screen 0 1280x800x24 -nolisten tcp 3>"$out/display" 2>"$out/xvfb.log" &
server=$!
for _ in $(seq 100); do
    [ -s "$out/display" ] && break
    sleep 0.1
done
display=$(cat "$out/display")

picture() {
    python3 - "$out/Xvfb_screen0" "$1" <<'PYTHON'
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
size, _, _, _, width, height, _, order, _, _, _, bits, line = struct.unpack(">13I", data[:52])
colours = struct.unpack(">20I", data[:80])[19]
at = size + 12 * colours
assert bits == 32 and order == 0, (bits, order)
rows = []
for y in range(height):
    row = data[at + y * line : at + y * line + 4 * width]
    rows.append(b"\0" + bytes(b for x in range(0, len(row), 4) for b in (row[x + 2], row[x + 1], row[x])))
chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows), 6)) + chunk(b"IEND", b"")
open(sys.argv[2], "wb").write(png)
PYTHON
}

# What the window of the AppImage does to itself ($window is its process): it has the libraries of the AppImage open, and goes on to no
# program that it starts.
look_at_libraries() {
    local library
    for library in libxkbcommon.so.0 libxkbcommon-x11.so.0 libXcursor.so.1 libXi.so.6; do
        grep -q "/ocelli-appimage/.*/usr/lib/$library\$" "/proc/$window/maps" || fail "$library is not that of the AppImage."
    done
    if tr '\0' '\n' <"/proc/$window/environ" | grep -E '^(LD_LIBRARY_PATH|ARGV0)='; then
        fail "The AppImage leaves this to the programs it starts."
    fi
}

# Starts the window, waits until the model in it is ready, calls $look, takes a picture, closes it. $1: the picture's name.
look=true
try_window() {
    local name=$1 n
    shift
    : >"$out/$name.log"
    # In a session of its own, so that all of it can be ended.
    setsid chroot --userspec=1000:1000 "$root" env -i PATH=/usr/bin:/bin HOME=/srv/somebody \
        XDG_RUNTIME_DIR=/run/user/1000 DISPLAY=":$display" OCELLI_LOG=ocelli::app=debug "$@" 2>"$out/$name.log" &
    window=$!
    for n in $(seq 600); do
        grep -q "the model is ready" "$out/$name.log" && break
        kill -0 "$window" 2>/dev/null || fail "The window is gone: $(cat "$out/$name.log")"
        sleep 0.1
    done
    grep -q "the model is ready" "$out/$name.log" || fail "No model after a minute: $(cat "$out/$name.log")"
    sleep 2
    "$look"
    picture "$out/$name.png"
    kill -- "-$window"
    wait "$window" 2>/dev/null || true
    window=
    echo "  $name: $(sed -n 's/^.*window: \(first frame [0-9]* ms\).*$/\1/p' "$out/$name.log"), $(sed -n 's/^.*window: \(the model is ready [0-9]* ms\).*$/\1/p' "$out/$name.log")"
}

try_program() {
    as_user "$@" --version
    as_user "$@" devices
    as_user "$@" generate --greedy --image /srv/somebody/shapes.png "Describe the picture." 2>"$out/generate.log"
    as_user "$@" licences | head -n 1
}

# What the AppImage's start does with its cache.
try_cache() {
    local home=$root/srv/somebody cache=$root/srv/somebody/.cache/ocelli-appimage version
    version=$(ls "$cache")
    rm "$cache/$version/usr/lib/libXi.so.6"
    as_user mkdir "/srv/somebody/.cache/ocelli-appimage/$version.AbCdEf" /srv/somebody/.cache/ocelli-appimage/0123456789abcdef
    touch -d '8 days ago' "$cache/$version.AbCdEf" "$cache/0123456789abcdef"
    as_user /opt/ocelli.AppImage --version >/dev/null
    [ -e "$cache/$version/usr/lib/libXi.so.6" ] || fail "A file that was lost is not back."
    [ "$(ls "$cache")" = "$version" ] || fail "What is old stays in the cache: $(ls "$cache")"
    # As sudo may do it.
    rm -r "$home/.cache"
    as_root HOME=/srv/somebody /opt/ocelli.AppImage --version >/dev/null
    [ ! -e "$home/.cache" ] || fail "Root has left something in the user's cache."
    # And as it was once done.
    mkdir -p "$cache"
    as_user /opt/ocelli.AppImage --version >/dev/null
    [ -d "$root/var/tmp/ocelli-appimage-1000/$version" ] || fail "A cache that cannot be used is not replaced."
    echo "  cache: what was lost is back, what was old is gone, root's stays apart"
}

echo "sizes: $(cd target/packages && stat --format '%n %s' -- *.deb *.AppImage 2>/dev/null | tr '\n' ' ')"

echo "=== the .deb in a bare $suite"
open_root
as_root apt-get update -q >>"$out/apt.log"
install shared-mime-info desktop-file-utils libglib2.0-bin
# What the package says it needs, first: so that it is seen that it brings nothing else, and leaves nothing. Only the driver is
# another's matter.
# shellcheck disable=SC2046  # a list of words
install $(dpkg-deb --field "$deb" Depends | sed -e 's/([^)]*)//g' -e 's/,/ /g') mesa-vulkan-drivers
files >"$out/before"
cp "$deb" "$root/tmp/ocelli.deb"
install /tmp/ocelli.deb
rm "$root/tmp/ocelli.deb"
as_root dpkg-query --show --showformat '${Package} ${Version}, ${Installed-Size} KiB installed\n' ocelli
try_program ocelli
for n in 1 2 3; do try_window "deb-$n" ocelli; done
try_window deb-picture ocelli /srv/somebody/shapes.png
try_window deb-chat ocelli /srv/somebody/old.ocelli-chat
try_window deb-comparison ocelli /srv/somebody/sizes.ocelli-compare
# (Not grep -q, which would end before what it reads from has said all: that counts as a failure, now and then.)
for file in old.ocelli-chat:chat+json sizes.ocelli-compare:comparison+toml; do
    kind=application/vnd.ocelli.${file#*:}
    as_user gio info --attributes standard::content-type "/srv/somebody/${file%%:*}" | grep "$kind" >/dev/null ||
        fail "${file%%:*} is not known as $kind."
    as_user gio mime "$kind" | grep 'Default application.*org.ocelli.Ocelli.desktop' >/dev/null || fail "Nothing opens $kind."
    echo "  ${file%%:*} is $kind, and opens with Ocelli"
done
as_root apt-get purge -q -y ocelli >>"$out/apt.log" 2>&1
files >"$out/after"
# (The list of programs by type is another package's, which makes it when the first type comes.)
if left=$(diff "$out/before" "$out/after" | grep '^[<>]' | grep -v mimeinfo.cache); then
    fail "Removing it has changed: $left"
fi
echo "  removed: the $(wc -l <"$out/before") files and folders that were there before are there, and no other"
echo "  left to the user: $(cd "$root/srv/somebody" && find . -path '*ocelli*' -maxdepth 4 | tr '\n' ' ')"
close_root

echo "=== the AppImage in a bare $suite with what every desktop has"
open_root
as_root apt-get update -q >>"$out/apt.log"
install libvulkan1 mesa-vulkan-drivers libx11-6 libx11-xcb1 libxcb1 libwayland-client0 libgcc-s1 xkb-data
cp "$appimage" "$root/opt/ocelli.AppImage"
try_program /opt/ocelli.AppImage
look=look_at_libraries
for n in 1 2 3; do try_window "appimage-$n" /opt/ocelli.AppImage; done
try_window appimage-picture /opt/ocelli.AppImage /srv/somebody/shapes.png
try_cache
close_root
echo "=== all fine, $SECONDS s; pictures of the windows: $out"
