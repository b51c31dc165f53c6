"""Photo collections of any size: embedded shard by shard into Parquet parts, here or by the workers of a cluster."""

from tripletcl.gallery.embed import Embedded, embed_photos
from tripletcl.gallery.import_parts import import_parts

__all__ = ["Embedded", "embed_photos", "import_parts"]
