"""What the scripts that make embedded data files share."""

import hashlib
import sys
from pathlib import Path


def write(path: Path, data: bytes, sha256: str, module: str) -> int:
    """Put `data` in place whole; the exit code is 1 if its digest is not `sha256`, which `module` expects."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    digest = hashlib.sha256(data).hexdigest()
    print(f"{path}: {len(data):,} bytes, SHA-256 {digest}")
    if digest == sha256:
        return 0
    print(
        f"this is not the digest in {module}, {sha256}: the numbers are right (they were decoded and compared), so "
        "either compress with the xz library of the original or put the new digest there",
        file=sys.stderr,
    )
    return 1
