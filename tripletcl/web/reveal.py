"""A file shown in its folder, in the file manager of the machine that serves the page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tripletcl.errors import UserError

SECONDS = 5


def reveal(path: Path) -> None:
    """Open the folder of a file, with the file selected where the file manager can.

    Raises:
        UserError: the file is missing, or there is no file manager.
    """
    path = path.resolve()
    if not path.exists():
        raise UserError(f"{path} does not exist any more")
    for command in _commands(path):
        if shutil.which(command[0]) and _runs(command):
            return
    raise UserError(f"no file manager answers on this machine; the photo is in {path.parent}")


def _commands(path: Path) -> list[list[str]]:
    if sys.platform == "darwin":
        return [["open", "-R", str(path)]]
    bus = ["--session", "--dest=org.freedesktop.FileManager1", "--type=method_call", "--print-reply"]
    call = ["/org/freedesktop/FileManager1", "org.freedesktop.FileManager1.ShowItems"]
    items = [f"array:string:{path.as_uri().replace(',', '%2C')}", "string:"]
    return [["dbus-send", *bus, *call, *items], ["xdg-open", str(path.parent)]]


def _runs(command: list[str]) -> bool:
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
