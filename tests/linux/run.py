"""Builds one C program as a user of the linux headers does, with gcc and clang and all warnings, runs it, and looks at what it said.

Directives in the program's comments:
  ENV: NAME=value          environment
  FLAGS: -DX=y             more flags of the compiler
  HOSTED                   compiled with the C library's headers and include/, and not run
  STATUS: n                the exit status, negative for a signal; 0 without it
  SAYS: regex              standard error has this; @NAME is the line that has the comment "at NAME"
  TIMES n: regex           exactly n times
Without SAYS or TIMES there must be no report in it.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys


def run(command, **keywords):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False, **keywords)


def compile_with(compiler, arguments, text, output):
    root = arguments.root
    if "HOSTED" in text:
        include = [f"-I{root / 'include'}", "-iquote", root / "linux"]
    else:
        where = run([compiler, "-print-file-name=include"]).stdout.strip()
        include = ["-nostdinc", "-isystem", where, f"-I{root / 'linux'}"]
    flags = [flag for line in re.findall(r"^ \* FLAGS: (.*)$", text, re.M) for flag in line.split()]
    result = run([compiler, "-std=gnu11", *include, "-Wall", "-Wextra", "-Werror", "-g", *flags, "-c", arguments.source, "-o", output])
    if result.returncode != 0:
        sys.exit(f"{compiler} refuses {arguments.source.name}:\n{result.stderr}")
    if result.stderr.strip():
        sys.exit(f"{compiler} says about {arguments.source.name}:\n{result.stderr}")


def lines_of(text):
    return {match.group(1): str(text.count("\n", 0, match.start()) + 1) for match in re.finditer(r"/\* at (\w+) \*/", text)}


def check_output(text, said):
    places = lines_of(text)

    def regex(wanted):
        return re.sub(r"@(\w+)", lambda m: places[m.group(1)], wanted)

    says = re.findall(r"^ \* SAYS: (.*)$", text, re.M)
    times = re.findall(r"^ \* TIMES (\d+): (.*)$", text, re.M)
    wrong = [f"it does not say: {wanted}" for wanted in says if not re.search(regex(wanted), said, re.M)]
    for number, wanted in times:
        found = len(re.findall(regex(wanted), said, re.M))
        if found != int(number):
            wrong.append(f"{found} times, not {number}: {wanted}")
    if not says and not times and re.search(r"BUG|WARNING|panic", said):
        wrong.append("it reports something")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for what is built")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = arguments.source.read_text()
    base = arguments.output / arguments.source.stem
    for compiler in ("clang", "cc"):   # the last one's object is linked
        compile_with(compiler, arguments, text, base.with_suffix(".o"))
    if "HOSTED" in text:
        return
    linked = run(["g++", base.with_suffix(".o"), arguments.library, "-lpthread", "-o", base])
    if linked.returncode != 0:
        sys.exit(f"{arguments.source.name} does not link:\n{linked.stderr}")
    environment = dict(os.environ, KMEM_CMDLINE="mem=32M")
    environment.update(line.split("=", 1) for line in re.findall(r"^ \* ENV: (.*)$", text, re.M))
    result = run([base], env=environment, cwd=arguments.output)
    status = re.search(r"^ \* STATUS: (-?\d+)$", text, re.M)
    wrong = check_output(text, result.stderr)
    if result.returncode != (int(status.group(1)) if status else 0):
        wrong.append(f"exit status {result.returncode}")
    if wrong:
        sys.exit(f"{arguments.source.name}: " + "; ".join(wrong) + f"\nstandard error:\n{result.stderr}")


main()
