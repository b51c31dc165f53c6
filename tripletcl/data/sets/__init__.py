"""Object-recognition sets: folders of one's own, and published sets in their published form."""

from tripletcl.data.sets.catalogue import OBJECT_SETS, ObjectSource, read_object_set
from tripletcl.data.sets.object_set import ObjectSet

__all__ = ["OBJECT_SETS", "ObjectSet", "ObjectSource", "read_object_set"]
