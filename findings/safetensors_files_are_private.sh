#!/usr/bin/env bash
# safetensors 0.8.0: save_file gives its files the mode 0600 whatever the umask is, also where it writes over a file that
# others could read, and puts a new file in the place of a symbolic link, so that the file the link led to stays as it was.
# A model that is saved on a share cannot be opened by a colleague, and a link `latest.safetensors` does not stay a link.
#
# Seen: modes 0o600 with umask 022 and over a file of 0o644; the link has become a file, what it led to is still empty.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" safetensors==0.8.0 numpy==2.3.5
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import os
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

os.umask(0o022)
weights = {"weight": np.zeros(3, np.float32)}
new, old, latest, target = map(Path, ("new.safetensors", "old.safetensors", "latest.safetensors", "run-7.safetensors"))
old.write_bytes(b"")
target.write_bytes(b"")
latest.symlink_to(target)
for file in (new, old, latest):
    save_file(weights, file)

modes = [oct(file.stat().st_mode & 0o777) for file in (new, old)]
print(f"safetensors {safetensors.__version__}: modes {modes}, still a link: {latest.is_symlink()}, "
      f"bytes where it led: {target.stat().st_size}")
assert modes == ["0o600", "0o600"], modes
assert not latest.is_symlink()
assert target.stat().st_size == 0
PYTHON
