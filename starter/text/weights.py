"""The share of training rows that each skill gets, in one table; a skill that is not listed gets DEFAULT."""

DEFAULT = 3.0

WEIGHTS = {
    "arithmetic": 13.0,
    "classify": 7.0,
    "decline": 4.0,
    "extract": 11.0,
    "forms": 16.0,
    "freehold": 6.0,
    "knowledge": 11.0,
    "persona": 9.0,
    "reading": 16.0,
    "rewrite": 10.0,
    "smalltalk": 8.0,
    "unknown": 4.0,
}
