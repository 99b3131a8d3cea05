#!/bin/sh
# Builds target/face-enroll_VERSION_ARCH.deb: the binary, its manual page, completions, the systemd units and a commented
# settings file. Needs cargo and dpkg-deb. FACE_ENROLL_BINARY=FILE packages a binary that is already built.
set -eu
cd "$(dirname "$0")/../.."

if [ -z "${FACE_ENROLL_BINARY:-}" ]; then
    FACE_ENROLL_COMMIT=$(git rev-parse --short=12 HEAD) cargo build --release --locked
    FACE_ENROLL_BINARY=target/release/face-enroll
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

put() { install -D -m "$1" "$2" "$root/$3"; }
put 755 "$FACE_ENROLL_BINARY" usr/bin/face-enroll
strip --strip-unneeded "$root/usr/bin/face-enroll"
"$FACE_ENROLL_BINARY" man | gzip -9n > "$root/man.gz"
put 644 "$root/man.gz" usr/share/man/man1/face-enroll.1.gz
rm "$root/man.gz"
for completion in bash:bash-completion/completions/face-enroll zsh:zsh/vendor-completions/_face-enroll \
    fish:fish/vendor_completions.d/face-enroll.fish; do
    "$FACE_ENROLL_BINARY" completions "${completion%%:*}" > "$root/completion"
    put 644 "$root/completion" "usr/share/${completion#*:}"
    rm "$root/completion"
done
sed 's|/usr/local/bin/face-enroll run|/usr/bin/face-enroll run --config /etc/face-enroll/config.toml|' \
    samples/services/face-enroll.service > "$root/unit"
put 644 "$root/unit" usr/lib/systemd/system/face-enroll.service
rm "$root/unit"
put 644 samples/services/face-enroll.timer usr/lib/systemd/system/face-enroll.timer
# Nothing is set until the administrator removes a comment sign.
sed 's/^[a-z[]/#&/' samples/config.toml > "$root/config"
put 644 "$root/config" etc/face-enroll/config.toml
rm "$root/config"
put 644 README.md usr/share/doc/face-enroll/README.md
put 644 samples/package/copyright usr/share/doc/face-enroll/copyright

mkdir "$root/DEBIAN"
echo /etc/face-enroll/config.toml > "$root/DEBIAN/conffiles"
cat > "$root/DEBIAN/control" <<CONTROL
Package: face-enroll
Version: $version
Architecture: $arch
Maintainer: face-enroll <face-enroll@localhost>
Section: utils
Priority: optional
Depends: libc6, libgcc-s1, adduser
Description: Enrol an archive of face photos into Alibaba Cloud face groups
 Every photo ends with a known outcome, and nobody is enrolled twice or lost,
 whatever crashes. The run uses the quota fully and does not exceed it.
CONTROL
# The unit runs as this user; the timer is left to the administrator.
cat > "$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    adduser --system --group --home /var/lib/face-enroll --no-create-home --quiet face-enroll
fi
POSTINST
chmod 755 "$root/DEBIAN/postinst"
deb=target/face-enroll_${version}_$arch.deb
dpkg-deb --root-owner-group -Zgzip --build "$root" "$deb" > /dev/null
echo "$deb"
