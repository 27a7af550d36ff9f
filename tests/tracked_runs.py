"""Runs that W&B has kept, read back by its own tool, and a server that falls silent."""

import gzip
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd

BOOKKEEPING = ("_runtime", "_step", "_timestamp", "_wandb.runtime")


@dataclass(frozen=True)
class KeptRun:
    """Run that was kept offline.

    Attributes:
        folder: its own.
        records: all that was logged, in order: type, and under the type's name what it holds.
    """

    folder: Path
    records: list[dict[str, Any]]

    def all_of(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    def run(self) -> dict[str, Any]:
        """Return name, group, config and the like."""
        return self.all_of("run")[0]

    def exit_code(self) -> int | None:
        """Return the exit code as which it was ended; None where it was not."""
        ends = self.all_of("exit")
        assert len(ends) <= 1
        return int(ends[0].get("exit_code", 0)) if ends else None

    def points(self, over: str) -> list[dict[str, float]]:
        """Return what was logged over a value, in order."""
        items = (record["item"] for record in self.all_of("history"))
        return [
            {key: value for key, value in item.items() if key not in BOOKKEEPING}
            for item in items
            if over in item
        ]

    def summary(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for record in self.all_of("summary"):
            merged |= record.get("update", {})
        return merged

    def table(self, name: str) -> pd.DataFrame:
        """Return a table that was logged."""
        path = self.folder / "files" / self.summary()[f"{name}.path"]
        content = json.loads(path.read_text(encoding="utf-8"))
        return pd.DataFrame(content["data"], columns=content["columns"], dtype=object)

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Return artifacts that are no tables, by name."""
        return {one["name"]: one for one in self.all_of("artifact") if one["type"] != "run_table"}


class FallingSilent(BaseHTTPRequestHandler):
    """Server that takes a run, and says nothing from then on."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        if b"mutation UpsertBucket" not in content or self.ended.is_set():
            self.ended.wait(60)
            self.close_connection = True
            return
        project = {"id": "UHI=", "name": "pixelrobust", "entity": {"id": "RW4=", "name": "me"}}
        bucket = {"id": "QnU=", "name": "r", "displayName": "r", "project": project}
        answer = json.dumps({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def kept_runs(results: Path) -> list[KeptRun]:
    """Read the runs below a results folder, in the order of their names in W&B."""
    runs = []
    for log in (results / "wandb").glob("offline-run-*/run-*.wandb"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append(KeptRun(log.parent, [json.loads(line) for line in said.splitlines()]))
    return sorted(runs, key=lambda run: str(run.run().get("display_name")))
