"""From pixels to polygons without torch: what a model needs where it is used."""
