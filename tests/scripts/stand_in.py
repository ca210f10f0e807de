"""What answers in these tests as ``kubectl``, ``helm``, ``make`` or ``docker``: by the rules in a file.

A launcher of that name runs it (see ``programs.py``). Each call is recorded. The first rule that matches answers; a
call that no rule knows fails, and fails the test.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any


def main(directory: Path, program: str, arguments: list[str]) -> int:
    line = " ".join(arguments)
    rules = json.loads((directory / "rules.json").read_text())
    numbers = [
        number
        for number, rule in enumerate(rules)
        if rule["program"] == program and re.fullmatch(rule["match"], line, re.DOTALL)
    ]
    with (directory / "calls").open("a") as calls:
        calls.write(json.dumps({"program": program, "line": line, "known": bool(numbers)}) + "\n")
    if not numbers:
        sys.stderr.write(f"stand-in: unknown call: {program} {line}\n")
        return 97
    return answer(rules[numbers[0]]["answers"], directory, f"used-{numbers[0]}", arguments)


def answer(answers: list[dict[str, Any]], directory: Path, rule: str, arguments: list[str]) -> int:
    """Each call of a rule gets the next answer; the last one stays."""
    used = directory / rule
    count = len(used.read_text()) if used.exists() else 0
    used.write_text("x" * (count + 1))
    chosen = answers[min(count, len(answers) - 1)]
    sys.stdout.write(chosen.get("out", ""))
    sys.stdout.flush()
    sys.stderr.write(chosen.get("err", ""))
    if "exec" in chosen:  # what stands behind `--`, as it would run in a pod
        import subprocess  # only here: the scripts wait for this program's start with each call

        command = [chosen["replace"].get(word, word) for word in arguments[arguments.index("--") + 1 :]]
        return subprocess.run([*command, *chosen["exec"]], env={**os.environ, **chosen["env"]}, check=False).returncode
    if "until_called" in chosen:  # somebody else, so often
        match, times = chosen["until_called"]
        deadline = time.monotonic() + 30
        while len(re.findall(match, (directory / "calls").read_text())) < times and time.monotonic() < deadline:
            time.sleep(0.05)
    if "hold" in chosen:
        time.sleep(60)  # until somebody presses Ctrl-C
    return int(chosen.get("code", 0))


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
    except KeyboardInterrupt:
        sys.exit(130)
