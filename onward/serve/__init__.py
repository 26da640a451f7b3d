"""A stream behind a small HTTP API on this machine: what `onward serve` runs. Needs Starlette and uvicorn, an extra."""
