#!/usr/bin/env bash
# Makes the packages for Linux: a .deb and an AppImage. They go to target/packages, with their checksums in SHA256SUMS. Fetches
# nothing but what cargo has to.
#
#   packaging/package.sh [--program FILE] [deb] [appimage] | --needs
#     --program FILE   package this program instead of building one
#     deb, appimage    only these; both by default
#
# Needs Rust, python3 (draws the icons), dpkg-deb and binutils; for the AppImage also the window's libraries, patchelf, mksquashfs, and a
# C compiler with libsquashfuse and libzstd: it begins with a program of our own (linux/appimage.c). APPIMAGE_RUNTIME=FILE takes
# another, such as the AppImage project's. --needs prints the packages of Debian that bring all this.
# The same source, folder or not, and the same compiler give the same bytes: packaging/README.md.
set -euo pipefail
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
[ "$(uname -s)" = Linux ] || fail "This makes packages for Linux; packaging/macos and packaging/windows have the others."

id=org.ocelli.Ocelli
program=
kinds=
while [ $# -gt 0 ]; do
    case $1 in
        --needs)
            echo "python3 dpkg-dev binutils gcc libc6-dev patchelf squashfs-tools libsquashfuse-dev libzstd-dev"
            exit
            ;;
        --program)
            [ $# -ge 2 ] || fail "--program wants a file."
            program=$(cd "$called_from" && realpath "$2")
            shift
            ;;
        deb | appimage) kinds="$kinds $1" ;;
        *) fail "usage: packaging/package.sh [--program FILE] [deb] [appimage]" ;;
    esac
    shift
done
kinds=${kinds:-deb appimage}
need_rust
# (ldconfig is where ordinary users do not look.)
PATH=$PATH:/usr/sbin:/sbin
tools="python3 dpkg-deb objdump strip"
case $kinds in *appimage*) tools="$tools cc ldconfig mksquashfs patchelf" ;; esac
for tool in $tools; do
    command -v "$tool" >/dev/null || fail "$tool is missing; on Debian: apt-get install $(packaging/package.sh --needs)"
done

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# Everything in the packages is as old as the last commit.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || date +%s)
fi
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
out=$PWD/target/packages
work=$PWD/target/packaging
rm -rf "$out" "$work/root" "$work/AppDir" "$work"/icon-*.png
mkdir -p "$out" "$work"

if [ -z "$program" ]; then
    packaging/release-build.sh
    program=$PWD/target/release-packages/release/ocelli
fi
[ -x "$program" ] || fail "$program is no program."
machine=$(objdump -f "$program" | sed -n 's/^architecture: \([^,]*\),.*/\1/p')
case $machine in
    i386:x86-64) debian_machine=amd64 appimage_machine=x86_64 ;;
    aarch64) debian_machine=arm64 appimage_machine=aarch64 ;;
    *) fail "There are no packages for $machine." ;;
esac

# --- The files of the program under a folder that stands for /usr ---
install_under() {
    local usr=$1 side
    install -D -m 755 "$program" "$usr/bin/ocelli"
    strip --strip-unneeded "$usr/bin/ocelli"
    install -D -m 644 packaging/linux/$id.desktop "$usr/share/applications/$id.desktop"
    install -D -m 644 packaging/linux/$id.metainfo.xml "$usr/share/metainfo/$id.metainfo.xml"
    install -D -m 644 packaging/linux/$id.mime.xml "$usr/share/mime/packages/$id.xml"
    install -D -m 644 assets/icon.svg "$usr/share/icons/hicolor/scalable/apps/$id.svg"
    for side in 16 24 32 48 64 128 256 512; do
        [ -e "$work/icon-$side.png" ] || python3 assets/make_icon.py "$work/icon-$side.png" $side
        install -D -m 644 "$work/icon-$side.png" "$usr/share/icons/hicolor/${side}x$side/apps/$id.png"
    done
    mkdir -p "$usr/share/man/man1" "$usr/share/doc/ocelli"
    gzip -9n <packaging/linux/ocelli.1 >"$usr/share/man/man1/ocelli.1.gz"
    install -m 644 packaging/linux/copyright LICENSE-MIT LICENSE-APACHE assets/licences.txt.gz "$usr/share/doc/ocelli"
    gzip -9n <CHANGELOG.md >"$usr/share/doc/ocelli/CHANGELOG.md.gz"
}

# Times are part of the packages' bytes.
settle_times() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }

make_deb() {
    local root=$work/root libc size
    install_under "$root/usr"
    # The newest symbols the program asks of the C library.
    libc=$(objdump -T "$root/usr/bin/ocelli" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
    size=$(du -k --apparent-size -s "$root" | cut -f 1)
    mkdir -p "$root/DEBIAN"
    sed -e "s/@VERSION@/$version/" -e "s/@MACHINE@/$debian_machine/" -e "s/@LIBC@/${libc#GLIBC_}/" -e "s/@SIZE@/$size/" \
        packaging/linux/control >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    settle_times "$root"
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/ocelli_${version}_$debian_machine.deb" >&2
}

# The window's libraries that not every desktop has (its own protocols' libraries, the graphics driver and the Vulkan
# loader are the system's): they are opened at run time, so nothing finds them but this list.
bundled="libxkbcommon.so.0 libxkbcommon-x11.so.0 libxcb-xkb.so.1 libXcursor.so.1 libXi.so.6 libXrender.so.1 libXfixes.so.3 libXext.so.6"

make_appdir() {
    local root=$work/AppDir library file package rpath
    install_under "$root/usr"
    mkdir -p "$root/usr/lib"
    # The program itself says where they lie: a variable would go on to every program it starts, such as a browser. RPATH and not its
    # successor RUNPATH, which counts neither for libraries that libraries open nor for what those need.
    # shellcheck disable=SC2016  # the loader knows what ORIGIN is
    rpath='$ORIGIN/../lib'
    patchelf --force-rpath --set-rpath "$rpath" "$root/usr/bin/ocelli"
    [ "$(objdump -p "$root/usr/bin/ocelli" | sed -n 's/^ *RPATH *//p')" = "$rpath" ] || fail "patchelf has not set the RPATH."
    for library in $bundled; do
        file=$(ldconfig -p | sed -n "s|^[[:space:]]*$library (.*=> \(/.*\)\$|\1|p" | head -n 1)
        [ -n "$file" ] || fail "$library is not installed: packaging/debian-setup.sh says what the window needs."
        install -m 644 "$(realpath "$file")" "$root/usr/lib/$library"
        package=$(dpkg-query --search "$(realpath "$file")" 2>/dev/null | head -n 1 | cut -d : -f 1 || true)
        if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then
            install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
        fi
    done
    # What the program in front of it is made of besides.
    for package in libsquashfuse-dev libzstd-dev libc6-dev; do
        [ ! -e "/usr/share/doc/$package/copyright" ] ||
            install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
    done
    install -m 755 packaging/linux/AppRun "$root/AppRun"
    cp "$root/usr/share/applications/$id.desktop" "$root/usr/share/icons/hicolor/256x256/apps/$id.png" "$root"
    ln -s $id.png "$root/.DirIcon"
    settle_times "$root"
}

# The program in front of the file system: what it says of itself is where that begins.
make_runtime() {
    local runtime=$1
    cc -std=gnu17 -Os -Wall -Wextra -D_FILE_OFFSET_BITS=64 -static -ffile-prefix-map="$PWD"=. -o "$runtime" packaging/linux/appimage.c \
        -lsquashfuse -lzstd ||
        fail "libsquashfuse or libzstd is missing; on Debian: apt-get install $(packaging/package.sh --needs)"
    strip "$runtime"
    # "AI", 2: an AppImage of the second type.
    printf 'AI\002' | dd of="$runtime" bs=1 seek=8 conv=notrunc status=none
    [ "$("$runtime" --appimage-offset)" = "$(stat --format %s "$runtime")" ] || fail "$runtime does not know where it ends."
}

make_appimage() {
    local file=$out/Ocelli-$version-$appimage_machine.AppImage runtime=${APPIMAGE_RUNTIME:-}
    make_appdir
    if [ -z "$runtime" ]; then
        runtime=$work/appimage
        make_runtime "$runtime"
    fi
    # (mksquashfs reads SOURCE_DATE_EPOCH. One processor: so the pieces come in one order.)
    rm -f "$work/AppDir.squashfs"
    mksquashfs "$work/AppDir" "$work/AppDir.squashfs" -root-owned -noappend -no-xattrs -processors 1 \
        -comp zstd -Xcompression-level 19 -quiet -no-progress >&2
    cat "$runtime" "$work/AppDir.squashfs" >"$file"
    chmod 755 "$file"
    rm "$work/AppDir.squashfs"
}

for kind in $kinds; do
    case $kind in
        deb) make_deb ;;
        appimage) make_appimage ;;
    esac
done
(
    cd "$out"
    set -- *
    [ -e "$1" ] || exit 0
    sha256sum -- "$@" >SHA256SUMS
)
ls -l "$out" >&2
