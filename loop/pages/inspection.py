"""`inspect --html`: what the model will see, as one HTML file that needs nothing else."""

import os
from pathlib import Path

from loop.evaluation.pass_rate import PassRate
from loop.pages.escape import plain
from loop.pages.render import asset, render
from loop.pages.report import page_policy
from loop.pages.thumbnails import thumbnail_url
from loop.questions.inspection import Inspection
from loop.reading.export import require_writable
from store import Store
from store.database import now


def write_inspection(
    store: Store, file: Path, name: str, model: str, found: Inspection, pass_rate: PassRate | None
) -> int:
    """Write the page with the images of the store; returns its bytes."""
    require_writable(file, "--html")
    style = asset("style.css")
    examples = [
        {
            "example": each,
            "answers": list(dict.fromkeys(each.answers)),
            "pictures": [thumbnail_url(store, image) for image in each.images],
        }
        for each in found.examples
    ]
    room = "no limit is known" if found.room is None else f"{found.room:,} tokens for prompt, images and max_tokens"
    page = render(
        "inspection.html",
        name=plain(name),
        model=model,
        style=style,
        policy=page_policy(style, ()),
        found=found,
        examples=examples,
        pass_rate=pass_rate,
        says=f"{room}; {found.unusable:,} questions are too long",
        written=f"{now()[:16].replace('T', ' ')} UTC",
    )
    written = page.encode()
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(written)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return len(written)
