"""An index of pictures made by a run, and search in it by words, in any language, or by a picture.

    pictures -- decode -- encode_image --- length 1 --+
                                                      +-- cosine, the nearest first
    words ----- tokens -- encode_text ---- length 1 --+        photo -- decode -- encode_image

Two towers put what belongs together near each other (CLIP: Radford et al. 2021, 2103.00020), so the vectors
of pictures are made once and any words can be asked for later. A run of pictures alone that has an eye can
be asked with pictures. What is indexed already is left alone: a second call embeds what is new or changed.

encoder    what a run makes of pictures, and whether an index is its own
making     the index of a folder, a table or a built-in
words      whether a run knows the words it is asked with
searching  words or a picture, and what is nearest to them
"""

from sadari.indexing.making import Indexed, index, index_folder
from sadari.indexing.searching import Searcher, is_photo, search

__all__ = ["Indexed", "Searcher", "index", "index_folder", "is_photo", "search"]
