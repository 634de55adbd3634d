"""Images of the store in the form that is sent to an endpoint."""

from policies.teacher.image_parts import ImageFile
from store import Store
from store.questions import image_bytes, image_size


def image_file(store: Store, digest: str) -> ImageFile:
    """The stored file's bytes, format and size; raises StoreError for an image that is not in the store."""
    content, kind = image_bytes(store, digest)
    return ImageFile(content, kind, *image_size(store, digest))
