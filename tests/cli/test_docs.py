# SPDX-License-Identifier: Apache-2.0
"""What is written about the program is true: --help, caisson(1), the bash completion and README.md say the same."""
import os
import re
import shlex
import subprocess

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAN = os.path.join(REPO, "runtime/man/caisson.1.scd")
COMPLETION = os.path.join(REPO, "runtime/man/caisson.bash-completion")
README = os.path.join(REPO, "README.md")
COMMANDS = "create start run exec state list ps kill pause resume update events delete spec plan features doctor".split()
ANY = {("--help", "-h", "")}  # not listed for each command; see GLOBAL OPTIONS


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def help_text(rt, command=""):
    return rt(*([command] if command else []), "--help").ok().out


def help_options(text):
    """{(--name, -letter or "", ARGUMENT or "")}"""
    found = re.findall(r"^  (--[a-z0-9-]+)(?: ([^ ,]+))?(?:, (-[a-z]))?(?= |$)", text, re.M)
    return {(name, letter, arg) for name, arg, letter in found}


def help_commands(text):
    block = text.split("\nCommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\S+)", block, re.M)


def man_sections():
    """{"create": text, ...}, and the global options under ""."""
    text = read(MAN)
    sections = {"": text.split("\n# GLOBAL OPTIONS\n")[1].split("\n# ")[0]}
    for part in re.split(r"^## ", text.split("\n# COMMANDS\n")[1].split("\n# ")[0], flags=re.M)[1:]:
        sections[re.match(r"caisson (\w+)", part)[1]] = part
    return sections


def man_options(sections, command):
    text = sections[command]
    found = re.findall(r"^\*(--[a-z0-9-]+)\*(?: _(\S+)_)?(?:, \*(-[a-z])\*)?$", text, re.M)
    options = {(name, letter, arg) for name, arg, letter in found}
    # Whatever looks like the head of an option and was not understood would be compared with nothing.
    heads = re.findall(r"^\*-\S*", text, re.M)
    assert len(heads) == len(found), (command, heads, found)
    same = re.search(r"^The options of \*(\w+)\*, and:$", text, re.M)
    return options | (man_options(sections, same[1]) if same else set())


def complete(binary, *words):
    """What bash offers for the last word."""
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
    """The same options, letters and arguments in both, and none in one of them only."""
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
    for command in "start exec state ps kill pause resume update events delete".split():
        assert complete(binary, "--root", root, command, "docs-") == ["docs-a", "docs-b"], command
    assert complete(binary, "--root", "=", root, "delete", "--force", "docs-b") == ["docs-b"]
    assert complete(binary, "--root", root, "run", "docs-") == []


@pytest.mark.parametrize("command,name", [("run", "--log-format"), ("run", "--rootless"), ("list", "--format"), ("ps", "--format")])
def test_values_of_help_are_the_programs(rt, command, name):
    """A wrong value is answered with the same words that --help offers."""
    is_global = name in ("--log-format", "--rootless")
    arg = {n: a for n, _, a in help_options(help_text(rt, "" if is_global else command))}[name]
    words = [f"{name}=no-such-value", command] if is_global else [command, f"{name}=no-such-value"]
    r = rt(*words, *(["x"] if command != "list" else []))
    assert r.rc != 0 and "no-such-value" in r.err and all(w in r.err for w in arg.split("|")), r


def test_manual_is_valid_scdoc():
    try:
        r = subprocess.run(["scdoc"], input=read(MAN), capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("scdoc is not installed (tests/run installs it)")
    assert r.returncode == 0, r.stderr
    assert all(f"caisson {c}" in r.stdout for c in COMMANDS)


def test_annotations_of_the_manual_are_the_programs():
    section = read(MAN).split("\n# ANNOTATIONS\n")[1].split("\n# ")[0]
    named = set(re.findall(r"^\*((?:io|org)\.[a-z.]+?)\.?\*", section, re.M))
    source = ""
    for d in ("runtime", "cgroups"):
        for at, _, files in os.walk(os.path.join(REPO, d)):
            source += "".join(read(os.path.join(at, f)) for f in files if f.endswith((".c", ".h")) and f != "features.c")
    assert named == {a.rstrip(".") for a in re.findall(r'"((?:io\.caisson|org\.systemd)\.[a-z.]+)"', source)}


def test_environment_of_the_manual_is_the_programs():
    section = read(MAN).split("\n# ENVIRONMENT\n")[1].split("\n# ")[0]
    named = {n for line in re.findall(r"^\*.*$", section, re.M) for n in re.findall(r"\*(\w+)\*", line)}
    source = ""
    for at, _, files in os.walk(os.path.join(REPO, "runtime")):
        source += "".join(read(os.path.join(at, f)) for f in files if f.endswith(".c"))
    assert named == set(re.findall(r'[^_\w]getenv\("(\w+)"\)', source))


# ---- README.md ----

def readme_section(title):
    parts = re.split(r"^## ", read(README), flags=re.M)
    return next(p for p in parts if p.startswith(title + "\n"))


def code_blocks(text):
    return re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.M | re.S)


def test_paths_of_the_readme_exist():
    """Every `path` with a slash or an ending of ours, but for what is announced as to come."""
    named = set()
    for line in read(README).split("\n"):
        if "to come" in line:
            continue
        named |= set(re.findall(r"`((?:\.?[\w-]+/)*[\w.*-]+\.(?:[ch]|py|scd|md|build)|(?:[\w-]+/)+[\w-]+\.json|(?:[\w.-]+/)+[\w-]*)`", line))
    assert len(named) > 40, "README.md's paths are not found any more"
    missing = [p for p in sorted(named) if not os.path.exists(os.path.join(REPO, p))]
    assert not missing, missing


def test_commands_of_the_readme_exist(rt):
    """Each `caisson ...` line names a command and options that it has."""
    lines = [l.split(" # ")[0] for b in code_blocks(read(README)) for l in b.split("\n")]
    lines += re.findall(r"`(caisson [^`]*)`", read(README))
    calls = [c.strip() for l in lines for c in re.split(r"&&|\|", l) if re.match(r"\s*(sudo )?caisson ", c)]
    assert len(calls) > 12
    known = {c: {o for n, l, _ in help_options(help_text(rt, c)) | ANY for o in (n, l)} for c in ["", *COMMANDS]}
    for call in calls:
        words = shlex.split(call.removeprefix("sudo "))[1:]
        if words[0] == "COMMAND":
            continue
        command = ""
        for w in words:
            if w in COMMANDS and not command:
                command = w
            elif w.startswith("-"):
                assert w.split("=")[0] in known[command], (call, w)
            elif command == "exec":
                break  # behind the ID it is the container's business
        assert command, f"no command: {call}"


def test_scripts_of_the_readme_exist():
    called = set(re.findall(r"(?<![\w/])((?:tests|\.ci)/[\w/-]+)(?= |$|`)", "\n".join(code_blocks(read(README)))))
    assert {"tests/demo", "tests/run"} <= called
    assert all(os.access(os.path.join(REPO, c), os.X_OK) for c in called), called


def test_first_try_of_the_readme(binary, tmp, root):
    """The section "A first try", line by line, as it stands."""
    block = code_blocks(readme_section("A first try"))[0]
    script = "\n".join(l for l in block.split("\n") if l.strip())
    bindir = os.path.join(tmp, "bin")
    os.mkdir(bindir)
    with open(os.path.join(bindir, "caisson"), "w") as f:
        f.write(f'#!/bin/sh\nexec {shlex.quote(binary)} --root {shlex.quote(root)} "$@"\n')
    os.chmod(os.path.join(bindir, "caisson"), 0o755)
    work = os.path.join(tmp, "try")
    os.mkdir(work)
    r = subprocess.run(["sh", "-euxc", script], cwd=work, env={**os.environ, "PATH": f"{bindir}:{os.environ['PATH']}"},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert r.returncode == 0, r.stdout
    assert "hello from caisson" in r.stdout
