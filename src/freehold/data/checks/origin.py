"""Who wrote the rows: those that a model wrote are counted, by the model's name."""

from collections import Counter

from freehold.data.checks import Check, Found, Material


def run(material: Material) -> Found:
    """Rows that a model wrote."""
    models = Counter(row.synthetic for row in (*material.rows, *material.held_out) if row.synthetic)
    facts = {"synthetic.rows": sum(models.values())}
    return Found(facts=dict(facts), tables={"written by": tuple(sorted(models.items()))} if models else {})


CHECK = Check(15, run)
