#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever looks for files in ext4 disk images from Python, for evidence, packages or secrets.
#
# With ext4's feature inline_data, small files and small directories stand in the inode and take no block. The PyPI packages
# dissect.extfs 3.15 and ext4 1.4.1 (2026) know the feature: they open such an image, and read such files right. But a
# directory in an inode begins with the number of its parent, without the entries "." and ".." that a block begins with.
# ext4 finds no entry in it. dissect.extfs takes the number for an entry without a name, which is the parent, and
# logs a warning. In both, the files of every small directory are not listed and not found, while larger directories work.
#
# Observed output of this script:
#   e2fsprogs: few: a b, many: 60 names
#   dissect.extfs: few: '', many: 60 names, small: "hello", few/a: not found
#   ext4: few: nothing, many: 60 names, small: "hello", few/a: not found
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check dissect.extfs==3.15 dissect.cstruct==4.7 dissect.util==3.24 ext4==1.4.1
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
e2() { LD_LIBRARY_PATH=$(echo root/lib/*-linux-gnu):$(echo root/usr/lib/*-linux-gnu) "root/sbin/$1" "${@:2}"; }
mkdir -p tree/few tree/many
for name in small few/a few/b many/{1..60}; do printf hello >"tree/$name"; done
truncate -s 16M disk.img
e2 mke2fs -q -F -t ext4 -O inline_data -d tree disk.img
e2 e2fsck -fn disk.img >/dev/null 2>&1
names() { e2 debugfs -R "ls -p $1" disk.img 2>/dev/null | cut -d/ -f6 | grep -v '^\.*$'; }
cat >read.py <<'PY'
import ext4
from dissect.extfs import ExtFS

disk = open("disk.img", "rb")
volume, fs = ext4.Volume(disk), ExtFS(disk)
readers = {
    "dissect.extfs": (lambda name: fs.get(name).listdir(), lambda name: fs.get(name).open().read()),
    "ext4": (lambda name: [entry.name_str for entry, _ in volume.inode_at("/" + name).opendir()],
             lambda name: volume.inode_at("/" + name).open().read()),
}
for reader, (entries, read) in readers.items():
    names = {d: [n for n in entries(d) if n not in (".", "..")] for d in ("few", "many")}
    try:
        told = f'"{read("few/a").decode()}"'
    except FileNotFoundError:
        told = "not found"
    few = " ".join(n or "''" for n in names["few"]) or "nothing"
    print(f'{reader}: few: {few}, many: {len(names["many"])} names, small: "{read("small").decode()}", few/a: {told}')
PY
found="e2fsprogs: few: $(names few | paste -sd' '), many: $(names many | wc -l) names
$(venv/bin/python read.py 2>/dev/null)"
echo "$found"
[ "$found" = "e2fsprogs: few: a b, many: 60 names
dissect.extfs: few: '', many: 60 names, small: \"hello\", few/a: not found
ext4: few: nothing, many: 60 names, small: \"hello\", few/a: not found" ]
