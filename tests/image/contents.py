"""Says, as JSON, what is in the image. Run inside it, as root, by test_image.py; not imported by anything."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

TOOLS = ("gcc", "cc", "make", "uv")
MODULES = ("hatchling", "pytest", "jgo")
LEFT = ("/build", f"{Path.home()}/.cache", "/app/.cache", "/app/tests", "/app/.git", "/app/requirements")

environment = Path("/opt/venv/lib")
sources = [*environment.rglob("*.py"), *Path("/app").rglob("*.py")]
sys.stdout.write(
    json.dumps(
        {
            "tools": [name for name in TOOLS if shutil.which(name)],
            "modules": [name for name in MODULES if importlib.util.find_spec(name)],
            "pip": [path.name for path in environment.glob("*/site-packages/pip*")],
            "left": [path for path in LEFT if Path(path).exists()],
            "uncompiled": [str(path) for path in sources if not Path(importlib.util.cache_from_source(path)).exists()],
            "sources": len(sources),
            "service": importlib.util.find_spec("ingest").origin,  # type: ignore[union-attr]
            "writable": [str(path) for path in Path("/opt/venv").rglob("*") if path.stat().st_mode & 0o022],
        }
    )
)
