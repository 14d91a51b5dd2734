#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever lists the packages of a SUSE disk or image from a Debian host.
#
# rpm has four kinds of database. SUSE's rpm writes ndb (Packages.db). Debian's rpm 4.18 finds out by itself that a database is
# Berkeley DB's or SQLite's, whatever is configured, but it is built without ndb. A tree with an ndb database is no error
# to it: `rpm -qa` prints nothing, says nothing, ends with 0, and makes an empty SQLite database beside the true one,
# in the tree that was only to be read. The tree of SUSE's own test image has 35 packages.
#
# Observed output of this script:
#   go-rpmdb: 35 packages
#   rpm 4.18.0: 0 packages, exit status 0, no message
#   before: Packages.db
#   after: Packages.db rpmdb.sqlite
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
v=4.18.0+dfsg-1+deb12u1
apt-get download -q {rpm,rpm-common,librpm9,librpmio9}=$v liblua5.3-0 libpopt0 libsqlite3-0 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
export RPM_CONFIGDIR=$dir/root/usr/lib/rpm LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu

# A database of SLE 15, which is in a module of Go as its test data.
export GOPATH=$dir/go GOFLAGS=-mod=mod
cat >go.mod <<-'END'
	module count
	go 1.21
	require github.com/anchore/go-rpmdb v0.2.2
END
cat >count.go <<-'END'
	package main

	import (
		"fmt"
		"os"

		rpmdb "github.com/anchore/go-rpmdb/pkg"
	)

	func main() {
		db, err := rpmdb.Open(os.Args[1])
		if err != nil {
			panic(err)
		}
		list, err := db.ListPackages()
		if err != nil {
			panic(err)
		}
		fmt.Println("go-rpmdb:", len(list), "packages")
	}
END
go build -o count . 2>build.log || { cat build.log; exit 1; }
mkdir db
cp "$(go list -m -f '{{.Dir}}' github.com/anchore/go-rpmdb)/pkg/testdata/sle15-bci/Packages.db" db
chmod u+w db/Packages.db

names() { (cd db && echo *) | sed -E 's/ rpmdb.sqlite-(shm|wal)//g'; }
found=$(
	./count db/Packages.db
	before=$(names)
	rc=0
	list=$(root/usr/bin/rpm --dbpath "$dir/db" -qa 2>&1) || rc=$?
	echo "$(root/usr/bin/rpm --version | sed 's/RPM version/rpm/'): $(grep -c . <<<"$list" || :) packages, exit status $rc, ${list:-no message}"
	echo "before: $before"
	echo "after: $(names)"
)
echo "$found"
[ "$found" = "go-rpmdb: 35 packages
rpm 4.18.0: 0 packages, exit status 0, no message
before: Packages.db
after: Packages.db rpmdb.sqlite" ]
