# SPDX-License-Identifier: Apache-2.0
"""Tests that the documentation is true: --help, the manual pages, the bash completion and the READMEs say the same."""
import glob
import os
import re
import shlex
import subprocess

import pytest

from harness import mode

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = sorted(glob.glob(os.path.join(REPO, "runtime/man/*.scd")))
MAN = os.path.join(REPO, "runtime/man/caisson.1.scd")
COMPLETION = os.path.join(REPO, "runtime/man/caisson.bash-completion")
README = os.path.join(REPO, "README.md")
TOP_FOLDERS = ["cgroups", "images", "netsetup", "runtime", "tests"]
READMES = ["README.md", *(f"{d}/README.md" for d in TOP_FOLDERS), "tests/bench/README.md", "tests/host/README.md", "tests/plugin/README.md"]
COMMANDS = "create start run exec state list ps kill stop logs rm pause resume checkpoint restore update events delete console spec plan features image net volume machine doctor disk".split()
# the options that `run --image` has only for an image that contains a disk
MACHINE_ONLY = {"--" + w for w in ("ephemeral size overlay format cloud-init vendor-data network-config ssh-key ssh-user vnc firmware firmware-vars "
                                   "append initrd inspect-kernel").split()}
ANY = {("--help", "-h", "")}  # these options are not listed for each command, but in GLOBAL OPTIONS


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def help_text(rt, command=""):
    return rt(*([command] if command else []), "--help").ok().out


def help_options(text):
    """Returns {(--name, -letter or "", ARGUMENT or "")}."""
    found = re.findall(r"^  (--[a-z0-9-]+)(?: ([^ ,]+))?(?:, (-[a-z]))?(?= |$)", text, re.M)
    return {(name, letter, arg) for name, arg, letter in found}


def help_commands(text):
    block = text.split("\nCommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\S+)", block, re.M)


def man_sections():
    """Returns the sections of the manual: {"create": text, ...}, and the global options under ""."""
    text = read(MAN)
    sections = {"": text.split("\n# GLOBAL OPTIONS\n")[1].split("\n# ")[0]}
    for part in re.split(r"^## ", text.split("\n# COMMANDS\n")[1].split("\n# ")[0], flags=re.M)[1:]:
        sections[re.match(r"caisson (\w+)", part)[1]] = part
    return sections


def man_options(sections, command):
    text = sections[command]
    found = re.findall(r"^\*(--[a-z0-9-]+)\*(?: _(\S+)_)?(?:, \*(-[a-z])\*)?$", text, re.M)
    options = {(name, letter, arg) for name, arg, letter in found}
    # Every line that looks like the head of an option must be understood, because otherwise it would be compared with
    # nothing.
    heads = re.findall(r"^\*-\S*", text, re.M)
    assert len(heads) == len(found), (command, heads, found)
    same = re.search(r"^The options of \*(\w+)\*, and:$", text, re.M)
    return options | (man_options(sections, same[1]) if same else set())


def complete(binary, *words):
    """Returns what bash's completion offers for the last word."""
    script = ('compopt() { :; }; . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _caisson;'
              'printf "%s\\n" "${COMPREPLY[@]}"')
    r = subprocess.run(["bash", "-euc", script, "bash", COMPLETION, binary, *words], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and r.stderr == "", r
    return [l for l in r.stdout.split("\n") if l]


# ---- commands and options ----

def test_every_command_is_everywhere(rt, binary):
    in_help = help_commands(help_text(rt))
    assert in_help == COMMANDS
    assert list(man_sections())[1:] == COMMANDS
    assert sorted(complete(binary, "")) == sorted(COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_options_of_help_and_manual(rt, command):
    """--help and the manual have the same options, letters and arguments."""
    in_help, in_man = help_options(help_text(rt, command)), man_options(man_sections(), command)
    assert in_help - in_man == set(), "not in the manual"
    assert in_man - in_help - ANY == set(), "not in --help"
    if command in ("", "create", "run", "exec", "update"):
        assert len(in_help) > 5, "the options of --help are not read any more"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_options_of_help_and_completion(rt, binary, command):
    want = {o for name, letter, _ in help_options(help_text(rt, command)) | ANY for o in (name, letter) if o}
    assert set(complete(binary, *filter(None, [command]), "-")) == want


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_of_help_and_manual(rt, command):
    usage = re.match(r"Usage: (.*)", help_text(rt, command))[1].strip()
    heading = man_sections()[command].split("\n")[0].strip()
    assert heading == usage


def test_values_are_offered(binary):
    assert complete(binary, "--log-format", "") == ["text", "json"]
    assert complete(binary, "--log-format", "=", "j") == ["json"]
    assert complete(binary, "--cgroup-manager", "s") == ["systemd"]
    assert complete(binary, "run", "--isolation", "") == ["ns", "vm"]
    assert complete(binary, "exec", "--cap", "CAP_SYS_ADM") == ["CAP_SYS_ADMIN"]
    assert complete(binary, "kill", "x", "TER") == ["TERM"] and complete(binary, "kill", "x", "SIGK") == ["SIGKILL"]
    assert complete(binary, "run", "") == [] and complete(binary, "exec", "x", "-") == []


def test_container_ids_are_offered(ctr, binary, root):
    a, b = ctr("true", id="docs-a"), ctr("true", id="docs-b")
    a.create(), b.create()
    for command in "start exec state ps kill stop logs rm pause resume update events delete".split():
        assert complete(binary, "--root", root, command, "docs-") == ["docs-a", "docs-b"], command
    assert complete(binary, "--root", "=", root, "delete", "--force", "docs-b") == ["docs-b"]
    assert complete(binary, "--root", root, "run", "docs-") == []


@pytest.mark.parametrize("command,name", [("run", "--log-format"), ("run", "--rootless"), ("list", "--format"), ("ps", "--format")])
def test_values_of_help_are_the_programs(rt, command, name):
    """The error about a wrong value lists the same values as --help."""
    is_global = name in ("--log-format", "--rootless")
    arg = {n: a for n, _, a in help_options(help_text(rt, "" if is_global else command))}[name]
    words = [f"{name}=no-such-value", command] if is_global else [command, f"{name}=no-such-value"]
    r = rt(*words, *(["x"] if command != "list" else []))
    assert r.rc != 0 and "no-such-value" in r.err and all(w in r.err for w in arg.split("|")), r


@pytest.mark.parametrize("command", ["run", "create"])
def test_options_of_images_and_disks(rt, command):
    """The error about an option that a bundle does not have says that an image or a disk has it, and adding that is what helps."""
    own = help_options(help_text(rt, "run"))
    kinds = {"--image": help_options(rt(command, "--image", "x", "--help").ok().out)}
    if command == "run":
        kinds["--disk"] = help_options(rt(command, "--disk", "x", "--help").ok().out)
    machines = {"--disk", "--kernel", "--initrd", "--append"} if command == "run" else set()  # these make a machine by themselves
    others = {w for has in kinds.values() for name, letter, _ in has for w in (name, letter) if w}
    others -= {w for name, letter, _ in own for w in (name, letter)} | {"--help", "-h", "--image"} | machines
    assert len(others) > 30
    for word in sorted(others):
        r = rt(command, word, "x", "y").failed()
        (name,) = {n for has in kinds.values() for n, letter, _ in has if word in (n, letter)}
        needs = [k for k, has in kinds.items() if name in {n for n, _, _ in has}]
        # What only machines have is among the options of `run --image` for images that contain a disk.
        if "--disk" in needs and name in MACHINE_ONLY:
            needs = ["--disk"]
        if command == "create" and name in MACHINE_ONLY:
            assert f"{name} is an option of `caisson run --disk" in r.err, r
        else:
            assert f"{name} needs {' or '.join(needs)}: add {needs[0]} " in r.err, r
    assert "process.env in" in rt(command, "-eA=b", "x").failed("--env").err


@pytest.mark.parametrize("page", PAGES, ids=os.path.basename)
def test_manual_is_valid_scdoc(page):
    try:
        r = subprocess.run(["scdoc"], input=read(page), capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("scdoc is not installed (tests/run installs it)")
    assert r.returncode == 0, r.stderr
    if page == MAN:
        assert all(f"caisson {c}" in r.stdout for c in COMMANDS)


def test_manual_pages_are_installed():
    """Every manual page is in the list of runtime/man/meson.build, and every page of the list exists."""
    listed = re.findall(r"'(caisson[a-z-]*\.[0-9])'", read(os.path.join(REPO, "runtime/man/meson.build")))
    assert sorted(p + ".scd" for p in listed) == [os.path.basename(p) for p in PAGES]


@pytest.mark.parametrize("page,sections,table", [
    ("caisson-vm.7.scd", ["WHAT IS REFUSED", "WHAT IS DIFFERENT"], "cli/vm_differences.tsv"),
    ("caisson-vm.7.scd", ["ORDINARY USERS"], "cli/user_differences.tsv"),
    ("caisson-podman.7.scd", ["MICROVMS"], "plugin/vm_differences.tsv")])
def test_manual_has_each_difference_of_the_tests(page, sections, table):
    """Each test that differs in VM mode is in a table, and the difference that the table names is a heading of the
    manual, word for word."""
    text = read(os.path.join(REPO, "runtime/man", page))
    bodies = [text.split(f"\n# {s}\n")[1].split("\n# ")[0] for s in sections]
    headings = {h for b in bodies for h in re.findall(r"^\*(.*)\*$", b, re.M)}
    what = {d.what for d in mode.differences(os.path.join(REPO, "tests", table)) if d.what != "nothing"}
    assert len(what) > (2 if "user" in table else 4), "the table is not read any more"
    assert what - headings == set(), "not in the manual"


def test_annotations_of_the_manual_are_the_programs():
    section = read(MAN).split("\n# ANNOTATIONS\n")[1].split("\n# ")[0]
    named = set(re.findall(r"^\*((?:io|org)\.[a-z.]+?)\.?\*", section, re.M))
    source = ""
    for d in ("runtime", "cgroups"):
        for at, _, files in os.walk(os.path.join(REPO, d)):
            source += "".join(read(os.path.join(at, f)) for f in files if f.endswith((".c", ".h")) and f != "features.c")
    assert named == {a.rstrip(".") for a in re.findall(r'"((?:io\.caisson|org\.systemd|org\.criu)\.[a-z.]+)"', source)}


def test_environment_of_the_manual_is_the_programs():
    section = read(MAN).split("\n# ENVIRONMENT\n")[1].split("\n# ")[0]
    named = {n for line in re.findall(r"^\*.*$", section, re.M) for n in re.findall(r"\*(\w+)\*", line)}
    source = ""
    for at, _, files in os.walk(os.path.join(REPO, "runtime")):
        source += "".join(read(os.path.join(at, f)) for f in files if f.endswith(".c"))
    assert named == set(re.findall(r'[^_\w]getenv\("(\w+)"\)', source))


# ---- READMEs ----

def readme_section(title):
    parts = re.split(r"^## ", read(README), flags=re.M)
    return next(p for p in parts if p.startswith(title + "\n"))


def code_blocks(text, kinds=("", "sh")):
    """Returns the code between fences whose opening line has one of the words `kinds`."""
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind in kinds]


def test_every_top_folder_has_a_readme():
    """Every top folder has a README. It is short, except that of runtime/, which has the tour and the house style."""
    assert all(os.path.exists(os.path.join(REPO, p)) for p in READMES)
    lines = {d: len(read(os.path.join(REPO, d, "README.md")).splitlines()) for d in TOP_FOLDERS if d != "runtime"}
    assert all(n < 40 for n in lines.values()), lines
    assert len(read(README)) < 8000, "README.md is for a first look; what is longer has a page of its own"


@pytest.mark.parametrize("readme", READMES)
def test_paths_of_the_readmes_exist(readme):
    """Every link in the READMEs leads somewhere, and every `path` with a slash or one of our file name endings exists,
    relative to the top of the tree or to the README."""
    text = read(os.path.join(REPO, readme))
    named = set(re.findall(r"`((?:\.?[\w-]+/)*[\w.*-]+\.(?:[ch]|py|scd|md|tsv|build)|(?:[\w-]+/)+[\w-]+\.json|(?:[\w.-]+/)+[\w.-]*)`", text))
    named |= set(re.findall(r"\]\((?!https:)([^)]+)\)", text))
    least = {"README.md": 10, "runtime/README.md": 60, "images/README.md": 8}.get(readme, 3)
    assert len(named) >= least, f"the paths of {readme} are not found any more: {named}"
    at = [REPO, os.path.dirname(os.path.join(REPO, readme))]
    missing = [p for p in sorted(named) if not any(glob.glob(os.path.join(d, p)) for d in at)]
    assert not missing, missing


def test_commands_of_the_readmes_exist(rt):
    """Each `caisson ...` line in a README names a command and options that exist."""
    text = "\n".join(read(os.path.join(REPO, p)) for p in READMES)
    lines = [l.split(" # ")[0] for b in code_blocks(text) for l in b.split("\n")]
    lines += re.findall(r"`(caisson [^`]*)`", text)
    calls = [c.strip() for l in lines for c in re.split(r"&&|\|", l) if re.match(r"\s*(sudo )?caisson ", c)]
    assert len(calls) > 12
    known = {c: {o for n, l, _ in help_options(help_text(rt, c)) | ANY for o in (n, l)} for c in ["", *COMMANDS]}
    # With --image these two take docker's options, which --help lists if --image is there.
    for c in ("create", "run"):
        of_image = set(re.findall(r"^  (--[a-z-]+)", rt(c, "--image", "x", "--help").ok().out, re.M))
        assert "--image" in of_image and "--volume" in of_image
        known[c] |= of_image
    known["run"] |= set(re.findall(r"^  (--[a-z-]+)", rt("run", "--disk", "x", "--help").ok().out, re.M))
    for call in calls:
        words = shlex.split(call.removeprefix("sudo "))[1:]
        command = ""
        for w in words:
            if w in COMMANDS and not command:
                command = w
            elif w.startswith("-"):
                assert w.split("=")[0] in known[command], (call, w)
            elif command in ("exec", "disk", "image", "net"):
                break  # the words behind the ID are for the container, or for a helper program
        assert command, f"no command: {call}"


def test_scripts_of_the_readme_exist():
    called = set(re.findall(r"(?<![\w/])((?:tests|\.ci)/[\w/-]+)(?= |$|`)", "\n".join(code_blocks(read(README)))))
    assert {"tests/demo", "tests/run"} <= called
    assert all(os.access(os.path.join(REPO, c), os.X_OK) for c in called), called


def build_packages():
    """Returns the packages that tests/run and tests/demo install for the build."""
    return set(re.search(r"^build_packages=\((.*?)\)$", read(os.path.join(REPO, "tests/lib/packages.sh")), re.M | re.S)[1].split())


def test_packages_of_the_readme():
    """README.md names the packages that the scripts install. apt brings libc6-dev with gcc."""
    line = re.search(r"^apt install (.*)", code_blocks(readme_section("Install"))[0].replace("\\\n", " "))[1]
    assert set(line.split()) | {"libc6-dev"} == build_packages()


def test_the_build_asks_for_nothing_else():
    """Each library that a meson.build looks for is in one of these packages: a fresh machine has no other."""
    text = "\n".join(read(p) for p in glob.glob(os.path.join(REPO, "**/meson.build"), recursive=True))
    names = set(re.findall(r"\bdependency\('([\w.-]+)'", text)) - {"threads"}
    headers = set(re.findall(r"find_library\('\w+', has_headers: '([\w./-]+)'", text))
    assert {"yajl", "yaml-0.1", "libcap"} <= names and "archive.h" in headers
    r = subprocess.run(["dpkg", "-S", *(f"*/pkgconfig/{n}.pc" for n in names), *(f"/usr/include/{h}" for h in headers)],
                       capture_output=True, text=True)
    owners = {l.rsplit("/", 1)[1]: l.split(":")[0] for l in r.stdout.splitlines()}
    assert r.returncode == 0 and len(owners) == len(names) + len(headers), (owners, r.stderr)
    assert set(owners.values()) <= build_packages(), owners


def as_printed(line):
    """Returns a pattern for a line of the README's output, in which pids, times, paths and the width of columns may
    differ."""
    pattern = r"\s+".join(re.escape(w) for w in line.split())
    for seen, any_of_it in ((r"[\w\\-]+T[\d:.\\]+Z", r"\\S+"), ("/root/try", r"\\S+"), (r"\d{4,}", r"\\d+")):
        pattern = re.sub(seen, any_of_it, pattern)
    return pattern


def test_quick_start_of_the_readme(binary, tmp, root):
    """The commands of the section "Quick start" run as they stand, and print the lines that the README shows, in that
    order."""
    section = readme_section("Quick start")
    script, printed = code_blocks(section, ["sh"])[0], code_blocks(section, [""])[0]
    bindir = os.path.join(tmp, "bin")
    os.mkdir(bindir)
    with open(os.path.join(bindir, "caisson"), "w") as f:
        f.write(f'#!/bin/sh\nexec {shlex.quote(binary)} --root {shlex.quote(root)} "$@"\n')
    os.chmod(os.path.join(bindir, "caisson"), 0o755)
    work = os.path.join(tmp, "try")
    os.mkdir(work)
    r = subprocess.run(["sh", "-euc", script], cwd=work, env={**os.environ, "PATH": f"{bindir}:{os.environ['PATH']}"},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert r.returncode == 0, r.stdout
    # From Linux 7.0 on ATTACH_ROOT makes the mount namespace, and not CLONE.
    said = r.stdout.replace("new: pid ipc uts", "new: pid mount ipc uts")
    got, want = said.splitlines(), printed.splitlines()
    assert len(got) == len(want) > 8, r.stdout
    for g, w in zip(got, want):
        assert re.fullmatch(r"\s*" + as_printed(w) + r"\s*", g), (g, w)


def differences():
    text = read(MAN).split("\n# DIFFERENCES FROM RUNC AND CRUN\n")[1].split("\n# ")[0]
    return " ".join(text.split())


@pytest.mark.parametrize("name", ["run.oci.seccomp.receiver", "run.oci.mount_context_type", "run.oci.systemd.subgroup",
                                  "run.oci.delegate-cgroup"])
def test_annotations_of_crun_that_are_not_read(name):
    """Engines and users pass them: the manual has the decision, and a program that begins to read one has a manual that lies."""
    assert f"*{name}*" in differences()
    sources = "".join(read(p) for p in glob.glob(os.path.join(REPO, "runtime/**/*.[ch]"), recursive=True))
    assert f'"{name}"' not in sources


def test_mounts_of_crun(rt):
    """`crun mounts add|remove` changes a running container; caisson says that it has no such command, and so does the manual."""
    assert "no *mounts* command" in differences()
    rt("mounts", "add", "x").failed("mounts")
