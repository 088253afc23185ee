"""Runs the rows of bench/peers: one process a row, peer and round, by the launcher; what a peer does is recorded, nothing is fatal."""
import hashlib
import os
import pathlib
import subprocess

import rows as row_table

# What would change an allocator's behaviour behind our back.
ALLOCATORS_OWN = ("LD_PRELOAD", "KMEM_", "MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_", "TBB_", "PYTHONMALLOC")


class Runner:
    def __init__(self, build, peers, folder, scale, seconds, cpu):
        self.work = build / "bench/peers/work"
        self.launch = build / "bench/peers/launch"
        for program in (self.work, self.launch):
            if not program.exists():
                raise SystemExit(f"{program} is not built: cmake -DKMEM_BENCH=ON, then build")
        self.peers, self.folder, self.scale, self.seconds, self.cpu = peers, folder, scale, seconds, cpu
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ALLOCATORS_OWN)}
        self.environment["LC_ALL"] = "C"
        self.expected = {}  # of programs: what they print under the first peer that ends well

    def command(self, row):
        if row.workload:
            words = [str(self.work), row.workload]
            for name, value in row.parameters:
                if name == "n" or (self.scale < row_table.SMALL and name in row.shrinks):
                    value = max(1, int(value * self.scale))
                words.append(f"{name}={value}")
            return words
        name, text = row.source
        file = self.folder / name
        if not file.exists():
            file.write_text(text)
        return [word.format(file=file) for word in row.command]

    def run(self, row, peer):
        """({figure: value}, failure or "") of one process."""
        used = self.folder / "used"
        used.unlink(missing_ok=True)
        words = [str(self.launch), str(used), str(self.seconds)]
        if self.cpu is not None and not row.threads:
            words += ["--cpu", str(self.cpu)]
        settings = list(row.settings)
        if self.peers[peer]:
            settings.append(f"LD_PRELOAD={self.peers[peer]}")
        if row.limit:
            if peer == "kmem":
                settings.append(f"KMEM_CMDLINE=mem={row.limit}")
            else:
                words += ["--data", str(row.limit)]
        result = subprocess.run(words + settings + ["--"] + self.command(row), env=self.environment, capture_output=True, check=False)
        if result.returncode != 0 or not used.exists():
            raise SystemExit(f"the launcher failed: {result.stderr.decode(errors='replace').strip()}")
        figures = dict(line.split("=", 1) for line in used.read_text().splitlines())
        end, code = figures.pop("end"), int(figures.pop("code"))
        figures = {name: float(value) for name, value in figures.items()}
        message = result.stderr.decode(errors="replace").strip().splitlines()
        message = message[-1][:200] if message else ""
        failure = ""
        if end == "time":
            failure = f"not done within {self.seconds} s"
        elif end == "signal":
            failure = f"killed by signal {code}" + (f": {message}" if message else "")
        elif code != 0:
            failure = f"exit code {code}" + (f": {message}" if message else "")
        elif row.workload:
            for line in result.stdout.decode().splitlines():
                name, _, value = line.partition("=")
                figures[name] = float(value)
            if row.figure not in figures:
                failure = f"no figure {row.figure}"
        else:
            digest = hashlib.sha256(result.stdout).hexdigest()
            if self.expected.setdefault(row.name, digest) != digest:
                failure = "other output than under the first allocator"
        return figures, failure


def loaded(launch, peers, folder, environment):
    """The peers whose library is really in a process that was started with it."""
    there = {}
    for name, library in peers.items():
        preload = [f"LD_PRELOAD={library}"] if library else []
        command = [str(launch), str(folder / "used"), "20", *preload, "--", "cat", "/proc/self/maps"]
        maps = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
        there[name] = not library or str(pathlib.Path(library).resolve()) in maps or library in maps
    return there
