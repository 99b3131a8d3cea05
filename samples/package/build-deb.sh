#!/bin/sh
# Builds target/face-enroll_VERSION_ARCH.deb: compiles, generates the manual page, the completions, the unit and a commented
# settings file in target/package/, and packs the assets that Cargo.toml lists. `cargo deb --no-build` then packs the same.
# Needs cargo and dpkg-deb. FACE_ENROLL_BINARY=FILE packs a binary that is already built.
set -eu
cd "$(dirname "$0")/../.."

release=target/release/face-enroll
binary=${FACE_ENROLL_BINARY:-$release}
if [ "$binary" = "$release" ]; then
    FACE_ENROLL_COMMIT=$(git rev-parse --short=12 HEAD) cargo build --release --locked
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

stage=target/package
mkdir -p "$stage"
"$binary" man | gzip -9n > "$stage/face-enroll.1.gz"
for shell in bash zsh fish; do
    "$binary" completions "$shell" > "$stage/face-enroll.$shell"
done
sed 's|/usr/local/bin/face-enroll run|/usr/bin/face-enroll run --config /etc/face-enroll/config.toml|' \
    samples/services/face-enroll.service > "$stage/face-enroll.service"
# Nothing is set until the administrator removes a comment sign.
sed 's/^[a-z[]/#&/' samples/config.toml > "$stage/config.toml"
gzip -9nc samples/package/changelog > "$stage/changelog.gz"

sed -n '/^\[package\.metadata\.deb\]/,/^\]/s/^ *\["\(.*\)", "\(.*\)", "\(.*\)"\],$/\3 \1 \2/p' Cargo.toml |
    while read -r mode source target; do
        if [ "$source" = "$release" ]; then source=$binary; fi
        install -D -m "$mode" "$source" "$root/$target"
    done
strip --strip-unneeded "$root/usr/bin/face-enroll"

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "samples/package/$script" "$root/DEBIAN/$script"
done
echo /etc/face-enroll/config.toml > "$root/DEBIAN/conffiles"
field() { sed -n 's/^'"$1"' = "\(.*\)"$/\1/p' Cargo.toml | head -n 1; }
libraries='libc6, libgcc-s1'
if command -v dpkg-shlibdeps > /dev/null; then
    mkdir "$root/debian"
    touch "$root/debian/control"
    libraries=$(cd "$root" && dpkg-shlibdeps -O -e usr/bin/face-enroll 2> /dev/null | sed 's/^[^=]*=//')
    rm -r "$root/debian"
fi
version=$(field version)
arch=$(dpkg --print-architecture)
cat > "$root/DEBIAN/control" <<CONTROL
Package: face-enroll
Version: $version
Architecture: $arch
Maintainer: $(field maintainer)
Installed-Size: $(du -k -s "$root" | cut -f 1)
Section: $(field section)
Priority: $(field priority)
Depends: $(field depends | sed "s/\$auto/$libraries/")
Description: $(field description)
$(field extended-description | fold -s -w 80 | sed 's/ *$//; s/^/ /')
CONTROL
deb=target/face-enroll_${version}_$arch.deb
dpkg-deb --root-owner-group -Zgzip --build "$root" "$deb" > /dev/null
echo "$deb"
