"""What a recipe may say of embedding models, and of them alone."""

from freehold.recipes.schema import Recipe, TuneSection

_MEASURED = ("min_recall_at_1", "min_mrr", "min_spearman")
_ANSWERED = ("min_token_f1", "min_exact_match")


def flaw(recipe: Recipe) -> tuple[str, str] | None:
    """What is wrong with it, and its remedy."""
    tune, gate = recipe.tune, recipe.gate
    if tune.embeds and tune.method == "scratch":
        return "[tune] objective embed is not for method scratch", "Name a base, and use lora or full"
    if not tune.embeds and (tune.pooling, tune.scale) != (TuneSection().pooling, TuneSection().scale):
        return "[tune] pooling and [tune] scale are for objective embed", "Remove them"
    for key in _ANSWERED if tune.embeds else _MEASURED:
        if getattr(gate, key) is not None:
            if tune.embeds:
                return f"[gate] {key} is for models that answer", f"Use {', '.join(_MEASURED)}"
            return f"[gate] {key} is for objective embed", "Remove it"
    return None
