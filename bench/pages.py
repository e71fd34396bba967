"""How does what a command measured get into a page that people write? Between two marks, and nowhere else."""

from pathlib import Path


def put(page: Path, begin: str, end: str, text: str) -> None:
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}{text}{end}{after}")
