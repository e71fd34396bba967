"""Which release is this? The number that pyproject.toml has, too (a test compares)."""

VERSION = "0.1.0"
