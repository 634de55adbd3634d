"""Sets of generated scenes on the disk, as a user has them: Parquet with images in it, and a hub that refuses."""

import io
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from base_model.scenes import COLORS, Scene, draw_scene

KINDS = ("color", "shape", "yes/no", "negated yes/no")
IMAGE_FIELDS = {"bytes": pa.binary(), "path": pa.string()}
SCHEMA = pa.schema(
    [
        ("image", pa.struct(list(IMAGE_FIELDS.items()))),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("kind", pa.string()),
    ]
)
FEATURES = {"image": {"_type": "Image"}, **{name: {"dtype": "string", "_type": "Value"} for name in SCHEMA.names[1:]}}
"""As `datasets` writes them beside the schema, so that it knows an image when it reads the file again."""


def png(scene: Scene) -> bytes:
    """The scene's picture as a PNG file."""
    content = io.BytesIO()
    scene.image.save(content, "PNG")
    return content.getvalue()


def solid(number: int) -> bytes:
    """A small PNG file of one colour, another for each number below 65,536."""
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(content, "PNG")
    return content.getvalue()


def scene_rows(count: int, seed: int = 0, pad: int = 0) -> Iterator[dict[str, Any]]:
    """Rows about one scene each, of four kinds by turns. `pad` bytes of no meaning follow each picture."""
    rng = random.Random(seed)
    for number in range(count):
        scene, kind = draw_scene(rng), KINDS[number % len(KINDS)]
        question, answer = _asked(rng, scene, kind)
        image = {"bytes": png(scene) + rng.randbytes(pad), "path": f"{number}.png"}
        yield {"image": image, "question": question, "answer": answer, "kind": kind}


def _asked(rng: random.Random, scene: Scene, kind: str) -> tuple[str, str]:
    if kind == "color":
        return "What color is it?", scene.color
    if kind == "shape":
        return "What shape is it?", scene.shape
    present = rng.random() < 0.5
    named = scene.color if present else rng.choice([color for color in COLORS if color != scene.color])
    if kind == "yes/no":
        return f"Is there a {named} shape?", "yes" if present else "no"
    return f"Is there no {named} shape?", "no" if present else "yes"


def write_scenes(path: Path, count: int, *, group: int = 1000, seed: int = 0, pad: int = 0) -> Path:
    """Write a Parquet file of `count` rows, as `Dataset.to_parquet` writes it; `group` rows per row group."""
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, SCHEMA.with_metadata(metadata)) as writer:
        rows: list[dict[str, Any]] = []
        for row in scene_rows(count, seed, pad):
            rows.append(row)
            if len(rows) == group:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return path


@contextmanager
def refusing_hub(status: int, code: str) -> Iterator[str]:
    """A server that answers every request as the hub does where it gives nothing; for `HF_ENDPOINT`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
