#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_source.py [TOP]: checks the C source below TOP for what neither the compiler nor clang-format sees.

Prints a line "OUTCOME<TAB>NAME<TAB>REASON" for each check on standard output, and each fault on standard error. The exit
code is 0 if every check passed, 1 if one failed. `check_source.py --self-test` plants faults in a tree of its own and
reports, in the same form, whether each check finds exactly those.
"""
import os
import re
import sys
import tempfile

# The folders whose includes follow the layers, and all folders whose comments are checked.
LAYERED = ["runtime", "cgroups", "netsetup", "images"]
COMMENTED = LAYERED + ["tests"]
COLUMNS = 100
TAB = 8

# The layers, the lowest first: each folder, and what its files may include besides base and the folder itself. A folder
# stands for the folders in it that have no line of their own. An entry that ends in ".h" allows that one header. A folder
# of runtime/ is named without "runtime/", as includes name it. A new folder needs a line here.
LAYERS = {
    "base": "",
    "jail": "",  # system calls that a process may still make; low, so that every process can use it
    "vm": "",  # the built-in machine, which knows neither containers nor images
    "vm/fs": "jail vm",
    "cgroups": "",
    "netsetup/rtnl": "",
    # carry and host know nothing of each other.
    "netsetup/carry": "netsetup/rtnl netsetup/net.h",
    "netsetup/host": "netsetup/rtnl netsetup/net.h",
    "netsetup": "netsetup/rtnl netsetup/carry/net_config.h",
    # oci does not include the machine, and the machine does not include disk; files above them join them.
    "images/guest": "",
    "images/disk": "",
    "images/oci": "",
    "spec": "cgroups/resources.h",
    "plan": "spec",
    "agent": "spec plan",  # what the monitor and the guest say to each other
    "step": "spec plan netsetup",
    "filter": "spec",  # HOST compiles the system call filter; INIT gets its bytes
    "ns": "spec plan step",
    "init": "spec plan step ns",  # the container's first process, a program of its own
    "guest": "spec plan step ns init agent cgroups netsetup netsetup/carry",
    "machine": "spec plan vm netsetup netsetup/carry",
    "engine": "spec plan machine jail agent vm vm/fs",
    "monitor": "spec plan step ns machine jail agent engine vm images/guest images/disk netsetup netsetup/carry",
    "doctor": "cgroups images/guest machine vm",
    "launch": "spec plan step filter ns init machine jail agent engine monitor cgroups netsetup netsetup/host images/guest images/disk",
    "run": "spec images/oci cmd/options.h",  # a bundle made of an image
    "cmd": "spec plan machine agent launch doctor cgroups run",
    "image": "spec images/oci cmd/options.h",  # caisson-image, a program of its own
    "disk": "cmd/options.h images/disk jail vm",
    "inside": "cmd/options.h images/disk/lock.h images/guest images/oci machine/size.h vm/fs/vmfs.h",  # caisson-inside, a program of its own
    "network": "cmd/options.h netsetup/host",  # caisson-net, a program of its own
    "main.c": "cmd",
}
GENERATED = ["version.h"]  # headers that the build generates, which have no folder

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)
# Comments, and texts that may contain the beginning of a comment without being one.
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def source_files(top, folders):
    """The path below top and the text of each C file, in a fixed order."""
    for folder in folders:
        for where, dirs, names in os.walk(os.path.join(top, folder)):
            dirs.sort()
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    path = os.path.join(where, name)
                    with open(path, encoding="utf-8") as f:
                        yield os.path.relpath(path, top), f.read()


def comments(text):
    """Returns the line number and the text of each comment; the text starts with the blanks before it on its line."""
    for m in TOKEN.finditer(text):
        if m.group().startswith("/"):
            start = text.rfind("\n", 0, m.start()) + 1
            yield text.count("\n", 0, m.start()) + 1, text[start:m.end()]


def folder_of(path):
    """Returns the entry of LAYERS that a path belongs to, named as in an include, or None."""
    folder = path
    while folder and folder not in LAYERS:
        folder = os.path.dirname(folder)
    return folder or None


def check_layers(top):
    """Checks that each include is of the file's own folder, of base, or of what LAYERS lists for the folder."""
    order = list(LAYERS)
    for folder, seen in LAYERS.items():
        for other in seen.split():
            if not other.endswith(".h") and order.index(other) >= order.index(folder):
                yield f"tests/lib/check_source.py: LAYERS: {folder} is below {other}, but lists it"
    for path, text in source_files(top, LAYERED):
        folder = folder_of(path.removeprefix("runtime/"))
        if folder is None:
            yield f"{path}: its folder is not in LAYERS of tests/lib/check_source.py: add it"
            continue
        allowed = [folder, "base"] + LAYERS[folder].split()
        for m in INCLUDE.finditer(text):
            header = m.group(1)
            where = f"{path}:{text.count(chr(10), 0, m.start(1)) + 1}"
            if header in GENERATED or header in allowed:
                continue
            if "/" not in header:
                yield f'{where}: "{header}" is included without its folder'
            elif folder_of(header) not in allowed:
                yield f'{where}: {folder} includes "{header}", expected only {", ".join(allowed)}'


def check_stars(top):
    """Checks that each line of a block comment has a blank behind its star, which a reformatter that moves words
    loses."""
    for path, text in source_files(top, COMMENTED):
        for first, comment in comments(text):
            for i, line in enumerate(comment.split("\n")[1:], first + 1):
                if re.match(r"\s*\*[^\s/*]", line):
                    yield f"{path}:{i}: no blank behind the star: {line.strip()[:60]}"


def check_columns(top):
    """Checks that no line of a comment is longer than COLUMNS, because clang-format leaves comments as they are."""
    for path, text in source_files(top, COMMENTED):
        for first, comment in comments(text):
            for i, line in enumerate(comment.split("\n"), first):
                width = len(line.expandtabs(TAB))
                if width > COLUMNS:
                    yield f"{path}:{i}: a comment that ends in column {width}, expected at most {COLUMNS}"


CHECKS = {
    "layers of includes": check_layers,
    "stars of comments": check_stars,
    "width of comments": check_columns,
}

# The self-test's files: a tree without faults, then for each check the files that are added to it, and the lines that
# must be reported for each.
CLEAN = {
    "runtime/main.c": '#include "cmd/cmd.h"\n#include "version.h"\n',
    "runtime/jail/jail.c": '#include "base/fd.h"\n#include "jail/jail.h"\n#include <stdio.h>\n',
    "runtime/vm/virtio/fs.c": '#include "vm/memory.h"\n#include "vm/vhost/front.h"\n',
    "runtime/spec/spec.h": '#include "cgroups/resources.h"\n',
    "netsetup/carry/apply.c": '#include "netsetup/net.h"\n#include "netsetup/rtnl/link.h"\n',
    "tests/unit/test_a.c": "/*\n * Text.\n *\n *\tcode\n **/\nint f(int *p)\n{\n\treturn\n\t\t*p;\n}\n"
                           'char s[] = "/*\\\n *x*/";\n' "char q = '\"';\n/* " + 94 * "a" + " */\n",
    "tests/unit/test_b.c": "char s[] = \"" + 120 * "a" + "\";\n",
}
PLANTED = {
    "layers of includes": {
        "netsetup/carry/bad.c": ('#include "base/fd.h"\n#include "netsetup/host/bridge.h"\n', [2]),
        "netsetup/host/bad.c": ('#include "netsetup/carry/net_config.h"\n', [1]),
        "images/oci/bad.c": ('#include "vm/machine.h"\n', [1]),
        "runtime/vm/virtio/bad.c": ('#include "plan/plan.h"\n #  include "images/disk/qcow2.h"\n', [1, 2]),
        "runtime/vm/fs.c": ('#include "vm/fs/fs.h"\n', [1]),
        "runtime/jail/bad.c": ('#include "machine/qemu.h"\n', [1]),
        "runtime/base/bad.h": ('#include "spec/spec.h"\n', [1]),
        "runtime/spec/bad.c": ('#include "cgroups/cgroup.h"\n', [1]),
        "runtime/engine/bad.c": ('#include "launch/launch.h"\n#include "engine.h"\n', [1, 2]),
        "runtime/attic/bad.c": ("\n", [None]),
    },
    "stars of comments": {
        "cgroups/bad.c": ("/*\n * One\n *two.\n */\nint a; /* b\n\t*c */\n", [3, 6]),
    },
    "width of comments": {
        "tests/bad.c": ("int a;\n\t/* " + 87 * "a" + " */\n/*\n * " + 98 * "a" + "\n */\n", [2, 4]),
    },
}


def faults_in(check, files):
    with tempfile.TemporaryDirectory() as top:
        for path, text in files.items():
            os.makedirs(os.path.join(top, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(top, path), "w", encoding="utf-8") as f:
                f.write(text)
        return sorted(re.match(r"[^:]*(:\d+)?", fault).group() for fault in CHECKS[check](top))


def self_test():
    for check, planted in PLANTED.items():
        expected = sorted(path if line is None else f"{path}:{line}"
                          for path, (_, lines) in planted.items() for line in lines)
        for files, want in ((CLEAN, []), ({**CLEAN, **{p: t for p, (t, _) in planted.items()}}, expected)):
            found = faults_in(check, files)
            if found != want:
                yield f"{check}: found {found}, expected {want}"
    if PLANTED.keys() != CHECKS.keys():
        yield "a check has no planted fault"


def report(name, faults):
    faults = list(faults)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print(f"failed\t{name}\t{faults[0]}" + (f" (and {len(faults) - 1} more)" if faults[1:] else ""))
    else:
        print(f"passed\t{name}\t")
    return not faults


def main(args):
    if args == ["--self-test"]:
        return 0 if report("the checks find planted faults", self_test()) else 1
    if len(args) > 1 or (args and args[0].startswith("-")):
        sys.exit(__doc__)
    top = args[0] if args else os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..")
    good = [report(name, check(os.path.realpath(top))) for name, check in CHECKS.items()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
