"""Views that open a model up: each returns arrays, `sadari.charts` draws them."""
