# SPDX-License-Identifier: Apache-2.0
"""Formats what tests/bench/run prints and writes: a table for each scenario, a plot, and README.md's table of
performance."""
import html
import re

BEGIN, END = "<!-- tests/bench/run --readme writes from here -->", "<!-- to here -->"
README_ROWS = ("run", "create, start, delete", "exec", "state", "ps", "50 runs at once")
COLOURS = {"floor": "#888888", "caisson": "#1f77b4", "crun": "#ff7f0e", "runc": "#2ca02c"}
OTHERS = ["#9467bd", "#8c564b", "#e377c2", "#17becf"]


def print_scenario(scenario, rows):
    print(f"\n{scenario}")
    if any("each_kib" in r for r in rows.values()):
        for name, r in rows.items():
            print(f"  {name:<12}{r['each_kib']:>9.0f} KiB")
        return
    rounds = max(r["rounds"] for r in rows.values())
    others = [n for n in rows if n != "caisson"]
    print(f"  {str(rounds) + ' rounds':<12}{'median ms':>11}{'p10':>8}{'p99':>9}" + "".join(f"{'/ ' + n:>10}" for n in others) +
          f"{'peak KiB':>10}{'M instr.':>10}")
    for name, r in rows.items():
        ratios = "".join(f"{r['ratio'][n]:>10.2f}" if n in r["ratio"] else f"{'':>10}" for n in others)
        instructions = f"{r['instructions'] / 1e6:>10.1f}" if r["instructions"] else f"{'-':>10}"
        print(f"  {name:<12}{r['median_ms']:>11.2f}{r['p10_ms']:>8.2f}{r['p99_ms']:>9.2f}{ratios}{r['peak_kib']:>10}{instructions}",
              flush=True)


def readme_table(results):
    """Returns the table's rows for the scenarios that were measured: caisson's median and its ratio to each other
    runtime's."""
    others = [n for n in next(iter(results.values())) if n not in ("caisson", "floor")]
    lines = ["| median time of caisson, as a part of | " + " | ".join(others) + " | bare kernel work |",
             "|---|" + "---|" * (len(others) + 1)]
    for scenario, rows in results.items():
        me = rows.get("caisson")
        if me and scenario in README_ROWS:
            cells = [f"{me['ratio'][n]:.2f}" if n in me["ratio"] else "" for n in [*others, "floor"]]
            lines.append(f"| {scenario} | " + " | ".join(cells) + " |")
    run = results.get("run")
    if run:
        sizes = ", ".join(f"{n} {r['peak_kib'] / 1024:.1f} MiB" for n, r in run.items() if n != "floor")
        lines += ["", f"Peak memory of `run`: {sizes}."]
    return "\n".join(lines)


def write_readme(path, results):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    pattern = re.escape(BEGIN) + r"\n.*?" + re.escape(END)
    if not re.search(pattern, text, re.S):
        raise SystemExit(f"{path}: expected the lines\n{BEGIN}\n{END}\naround the table")
    new = f"{BEGIN}\n{readme_table(results)}\n{END}"
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(pattern, lambda m: new, text, flags=re.S))


def bar(y, width, colour, label, value):
    return (f'<rect x="120" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
            f'<text x="112" y="{y + 11}" text-anchor="end">{html.escape(label)}</text>'
            f'<text x="{126 + width:.1f}" y="{y + 11}">{html.escape(value)}</text>')


def write_svg(path, results):
    """Writes a plot with one group of bars for each scenario; the longest bar of each group has the same length."""
    parts, y, other = [], 10, {}
    for scenario, rows in results.items():
        memory = any("each_kib" in r for r in rows.values())
        key, unit = ("each_kib", "KiB") if memory else ("median_ms", "ms")
        longest = max(r[key] for r in rows.values()) or 1
        y += 16
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{html.escape(scenario)}</text>')
        y += 8
        for name, r in rows.items():
            colour = COLOURS.get(name) or OTHERS[other.setdefault(name, len(other)) % len(OTHERS)]
            parts.append(bar(y, 420 * max(r[key], 0) / longest, colour, name, f"{r[key]:.2f} {unit}"))
            y += 18
        y += 8
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{y + 10}" font-family="sans-serif" font-size="12">'
                f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')
