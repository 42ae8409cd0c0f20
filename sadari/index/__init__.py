"""Vectors on disk that can be searched: pictures by words, by pictures, or what lies twice or apart.

store      the index: a folder, or an address in object storage, with an id, a vector and more for each item
address    where an index lies, and the options of object storage
items      what may be put in one
lance      LanceDB, and its errors in words
likeness   duplicates and outliers among vectors
"""

from sadari.index.store import Hit, Index

__all__ = ["Hit", "Index"]
