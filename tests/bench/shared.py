"""What the measurements share: the binary, the end of a process, and the table that says which goals are met."""

import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 60.0


def build_pm3():
    """The binary under test, its pages written out: those of a file just made would count as dirty memory."""
    if "PM3_BIN" in os.environ:
        path = pathlib.Path(os.environ["PM3_BIN"]).resolve()
    else:
        root = HERE.parent.parent
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=root, check=True)
        host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
        triple = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
        path = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / triple / "release" / "pm3"
    return str(path)


def end(process):
    """Ends the process and waits for it; only a supervisor that hangs needs the kill."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def voluntary(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise ValueError(f"no switches of {pid}")


def private_dirty(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise ValueError(f"no Private_Dirty of {pid}")


def found(name, use):
    path = shutil.which(name)
    if path:
        use(path)
    else:
        print(f"NOT RUN: {name} is not on $PATH")


class Table:
    """One line a figure: pm3's value, then each peer's with its ratio to pm3's, then the goal and whether it is met."""

    def __init__(self, title, names):
        self.names = names
        print(f"\n{title:<46}" + "".join(f"{name:>17}" for name in names) + "   goal")

    def row(self, what, values, reference=None, most=None, limit=None, compares=True):
        cells = ""
        own = values.get("pm3")
        for name in self.names:
            value = values.get(name)
            ratio = f" ×{value / own:.2f}" if compares and value is not None and own and name != "pm3" else ""
            cells += f"{number(value) + ratio:>17}"
        print(f"{what:<46}{cells}   {self.verdict(values, reference, most, limit)}", flush=True)

    @staticmethod
    def verdict(values, reference, most, limit):
        own = values.get("pm3")
        if own is None or reference is None and limit is None:
            return ""
        if limit is None:
            if reference not in values:
                return f"≤ {most} × {reference}: NOT RUN, it is not installed"
            limit, said = values[reference] * most, f"≤ {most} × {reference}"
        else:
            said = f"≤ {limit}"
        return f"{said}: {'met' if own <= limit else f'MISSED by {own - limit:.3g}'}"


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
