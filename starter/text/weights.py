"""The share of training rows that each skill gets, in one table; a skill that is not listed gets DEFAULT."""

DEFAULT = 3.0

WEIGHTS = {
    "arithmetic": 13.0,
    "classify": 9.0,
    "decline": 5.0,
    "extract": 11.0,
    "forms": 11.0,
    "freehold": 6.0,
    "knowledge": 9.0,
    "persona": 9.0,
    "reading": 18.0,
    "rewrite": 9.0,
    "smalltalk": 4.0,
    "unknown": 4.0,
}
