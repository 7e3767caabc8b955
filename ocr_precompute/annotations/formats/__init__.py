"""The annotation formats: a module here is a format, by its name.

A format module has

- `ALIASES`: other names that users know it by;
- `DIALECTS`: what may follow its name and a colon in `--format`, if anything;
- `recognises(path) -> bool`: whether the file or folder at path looks like this format;
- `read(path, images, dialect, rules) -> Found`: its images in any order, with raw points.

Points are checked after reading, once for all formats; a format reports only what it cannot parse,
and need look at the limits in `rules` only where parsing more would take long.
"""
