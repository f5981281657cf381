"""Questions that are asked on both sides: what is measured on them measures remembering."""

from freehold.data.checks import Check, Found, Material
from freehold.data.findings import finding
from freehold.data.leaks import sought


def run(material: Material) -> Found:
    """Rows to learn from whose question is held out too, or nearly so."""
    if not material.held_out:
        return Found()
    told = sought(material.rows, material.held_out, material.similarity, exact=material.exact)
    near = [(leak.row.line, leak.said) for leak in told.leaks]
    text = "row{s} to learn from ask{v} what is held out too: the measure would be too good"
    found = (finding("leak", "kept", text, near, material.unit),) if near else ()
    return Found(found, {"leaks": len(near), **({"leaks.exact": True} if told.exact else {})})


CHECK = Check(30, run)
