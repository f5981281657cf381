"""Grammars and JSON schemas, good and bad, for tests of the checker."""

from typing import Any

ENDLESS = {
    "nested groups": 'root ::= (("a"?){50}){50}',
    "a chain of stars": "root ::= " + " ".join(["[a-z]*"] * 600),
    "a chain of options": "root ::= " + " ".join(['"a"?'] * 500) + ' "b"',
    "rules that double": "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(40)) + 'r40 ::= "a"?',
    "alternatives that double": "root ::= r0\n"
    + "".join(f'r{i} ::= r{i + 1} "x"? | r{i + 1} "y"?\n' for i in range(30))
    + 'r30 ::= "a"',
    "ambiguous recursion": 'root ::= "a" root? root? root?',
    "many alternatives": "root ::= " + " | ".join(f'"x{i}"' for i in range(6000)),
    "many alternatives of one letter": "root ::= " + "|".join(['"a"'] * 10_000),
    "a bomb behind a long word": f'root ::= "{"qx" * 300}" late\nlate ::= ' + " ".join(["[a-z]*"] * 600),
    "a bomb behind a long word of its rule": f'root ::= "{"qx" * 300}" ' + " ".join(["[a-z]*"] * 600),
    "a bomb behind a long word in groups": f'root ::= "{"qx" * 300}" (("a"?){{50}}){{50}}',
    "a bomb behind repetitions": "root ::= ([a-z] [0-9]){300} " + " ".join(["[a-z]*"] * 600),
    "a bomb behind choices": "root ::= " + '("q" | "x") ("y" | "z") ' * 100 + " ".join(["[a-z]*"] * 600),
    "a bomb behind a hundred rules": "root ::= r0\n"
    + "".join(f'r{i} ::= "step {i} " r{i + 1}\n' for i in range(100))
    + 'r100 ::= "then this " '
    + " ".join(["[a-z]*"] * 600),
    "a bomb among a thousand rules": "root ::= r0\n"
    + "".join(f'r{i} ::= "step {i} " r{i + 1} | [0-9]? "or {i}"\n' for i in range(1000))
    + 'r1000 ::= "then this " (("a"?){50}){50}',
}
"""llama.cpp compiles or applies them for longer than anybody waits."""
CHEAP = {
    "(a|a?)+": 'root ::= ("a" | "a"?)+',
    "(a*)*b": 'root ::= ("a"*)* "b"',
    "a huge repetition": 'root ::= "a"{1,2000}',
    "deep groups": "root ::= " + "(" * 60 + '"a"' + ")" * 60,
    "a long literal": 'root ::= "' + "a" * 60_000 + '"',
    "long words": "root ::= " + " | ".join(f'"{n:040d}" [a-z]* "{n:060d}"' for n in range(60)),
    "llguidance's own": "%llguidance {}\nstart: /(a|b)*a(a|b){1000}/",
}
"""They look like bombs, and llama.cpp makes light work of them."""
GOOD = {
    "two words": 'root ::= "yes" | "no"',
    "a list": 'root ::= item+\nitem ::= "- " [^\\n]+ "\\n"',
    "json": r"""root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}""",
    "a token of the model's": 'root ::= <think> !<|end|>* <[17]> "a" # it"s <none>\n',
    "brackets in quotes": 'root ::= [<>]+ "<x>"',
    "another token of the model's": '%llguidance {}\nstart: "a" <|think|>',
}
WRONG = {
    "left recursion": ('root ::= root "a" | "a"', "left recursion"),
    "left recursion through another": ('root ::= b "a"\nb ::= root | "x"', "left recursion"),
    "no rule": ("hello", "expecting ::="),
    "a rule that is not there": ("root ::= x", "Undefined rule identifier 'x'"),
    "an open quote": ('root ::= "a', "unexpected end"),
    "too much repeated": ('root ::= (("a" | "b" | "c"){2000}){2000}', "repetition"),
    "llguidance's own": ("%llguidance {}\nstart: x", 'unknown name: "x"'),
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "anything": {"type": "object"},
    "an object": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 200, "pattern": "^[A-Z][a-z]+$"},
            "when": {"type": "string", "format": "date-time"},
            "n": {"type": "integer", "minimum": 0, "maximum": 9},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 5},
            "more": {"type": ["string", "null"], "description": "what else there is", "default": None},
        },
        "required": ["city", "n"],
        "additionalProperties": False,
    },
    "one that holds itself": {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/tree"}},
        "$defs": {
            "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "n": {"type": "number"}}}
        },
    },
    "either": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"x": {"const": 1}}}]},
}
WRONG_SCHEMAS: dict[str, tuple[dict[str, Any], str]] = {
    "a reference to itself": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        "the JSON schema cannot be used: no text matches it",
    ),
    "references in a ring": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}, {}]}}},
        "the JSON schema cannot be used",
    ),
    "an unknown type": ({"type": "nonsense"}, "JSON schema error at #: unrecognized type nonsense"),
    "a keyword that cannot be held": ({"not": {"type": "string"}}, 'Unimplemented keys: \\["not"\\]'),
    "a pattern that looks ahead": ({"type": "string", "pattern": "^(?=a)b$"}, "look-around"),
    "too many combinations": (
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(4)]} for i in range(12)]},
        "schema too large",
    ),
    "multiples that meet late": (
        {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (997, 991, 983, 977)]},
        "too many expressions",
    ),
}
